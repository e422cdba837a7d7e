"""Draws the example workflows of the ComfyUI pack as graphs: ``python tools/draw_workflows.py``.

Nodes stand in columns by how many links lead to them; each box holds a node's title and its values. A drawing states the digest
of its workflow, so a test notices one that is out of date.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve

EXAMPLES = Path(__file__).resolve().parent.parent / "integrations" / "comfyui" / "examples"
WIDTH, LINE, GAP, AWAY = 3.4, 0.3, 0.45, 1.1
"""Of a box, a line of text, the gaps between rows and between columns."""
PACK, OTHER, GROUND, INK = "#2f5d8a", "#3d3f44", "#1f2023", "#e8e8e8"
LONGEST = 30

Node = dict[str, Any]


def main() -> None:
    """Draws all of them."""
    for file in sorted(EXAMPLES.glob("*.json")):
        figure = drawn(json.loads(file.read_text()))
        figure.savefig(file.with_suffix(".png"), facecolor=GROUND, dpi=80, metadata={"Comment": digest(file)})
        print(file.with_suffix(".png"))


def digest(file: Path) -> str:
    """What a drawing is of."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def links(node: Node) -> dict[str, tuple[str, int]]:
    """The inputs of a node that come from others, by name: (node, output)."""
    return {name: tuple(value) for name, value in node["inputs"].items() if isinstance(value, list)}


def lines(node: Node) -> list[str]:
    """What stands in a node's box, below its title: linked inputs first, then its values."""
    values = [f"{name}: {value}" for name, value in node["inputs"].items() if not isinstance(value, list)]
    return [*links(node), *(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in values)]


def columns(nodes: dict[str, Node]) -> list[list[str]]:
    """The nodes by the longest chain of links that leads to them."""
    depth: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((of(source) for source, _ in links(nodes[name]).values()), default=-1)
        return depth[name]

    return [[name for name in nodes if of(name) == column] for column in range(1 + max(map(of, nodes)))]


def drawn(nodes: dict[str, Node]) -> Figure:
    """The graph."""
    places: dict[str, tuple[float, float]] = {}
    lowest = 0.0
    for column, names in enumerate(columns(nodes)):
        top = 0.0
        for name in names:
            places[name] = (column * (WIDTH + AWAY), top)
            top -= height(nodes[name]) + GAP
        lowest = min(lowest, top)
    right = max(x for x, _ in places.values()) + WIDTH
    figure = Figure(figsize=((right + 0.6) * 0.72, (-lowest + 0.4) * 0.72))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.3, right + 0.3), ylim=(lowest, 0.4))
    axes.set_axis_off()
    for name, node in nodes.items():
        for row, (source, _) in enumerate(links(node).values()):
            link(axes, places[source], (places[name][0], places[name][1] - (row + 1.6) * LINE))
    for name, node in nodes.items():
        box(axes, places[name], node)
    return figure


def height(node: Node) -> float:
    """Of a node's box."""
    return (len(lines(node)) + 1.6) * LINE


def box(axes: Axes, place: tuple[float, float], node: Node) -> None:
    """A node."""
    x, y = place
    colour = PACK if node["class_type"].startswith("SigmaTune") else OTHER
    style = {"boxstyle": "round,pad=0,rounding_size=0.08", "linewidth": 0}
    axes.add_patch(FancyBboxPatch((x, y - height(node)), WIDTH, height(node), facecolor=colour, zorder=2, **style))
    axes.text(
        x + 0.12, y - 0.7 * LINE, node["_meta"]["title"], color="white", size=9.5, weight="bold", va="center", zorder=3
    )
    for row, text in enumerate(lines(node)):
        axes.text(x + 0.18, y - (row + 1.6) * LINE, text, color=INK, size=8, va="center", zorder=3)
        if row < len(links(node)):
            axes.plot([x], [y - (row + 1.6) * LINE], "o", color=INK, markersize=3.5, zorder=4)


def link(axes: Axes, source: tuple[float, float], end: tuple[float, float]) -> None:
    """A curve from a node's title to an input."""
    (x, y), (u, v) = (source[0] + WIDTH, source[1] - 0.7 * LINE), end
    away = max((u - x) / 2, AWAY / 2)
    curve = Curve([(x, y), (x + away, y), (u - away, v), (u, v)], [Curve.MOVETO, *[Curve.CURVE4] * 3])
    axes.add_patch(PathPatch(curve, facecolor="none", edgecolor="#9aa0a8", linewidth=1.2, zorder=1))


if __name__ == "__main__":
    main()
