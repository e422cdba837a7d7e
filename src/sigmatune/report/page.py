"""The page: the verdict first, default and tuned large, then the sections; HTML that loads nothing."""

from __future__ import annotations

from html import escape
from pathlib import Path

from sigmatune import __version__
from sigmatune.analysis.result import Stepwise
from sigmatune.report import sections, words
from sigmatune.report import stepwise_section as stepwise
from sigmatune.report.comparison import POLICY, SCRIPT, comparison
from sigmatune.report.facts import ReportFacts, View
from sigmatune.report.html import budget, p
from sigmatune.report.style import STYLE
from sigmatune.report.usage import IN_CODE, PlanUse
from sigmatune.tuning.both_numbers import UNSURE

SECTIONS = (
    ("compare", "Default and tuned"),
    ("curves", "Error against calls"),
    ("samples", "Images from the same noises"),
    ("levels", "Where the calls go"),
    ("residuals", "Where the error sits"),
    ("evidence", "The evidence"),
    ("cost", "The cost"),
    ("use", "Use it"),
)
FREQUENCIES = ("frequencies", "Which frequencies change when")
"""The section after the residuals, if there is an analysis."""


def _name(source: str) -> str:
    """The last part of a model's source; of ``new.run/model``, as a training writes it, both."""
    parts = Path(source).parts
    return "/".join(parts[-2:]) if parts[-1:] == ("model",) else Path(source).name


def page(measured: ReportFacts, use: PlanUse = IN_CODE, analysis: Stepwise | None = None) -> str:
    """Builds the whole page.

    Args:
        measured: The result of :func:`sigmatune.report.measurements.measure`.
        use: What the page's code refers to.
        analysis: The result of :func:`sigmatune.analysis.stepwise.analyze`; no section without it.
    """
    several = len({budget(view) for view in measured.views}) > 1
    name = _name(use.source) if use.source else "model"
    title = f"{name}: noise levels for few calls" if several else f"{name} in {budget(measured.views[0])}"
    shown = [*SECTIONS[:5], *([FREQUENCIES] if analysis is not None else []), *SECTIONS[5:]]
    links = "".join(f'<a href="#{key}">{escape(text)}</a>' for key, text in shown)
    bodies = {
        "compare": comparison(measured),
        "curves": sections.curves(measured),
        "samples": sections.samples(measured),
        "levels": sections.levels(measured),
        "residuals": sections.residuals(measured),
        "frequencies": stepwise.frequencies(analysis) if analysis is not None else "",
        "evidence": sections.evidence(measured),
        "cost": sections.cost(measured),
        "use": sections.use(measured, use),
    }
    body = "".join(f'<section id="{key}"><h2>{escape(text)}</h2>{bodies[key]}</section>' for key, text in shown)
    shape = " x ".join(str(n) for n in measured.shape)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="sigmatune/report">\n<title>{escape(title)} - SigmaTune</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body><main>\n<h1>{escape(title)}</h1>\n"
        f'<p class="lead">The result for this model ({shape}), and how far to trust it.</p>\n'
        f'<div class="verdicts">{"".join(map(_verdict, measured.views))}</div>\n<nav aria-label="Sections">{links}</nav>\n'
        f"{body}\n<footer>Written by SigmaTune {__version__}. This page is one file and loads nothing.</footer>\n"
        f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _verdict(view: View) -> str:
    large, sentence = words.headline(view)
    badge = f'<span class="badge{" gain" * view.gain}">{"gain" if view.gain else "no gain"}</span>'
    scale = _scale(view) if view.evidence["reference"]["converged"] else ""
    return (
        f'<div class="verdict"><div class="what"><span>{escape(budget(view))}</span>{badge}</div>'
        f'<p class="big">{escape(large).replace(UNSURE, f"<small>{UNSURE}</small>")}</p>{scale}{p(sentence)}</div>'
    )


def _scale(view: View) -> str:
    """Both ratios on lines on which 1 is the default, that of the error with its interval."""
    both = view.both
    ends = [both.low, both.high, *([] if both.sets is None else [both.sets])]
    low, high = min(0.6, min(ends) * 0.95), max(1.1, max(ends) * 1.05)

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.1f}%"

    def track(name: str, value: float, span: str = "") -> str:
        dot = f'<div class="dot" style="left:{place(value)}"></div>'
        return f'<div class="track"><span class="name">{name}</span><div class="line"></div>{span}{dot}</div>'

    width = f"{100 * (both.high - both.low) / (high - low):.1f}%"
    tracks = [track("error", both.error, f'<div class="span" style="left:{place(both.low)};width:{width}"></div>')]
    label = f"error ratio {both.error:.2f}, interval {both.low:.2f} to {both.high:.2f}"
    if both.sets is not None:
        tracks.append(track("set", both.sets))
        label += f"; distance of sets {both.sets:.2f}"
    one = f'<div class="one" style="left:{place(1)}"></div><span class="at" style="left:{place(1)}">1 = default</span>'
    return f'<div class="scale" role="img" aria-label="{label}; 1 is the default">{"".join(tracks)}{one}</div>'
