"""The report's charts: error against calls, where the calls go, and error by frequency."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sigmatune.noise import Array
from sigmatune.report.facts import ErrorCurve, Group, View
from sigmatune.report.svg import DEFAULT, FG, GRID, MUTED, OTHER, PLAN, chart, end_labels, log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = "ovsD^<>pPX*h"
"""One marker per static default, so that they differ without colour."""


def short(label: str) -> str:
    """A default's label in brief: no names of options, no options that are 0, four digits: ``log-uniform 0.02917 14.61``."""
    named = re.sub(r" \w+=0(?= |$)", "", label).replace(" (the model's own)", "*")
    return re.sub(r"\b\d+\.\d{3,}", lambda number: f"{float(number[0]):.4g}", re.sub(r"\b\w+=", "", named))


def error_chart(group: Group, name: str) -> str:
    """Draws error against calls, on log axes, with the bootstrap intervals."""

    def draw(figure: Figure, narrow: bool) -> None:  # noqa: FBT001 (the argument of a chart's drawing)
        axis = figure.add_subplot()
        curves = [(curve, *_look(group, curve)) for curve in group.defaults]
        if group.gain:
            curves.append((group.better, "tuned", PLAN, 2.6))
        for i, (curve, _, colour, width) in enumerate(curves):
            _curve(axis, curve, colour, width, MARKS[i % len(MARKS)])
        axis.set(xscale="log", yscale="log", xlabel="network calls per image", ylabel="typical error")
        calls = sorted({point.calls for curve, *_ in curves for point in curve.points.values()})
        axis.set_xticks(calls, [str(c) for c in calls])
        axis.set_xticks([], minor=True)
        axis.grid(axis="y")
        axis.margins(x=0.03)
        log_ticks(axis, *axis.get_ylim())
        ends = [(list(c.points.values())[-1], text, colour) for c, text, colour, _ in curves]
        end_labels(figure, axis, [((p.calls, p.mean), text, colour) for p, text, colour in ends], narrow=narrow)

    label = f"Error against network calls, {group.solver}: {len(group.defaults)} static defaults and the tuned plan."
    return chart(draw, (400, 400), name, label)


def _look(group: Group, curve: ErrorCurve) -> tuple[str, str, float]:
    rival = curve.name in group.names
    return short(curve.name), DEFAULT if rival else OTHER, 2.0 if rival else 1.1


def _curve(axis: Axes, curve: ErrorCurve, colour: str, width: float, mark: str) -> None:
    points = list(curve.points.values())
    x, y = [p.calls for p in points], [p.mean for p in points]
    front = {PLAN: 4, DEFAULT: 3}.get(colour, 2)
    bars = [[p.mean - p.low for p in points], [p.high - p.mean for p in points]]
    axis.errorbar(x, y, bars, fmt="none", ecolor=colour, elinewidth=max(width - 0.8, 0.6), zorder=front)
    if colour != PLAN:  # plans of several budgets are not one curve
        axis.plot(x, y, color=colour, linewidth=width, zorder=front)
    size = 8 if colour == PLAN else 5
    mark = "o" if colour == PLAN else mark
    axis.plot(x, y, mark, color=colour, markersize=size, zorder=front + 0.5)


def octaves(q: Array, edges: Array) -> tuple[int, Array]:
    """Counts network calls per octave of noise.

    Args:
        q: Levels of the calls, (K,); the first may be infinite.
        edges: Whole log2 sigma, rising, (B + 1,).

    Returns:
        Calls at sigma = inf, and calls in each [2^edges[i], 2^edges[i + 1]), (B,).
    """
    finite = q[np.isfinite(q)]
    # A level on an edge belongs to the octave above it, whatever the rounding of its logarithm.
    octave = np.floor(np.log2(finite) + 1e-12)
    return int(np.isinf(q).sum()), np.array([np.sum(octave == edge) for edge in edges[:-1]], dtype=np.float64)


def edges_of(schedules: Sequence[tuple[str, Array]], sigma_min: float) -> Array:
    """Whole log2 sigma around all levels of named schedules and the model's smallest."""
    levels = np.concatenate([q for _, q in schedules])
    levels = np.append(levels[np.isfinite(levels)], sigma_min)
    return np.arange(np.floor(np.log2(levels.min())), np.floor(np.log2(levels.max()) + 1e-12) + 2)


def levels_chart(view: View, sigma_min: float, name: str) -> str:
    """Draws the levels of the network calls on a log axis, one line per schedule."""
    rival = 1 if view.gain else 0
    colours = [DEFAULT if i == rival else PLAN if i < rival else OTHER for i in range(len(view.levels))]
    label = f"Noise levels of the {view.plan.calls} network calls of each schedule on a log axis."
    return calls_chart(view.levels, colours, edges_of(view.levels, sigma_min), (name, label))


def calls_chart(
    levels: Sequence[tuple[str, Array]], colours: Sequence[str], edges: Array, names: tuple[str, str]
) -> str:
    """Draws the levels of network calls on a log axis, one line per schedule.

    Args:
        levels: The name of a schedule and the levels of its calls, (K,), each; the first of them may be infinite.
        colours: Of each schedule, from :mod:`sigmatune.report.svg`.
        edges: Whole log2 sigma, rising, as :func:`edges_of` returns them.
        names: A word unique on the page, and the text alternative.
    """
    infinite = any(np.isinf(q).any() for _, q in levels)
    left = edges[-1] + 1.6  # where sigma = inf is drawn

    def draw(figure: Figure, narrow: bool) -> None:  # noqa: FBT001
        size = 10.5 if narrow else 12
        top = figure.add_subplot()
        for i, (label, q) in enumerate(levels):
            place = np.where(np.isinf(q), left, np.log2(np.where(np.isinf(q), 1, q)))
            colour = colours[i]
            top.hlines(i, edges[0], left if infinite else edges[-1], color=GRID, linewidth=0.8)
            top.plot(place, [i] * len(q), "o", color=colour, markersize=10 if colour == PLAN else 7, clip_on=False)
            if narrow:
                place_of = (left if infinite else edges[-1]) + 0.2
                top.annotate(
                    short(label), (place_of, i), (0, 8), textcoords="offset points", fontsize=size, color=_text(colour)
                )
        if narrow:
            top.set_yticks([])
        else:
            top.set_yticks(range(len(levels)), [short(label) for label, _ in levels])
            for i, tick in enumerate(top.get_yticklabels()):
                tick.set_color(_text(colours[i]))
        top.set_ylim(len(levels) - 0.4, -0.9 if narrow else -0.6)
        top.spines[:].set_visible(False)
        _sigma_axis(top, edges, left if infinite else None)

    rows = len(levels)
    return chart(draw, (rows * 27 + 60, rows * 33 + 60), *names)


def _text(colour: str) -> str:
    return MUTED if colour == OTHER else FG


def _sigma_axis(axis: Axes, edges: Array, left: float | None) -> None:
    axis.set_xlim((left + 0.7) if left is not None else edges[-1] + 0.3, edges[0] - 0.3)
    powers = [p for p in range(-8, 8) if edges[0] <= np.log2(10.0**p) <= edges[-1]]
    places, names = [float(np.log2(10.0**p)) for p in powers], [f"{10.0**p:g}" for p in powers]
    if left is not None:
        places, names = [*places, left], [*names, "∞"]
    axis.set_xticks(places, names)
    axis.set_xlabel("noise level σ  (pure noise left, clean image right)")


def spectrum_chart(view: View, name: str) -> str:
    """Draws the power of the errors and of the converged images themselves against frequency."""
    assert view.residual is not None
    assert view.exact is not None
    tuned = [("error, tuned", view.residual[0].power)] if view.gain else []
    return power_chart(view.exact.power, [("error, default", view.residual[1].power), *tuned], name)


def power_chart(
    exact: Array, errors: Sequence[tuple[str, Array]], name: str, limits: tuple[float, float] | None = None
) -> str:
    """Draws the power of the images and of up to four errors of them against frequency.

    Args:
        exact: Power of the converged images per ring, (K,).
        errors: A name and the power of an error per ring, (K,), each; the first in the default's colour, the second in the
            plan's.
        name: A word unique on the page.
        limits: The least and the highest power of the axis; None for those of the curves.
    """

    def draw(figure: Figure, narrow: bool) -> None:  # noqa: FBT001
        axis = figure.add_subplot()
        looks = ((DEFAULT, "-", 2.0), (PLAN, "-", 2.4), (FG, "-.", 1.6), (OTHER, ":", 2.2))
        lines = [(exact, "the images themselves", MUTED, "--", 1.4)]
        lines += [(power, label, *look) for (label, power), look in zip(errors, looks, strict=False)]
        for power, label, colour, style, width in lines:
            axis.plot(np.arange(len(power)), power, color=colour, linestyle=style, linewidth=width, label=label)
        axis.set(yscale="log", xlabel="frequency, cycles per image", ylabel="mean power")
        axis.set_ylim(limits)
        axis.grid(axis="y")
        axis.margins(x=0.02)
        log_ticks(axis, *axis.get_ylim())
        size, columns = (10.5, 1) if narrow else (12, 2)
        axis.legend(frameon=False, fontsize=size, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns)

    return chart(draw, (300, 280), name, "Power of the errors at each spatial frequency, on a log axis.")
