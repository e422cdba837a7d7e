"""The leaderboard's page: the verdict first, quality against calls for each solver, then every figure with its settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sigmatune import __version__
from sigmatune.report.charts import MARKS, short
from sigmatune.report.html import p, table
from sigmatune.report.style import STYLE
from sigmatune.report.svg import DEFAULT, OTHER, PLAN, chart, end_labels, log_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
BARS = (
    "Bars are 95% intervals over seeds. Entries ran on the same noises, so the data separate two of them more finely "
    "than their bars suggest; the verdict above uses this."
)


def page(leaderboard: Mapping[str, Any]) -> str:
    """Builds the page from what :func:`sigmatune.evaluation.leaderboard.to_dict` returns."""
    rows: Sequence[Row] = leaderboard["rows"]
    first = [*rows[0]["figures"], *_errors(rows)[:1]]
    title = f"{leaderboard['source']}: which schedule for few calls"
    verdicts = "".join(p(sentence, "see") for sentence in leaderboard["verdict"])
    charts = "".join(_chart(rows, solver, i) for i, solver in enumerate(dict.fromkeys(row["solver"] for row in rows)))
    what = f"{leaderboard['n']:,} images per entry, from the same noises (seed {leaderboard['seed']})"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="sigmatune/leaderboard">\n<title>{escape(title)} - SigmaTune</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body><main>\n<h1>{escape(title)}</h1>\n"
        f'<p class="lead">{escape(what)}, ranked by {escape(_title(first[0]))}.{escape(_second(rows))}</p>\n'
        f"<section>{verdicts}</section>\n"
        f"<section><h2>Quality against calls</h2>{charts}"
        f"{p(BARS, 'note')}"
        f"</section>\n<section><h2>All figures</h2>{_table(rows)}</section>\n"
        f"<section><h2>What the figures are</h2>{_settings(first)}</section>\n"
        f"<footer>Written by SigmaTune {__version__}. This page is one file and loads nothing.</footer>\n"
        "</main></body>\n</html>\n"
    )


def _errors(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """The paired errors of the rows that have one; older leaderboards have none."""
    return [row["paired"] for row in rows if row.get("paired")]


def _second(rows: Sequence[Row]) -> str:
    """What the second number is."""
    if not (errors := _errors(rows)):
        return ""
    settings = errors[0]["settings"]
    first, stop = settings["seeds"]["indices"]
    return (
        f" Beside it the paired error of {settings['n']} noises ({first} to {stop - 1}) to the converged solution, "
        f"{settings['space']}, lower is better: the first asks whether the images are like the data, the second whether "
        "they are those that the model draws in many steps."
    )


def _title(figure: Mapping[str, Any]) -> str:
    return f"{figure['name']} in {figure['settings']['space']} ({figure['better']} is better)"


def _chart(rows: Sequence[Row], solver: str, number: int) -> str:
    """One chart per solver: the best curve strong, that of the front blue, the others grey with marks."""
    curves: dict[str, list[Row]] = {}
    for row in rows:
        if row["solver"] == solver:
            curves.setdefault(row["name"], []).append(row)
    for points in curves.values():
        points.sort(key=lambda row: row["calls"])
    sign = 1 if rows[0]["figures"][0]["better"] == "lower" else -1
    best = min(curves, key=lambda name: sign * curves[name][-1]["figures"][0]["value"])
    positive = all(row["figures"][0]["low"] > 0 for row in rows)

    def draw(figure: Figure, narrow: bool) -> None:  # noqa: FBT001 (the argument of a chart's drawing)
        axis = figure.add_subplot()
        ends = []
        for i, (name, points) in enumerate(curves.items()):
            colour = PLAN if name == best else DEFAULT if any(row["pareto"] for row in points) else OTHER
            x = [row["calls"] for row in points]
            y = [row["figures"][0]["value"] for row in points]
            bars = [[row["figures"][0][k] for row in points] for k in ("low", "high")]
            spans = [[v - b for v, b in zip(y, bars[0], strict=True)], [b - v for v, b in zip(y, bars[1], strict=True)]]
            width = 2.4 if name == best else 1.2
            axis.errorbar(x, y, spans, color=colour, linewidth=width, marker=MARKS[i % len(MARKS)], markersize=5)
            ends.append(((x[-1], y[-1]), short(name), colour))
        axis.set(
            xlabel="network calls per image",
            ylabel=f"{rows[0]['figures'][0]['name']}, {rows[0]['figures'][0]['settings']['space']}",
        )
        axis.set_xscale("log")
        if positive:
            axis.set_yscale("log")
            log_ticks(axis, *axis.get_ylim())
        calls = sorted({row["calls"] for points in curves.values() for row in points})
        axis.set_xticks(calls, [str(c) for c in calls])
        axis.set_xticks([], minor=True)
        axis.grid(axis="y")
        axis.margins(x=0.03)
        end_labels(figure, axis, ends, narrow=narrow)

    label = f"{_title(rows[0]['figures'][0])} against network calls with {solver}, for {len(curves)} schedules."
    return f'<h3>{escape(solver)}</h3><div class="chart">{chart(draw, (400, 420), f"solver{number}", label)}</div>'


def _table(rows: Sequence[Row]) -> str:
    named, errors = [f"{f['name']} {f['settings']['space']}" for f in rows[0]["figures"]], _errors(rows)
    if errors:
        named.insert(1, f"paired error, {errors[0]['settings']['space']}")
    head = ["calls", "schedule", "solver", *named]
    lines = []
    for row in rows:
        figures = [_cell(figure) for figure in row["figures"]]
        if errors:
            figures.insert(1, _cell(row["paired"]) if row["paired"] else "-")
        star = " (front)" if row["pareto"] else ""
        cells = [str(row["calls"]), escape(short(row["name"])) + star, escape(row["solver"]), *figures]
        lines.append(("own" if row["pareto"] else "", cells))
    note = "Marked rows are the Pareto front: no other entry is better with as few calls. * is the model's own default."
    whys = dict.fromkeys(row["unpaired"] for row in rows if row.get("unpaired"))
    dashes = "".join(p(f"-: no paired error; {why.rstrip('.')}.", "note") for why in whys)
    return table(head, lines, "figures") + p(note, "note") + dashes


def _cell(figure: Mapping[str, Any]) -> str:
    span = f"{_number(figure['low'])} to {_number(figure['high'])}"
    return f'{_number(figure["value"])} <span class="low">{span}</span>'


def _settings(figures: Sequence[Mapping[str, Any]]) -> str:
    """The settings of each figure, once."""
    blocks = [
        f"<h3>{escape(_title(figure))}</h3><pre>{escape(json.dumps(figure['settings'], indent=1))}</pre>"
        for figure in figures
    ]
    return "".join(blocks)


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
