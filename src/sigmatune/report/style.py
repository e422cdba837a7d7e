"""The page's style: light and dark, desktop and phone; no fonts, scripts or images from elsewhere.

Colours: the tuned plan is orange and its baseline blue (from the palette of Okabe and Ito, safe for colour-blind
    readers), everything else grey.
"""

STYLE = """
:root { color-scheme: light dark;
  --bg: #ffffff; --card: #f6f7f9; --fg: #16191d; --muted: #59626d; --grid: #d9dee4; --other: #98a2ad; --plan: #c2500a;
  --default: #0068a8; --plan-soft: #fdeee3; --good: #0a6b4a; --good-soft: #e2f4ec; --calm-soft: #e8ecf1; } @media
  (prefers-color-scheme: dark) { :root { --bg: #14171b; --card: #1d2126; --fg: #e9edf1; --muted: #a0aab5; --grid:
  #353c45; --other: #717c88; --plan: #ff9a4d; --default: #62b6f0; --plan-soft: #33261b; --good: #64d1a5; --good-soft:
  #17332a; --calm-soft: #2a3038; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--bg); color: var(--fg); font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 2.2rem 1.25rem 4rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.2rem); line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.4rem; margin: 3.2rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--grid); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
p { margin: .5rem 0; max-width: 46rem; }
.lead, .note, figcaption { color: var(--muted); }
.note, figcaption { font-size: .88rem; }
.see { font-size: 1.06rem; font-weight: 600; }
nav { font-size: .9rem; display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .9rem 0 1.6rem; }
a { color: var(--default); }
nav a { text-decoration: none; padding: .2rem 0; }
nav a:hover { text-decoration: underline; }
.verdicts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
.verdict { background: var(--card); border: 1px solid var(--grid); border-radius: 12px; padding: 1.1rem 1.25rem; }
.verdict .what { display: flex; justify-content: space-between; align-items: center; gap: 1rem; color: var(--muted); }
.badge { font-size: .82rem; font-weight: 600; padding: .1rem .65rem; border-radius: 99px; background: var(--calm-soft);
  color: var(--fg); white-space: nowrap; } .badge.gain { background: var(--good-soft); color: var(--good); } .big {
font-size: 1.7rem; font-weight: 700; line-height: 1.15; margin: .5rem 0 .1rem; letter-spacing: -.01em; } .big small {
font-size: 1.1rem; font-weight: 600; letter-spacing: 0; white-space: nowrap; }
.scale { position: relative; margin: .7rem 0 .3rem 2.6rem;
  padding-bottom: 1.3rem; font-size: .78rem; color: var(--muted); }
.scale .track { position: relative; height: 1.3rem; }
.scale .name { position: absolute; left: -2.6rem; top: .02rem; line-height: 1.2; }
.scale .line { position: absolute; left: 0; right: 0; top: .55rem; height: 2px; background: var(--grid); }
.scale .one { position: absolute; top: 0; bottom: 1.3rem; width: 2px; background: var(--muted); }
.scale .span { position: absolute; top: .4rem; height: .4rem; min-width: 4px; border-radius: 3px; background: var(--plan);
  opacity: .45; }
.scale .dot { position: absolute; top: .25rem; width: .7rem; height: .7rem; margin-left: -.35rem; border-radius: 50%;
  background: var(--plan); }
.scale .at { position: absolute; bottom: 0; transform: translateX(-50%); white-space: nowrap; }
.chart { margin: .9rem 0; }
.chart svg { width: 100%; height: auto; display: block; }
.chart svg text { font-family: inherit; }
.chart svg.narrow { display: none; }
.table { overflow-x: auto; margin: .8rem 0;
  background: linear-gradient(to right, var(--bg) 50%, transparent) 0 0 / 2rem 100% no-repeat local,
    linear-gradient(to left, var(--bg) 50%, transparent) 100% 0 / 2rem 100% no-repeat local,
    linear-gradient(to right, var(--other), transparent) 0 0 / .6rem 100% no-repeat scroll,
    linear-gradient(to left, var(--other), transparent) 100% 0 / .6rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .38rem .8rem; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th { color: var(--muted); font-weight: 600; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: .5rem; white-space: normal; }
td .low { color: var(--muted); font-size: .82rem; }
.figures td .low, .pairs td .low, .all td .low { display: block; }
.pairs th, .pairs td { padding: .38rem .55rem; }
.figures td:nth-child(2), .pairs td:nth-child(2) { white-space: normal; }
.settings td { white-space: normal; } .stages td:first-child { white-space: nowrap; }
tr.own td { background: var(--plan-soft); }
.budget { margin: 1.5rem 0; }
.strip { display: grid; grid-template-columns: 10.5rem 1fr; gap: .9rem; align-items: center; margin: .35rem 0; }
.reference { position: sticky; top: 0; z-index: 1; background: var(--bg); padding: .5rem 0;
  border-bottom: 1px solid var(--grid); }
.strip .who { line-height: 1.3; font-size: .9rem; overflow-wrap: anywhere; }
.strip .who b { display: block; }
.strip .who span { color: var(--muted); }
.plan-colour { color: var(--plan); } .default-colour { color: var(--default); }
.images { display: grid; grid-template-columns: repeat(8, 1fr); gap: 3px; }
.images img, .maps img { width: 100%; display: block; border-radius: 3px; }
.pixelated img, .large.pixelated img, .maps img { image-rendering: pixelated; }
.compare { margin: 1rem 0 2rem; --at: 50%; }
.paper { display: none; }
.compare .who { display: flex; justify-content: space-between; }
.compare input { width: 100%; margin: .2rem 0 .5rem; accent-color: var(--plan); height: 2rem; cursor: ew-resize; }
.large { display: grid; grid-template-columns: repeat(4, 1fr); gap: .6rem; }
.large img { width: 100%; display: block; border-radius: 4px; }
.both { position: relative; }
.both .over { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at)); }
.both::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 0 1px rgba(0, 0, 0, .45); }
.maps { display: grid; grid-template-columns: repeat(2, minmax(0, 18rem)); gap: 1.1rem; margin: .9rem 0; }
.maps figure { margin: 0; }
.maps img { border: 1px solid var(--grid); }
.maps b { display: block; margin-bottom: .3rem; font-size: .92rem; }
.bar { height: .7rem; border-radius: 3px; margin: .5rem 0 .1rem; border: 1px solid var(--grid); }
.ends { display: flex; justify-content: space-between; font-size: .8rem; color: var(--muted); }
pre { background: var(--card); border: 1px solid var(--grid); border-radius: 8px; padding: .85rem 1rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; font: .86rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  margin: .6rem 0; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .92em; }
pre code { font-size: 1em; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--default); padding: .2rem 0; }
footer { margin-top: 3rem; color: var(--muted); font-size: .85rem; }
@media (max-width: 640px) {
  main { padding: 1.4rem 1.1rem 3rem; }
  .chart svg.wide { display: none; } .chart svg.narrow { display: block; }
  .strip { grid-template-columns: 1fr; gap: .25rem; margin: .7rem 0; }
  .strip .who b { display: inline; } .strip .who b::after { content: " "; }
  .images { grid-template-columns: repeat(4, 1fr); } .images img:nth-child(n+5) { display: none; }
  .maps { gap: .6rem; } .maps b { font-size: .82rem; }
  th, td { padding: .38rem .4rem; } td .low { display: block; }
  .large { grid-template-columns: repeat(2, 1fr); }
  .all td .low, .stages :is(th, td):is(:nth-child(3), :nth-child(4), :nth-child(5)) { display: none; }
  .stages { font-size: .75rem; } .stages :is(th, td) { padding: .38rem .25rem; }
  .all, .figures, .settings { font-size: .75rem; } .figures td .low { display: none; }
  .all :is(th, td), .figures :is(th, td), .settings :is(th, td) { padding: .38rem .2rem; overflow-wrap: anywhere; }
  .all td:first-child { overflow-wrap: anywhere; min-width: 5rem; }
  .figures :is(th, td) { padding: .38rem .1rem; }
  .figures th, .settings :is(th, td:first-child) { overflow-wrap: normal; font-size: .68rem; }
  .pairs { font-size: .84rem; } .pairs th, .pairs td { padding: .38rem .3rem; }
}
@media print {
  :root { --bg: #fff; --card: #fff; --fg: #000; --muted: #444; --grid: #ccc; --other: #888; --plan: #c2500a;
    --default: #0068a8; --plan-soft: #fdeee3; --good: #0a6b4a; --good-soft: #e2f4ec; --calm-soft: #e8ecf1; }
  nav, .compare input, .both::after { display: none; }
  .both .over { position: static; clip-path: none; margin-top: 3px; }
  .paper { display: block; } .compare { max-width: 34rem; }
  .reference { position: static; }
  .scale *, .badge, .bar, tr.own td { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2, h3, .see, summary { break-after: avoid; } tr, pre, .strip { break-inside: avoid; }
  table { font-size: .8rem; } th, td { padding: .3rem .45rem; } .table { overflow: visible; background: none; }
  td .low { font-size: .9em; } .all { font-size: .7rem; } .all :is(th, td) { padding: .25rem .3rem; }
  section { break-inside: auto; } .compare, .budget, .chart, .verdict, figure { break-inside: avoid; }
  details > *, details::details-content { display: block; content-visibility: visible; }
}
"""
