"""The charts of a leaderboard: curves of quality against calls, or for one number of calls its entries in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sigmatune.report.charts import MARKS, short
from sigmatune.report.svg import DEFAULT, OTHER, PLAN, chart, end_labels, log_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

MOST = 15
"""Entries in order that fit a screen; the table has all."""


def charts(rows: Sequence[Row]) -> tuple[str, str]:
    """The title of the section, and its charts.

    Args:
        rows: The rows of a leaderboard, in order.
    """
    calls = sorted({row["calls"] for row in rows})
    if len(calls) > 1:
        solvers = dict.fromkeys(row["solver"] for row in rows)
        return "Quality against calls", "".join(_curves(rows, solver, i) for i, solver in enumerate(solvers))
    return f"Quality at {calls[0]} calls", _entries(rows)


def _entries(rows: Sequence[Row]) -> str:
    """The best entries of one number of calls, one below the other, with their intervals."""
    best, figures = rows[:MOST], [row["figures"][0] for row in rows[:MOST]]
    names = [f"{plain(row['name'])}, {row['solver']}" for row in best]

    def draw(figure: Figure, narrow: bool) -> None:  # noqa: FBT001 (the argument of a chart's drawing)
        axis = figure.add_subplot()
        for place, (row, one) in enumerate(zip(best, figures, strict=True)):
            span = [[one["value"] - one["low"]], [one["high"] - one["value"]]]
            colour = PLAN if place == 0 else DEFAULT if row["pareto"] else OTHER
            axis.errorbar([one["value"]], [place], xerr=span, color=colour, marker="o", markersize=6, linewidth=1.6)
            size = 10.5 if narrow else 12
            if narrow:  # a name beside the axis would leave no room for the values
                axis.annotate(
                    names[place], (0, place), (0, 9), ("axes fraction", "data"), "offset points", fontsize=size
                )
        axis.set_yticks(range(len(best)), [""] * len(best) if narrow else names)
        axis.set_ylim(len(best) - 0.4, -0.8)
        axis.set(xlabel=title(figures[0]))
        axis.spines["left"].set_visible(False)
        axis.grid(axis="x")

    rest = f" of {len(rows)}" if len(rows) > len(best) else ""
    label = f"{title(figures[0])}: the best {len(best)}{rest} entries in order, {names[0]} first."
    heights = (60 + 26 * len(best), 60 + 40 * len(best))
    more = f'<p class="note">The best {len(best)} of {len(rows)}; the table has all.</p>' if rest else ""
    return chart(draw, heights, "entries", label) + more


def _curves(rows: Sequence[Row], solver: str, number: int) -> str:
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
            ends.append(((x[-1], y[-1]), plain(name), colour))
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

    label = f"{title(rows[0]['figures'][0])} against network calls with {solver}, for {len(curves)} schedules."
    return f'<h3>{escape(solver)}</h3><div class="chart">{chart(draw, (400, 420), f"solver{number}", label)}</div>'


def title(figure: Mapping[str, Any]) -> str:
    """A figure's name and space, and which way is better."""
    return f"{figure['name']} in {figure['settings']['space']} ({figure['better']} is better)"


def plain(name: str) -> str:
    """A schedule's name in brief; of the model's own default in words, because marks mean something else in tables."""
    return short(name).replace("*", " (the model's own)")
