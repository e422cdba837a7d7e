"""Turns a matplotlib figure into SVG for a page, with the page's colours and font.

A chart is drawn in the placeholder colours of :data:`COLOURS`, which become CSS variables, so that one drawing serves a
light and a dark page. It is drawn twice, for a wide and for a narrow screen, because text that shrinks with a figure
cannot be read; the page's style shows one of the two.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "#010101": "--fg",
    "#020202": "--muted",
    "#030303": "--grid",
    "#040404": "--plan",
    "#050505": "--default",
    "#060606": "--other",
    "#070707": "--bg",
}
FG, MUTED, GRID, PLAN, DEFAULT, OTHER, BG = COLOURS
WIDE, NARROW = 760, 350
"""Widths in CSS pixels; one unit of the drawing is one pixel."""

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 12,
    "text.color": FG,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "round",
}


def chart(draw: Callable[[Figure, bool], None], heights: tuple[float, float], name: str, label: str) -> str:
    """Draws a chart for wide and for narrow screens.

    Args:
        draw: Draws on an empty figure; its argument says whether the figure is the narrow one.
        heights: Of the wide and of the narrow drawing, in pixels.
        name: A word unique on the page; it keeps the identifiers of the drawings distinct.
        label: A text alternative of the chart.
    """
    wide = _drawn(draw, WIDE, heights[0], f"{name}-w", label)
    return f'<div class="chart">{wide}{_drawn(draw, NARROW, heights[1], f"{name}-n", label)}</div>'


def _drawn(draw: Callable[[Figure, bool], None], width: float, height: float, name: str, label: str) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    narrow, text = width == NARROW, io.StringIO()
    with matplotlib.rc_context(cast(Any, {**_STYLE, "svg.hashsalt": name})):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained", dpi=72)
        draw(figure, narrow)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(text.getvalue(), name, label, "narrow" if narrow else "wide", width)


def _for_page(svg: str, name: str, label: str, screen: str, width: float) -> str:
    """Strips the parts that only a standalone file needs, and inserts the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: (?:bold )?([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    for stand_in, variable in COLOURS.items():
        svg = svg.replace(stand_in, f"var({variable})")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    box = re.search(r'viewBox="[^"]+"', svg)
    opening = f'<svg class="{screen}" role="img" {box[0] if box else ""} style="max-width:{width}px">'
    body = re.sub(r"\s*\n\s*", "\n", svg[svg.index(">") + 1 :].replace("xlink:href", "href"))
    return f"{opening}<title>{escape(label)}</title>{body.strip()}"


def log_ticks(axis: Axes, low: float, high: float) -> None:
    """Labels a logarithmic y axis in plain numbers, about five of them."""
    import numpy as np

    powers = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**p for p in powers for d in digits if low <= d * 10.0**p <= high]
        if len(ticks) <= 6:
            break
    else:
        ticks = ticks[:: len(ticks) // 6 + 1]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yticks([], minor=True)


EARLY = 0.9
"""The share of the axis before which a curve's last point has its name beside it."""


def end_labels(
    figure: Figure, axis: Axes, ends: Sequence[tuple[tuple[float, float], str, str]], *, narrow: bool
) -> None:
    """Writes the name of each curve at its right end, without overlap; of one that ends early beside its last point.

    Args:
        figure, axis: The figure and axis of the curves.
        ends: (last point in data coordinates, name, colour) of each curve.
        narrow: Whether the chart is the narrow one.
    """
    figure.draw_without_rendering()
    height, size = axis.bbox.height, 10.5 if narrow else 12
    early = [end for end in ends if _share(axis, end[0]) < EARLY]  # a line to the margin would read as its curve
    for point, text, colour in early:
        axis.annotate(text, point, (7, 7), textcoords="offset points", color=colour, weight="bold", fontsize=size)
    ends = [end for end in ends if _share(axis, end[0]) >= EARLY]
    if not ends:
        return
    wanted = [float(axis.transData.transform(point)[1] - axis.bbox.y0) for point, *_ in ends]
    places = spread(wanted, size * 1.25)
    over = max(max(places) - height, 0) + min(*places, 0)
    right = axis.get_xlim()[1]
    for ((x, y), text, colour), place in zip(ends, places, strict=True):
        at = (1.05 if narrow else 1.03, (place - over) / height)
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
        strong: dict[str, Any] = {"color": MUTED} if colour == OTHER else {"color": colour, "weight": "bold"}
        axis.annotate(
            text, (min(x * 1.02, right), y), at, "data", "axes fraction", line, va="center",
            fontsize=size, annotation_clip=False, **strong,
        )  # fmt: skip


def _share(axis: Axes, point: tuple[float, float]) -> float:
    """How far along the axis a point lies, from 0 at its left end to 1."""
    return float((axis.transData.transform(point)[0] - axis.bbox.x0) / axis.bbox.width)


def spread(wanted: list[float], gap: float) -> list[float]:
    """Moves positions apart until neighbours are ``gap`` apart, each as little as possible.

    Neighbours that are too close form a block around the mean of their original positions.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []  # (sum of the wanted first places, members)
    for i in order:
        total, members = wanted[i], 1
        while blocks and blocks[-1][0] / blocks[-1][1] + blocks[-1][1] * gap > total / members:
            before, count = blocks.pop()
            total, members = before + total - count * gap * members, count + members
        blocks.append((total, members))
    places = [total / members + k * gap for total, members in blocks for k in range(members)]
    placed = dict(zip(order, places, strict=True))
    return [placed[i] for i in range(len(wanted))]
