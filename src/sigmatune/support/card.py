"""Cards for notebooks: a title, a drawing, and facts, as HTML for any page.

Colours are the page's own text colour, thinned, and one orange that is readable on light and dark pages, so a card
needs no style sheet, script or theme. All text goes through :func:`escaped`: the content of a file stays text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WIDTH, HEIGHT = 460, 170
LEFT, RIGHT, TOP, BOTTOM = 58, 450, 22, 132
EDGE = 14
"""How far beyond the logarithmic axis an infinite value and a 0 are drawn."""

CURVES, POINTS, DOTS = 12, 160, 40
"""Most curves of a drawing, most points of a curve, and most points with markers."""

ACCENT = "#d9661f"
LONGEST = 300
"""Most characters of a fact."""


@dataclass(frozen=True)
class Axis:
    """A straight or a logarithmic axis.

    Attributes:
        low, high: The values at its ends; positive on a logarithmic axis.
        first, last: Their positions, in pixels.
        log: Whether it is logarithmic.
    """

    low: float
    high: float
    first: float
    last: float
    log: bool = True

    @classmethod
    def of(cls, values: Array, first: float, last: float, *, log: bool = True) -> Axis:
        """The axis that holds all finite values (on a logarithmic one, all positive ones), and is not a point."""
        shown = values[np.isfinite(values) & ((values > 0) | (not log))]
        low, high = float(shown.min()), float(shown.max())
        if low == high:
            limits = np.finfo(np.float64)
            ends = max(low / 2, float(limits.smallest_subnormal)), min(high * 2, float(limits.max))
            low, high = ends if log else (low - 0.5, high + 0.5)
        return cls(low, high, first, last, log)

    def place(self, values: Array) -> Array:
        """Pixels of values; infinity is beyond the upper end and 0, on a logarithmic axis, beyond the lower one."""
        beyond = EDGE * np.sign(self.last - self.first)
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high, at = (np.log(v) if self.log else np.asarray(v) for v in (self.low, self.high, values))
            pixels = self.first + (self.last - self.first) * (at - low) / (high - low)
        pixels = np.where(np.isposinf(values), self.last + beyond, pixels)
        return np.asarray(np.where((values == 0) & self.log, self.first - beyond, pixels))

    def ticks(self) -> list[float]:
        """About five powers of ten, or the ends where there are fewer than two; on a straight axis the ends."""
        if self.log:
            powers = range(int(np.ceil(np.log10(self.low) - 1e-9)), int(np.floor(np.log10(self.high) + 1e-9)) + 1)
            if len(powers) >= 2:
                return [10.0**power for power in powers[:: -(-len(powers) // 5)]]
        return [self.low, self.high]


def card(title: str, drawing: str, facts: Mapping[str, Any]) -> str:
    """A card.

    Args:
        title: Its heading.
        drawing: The result of :func:`drawing`, or nothing.
        facts: Names and values; those without a value are left out.
    """
    rows = "".join(
        f'<div style="opacity:.65">{escaped(name)}</div><div style="overflow-wrap:anywhere">{escaped(value)}</div>'
        for name, value in facts.items() if value not in (None, "", {})
    )  # fmt: skip
    return (
        '<div style="max-width:620px;padding:10px 14px;border:1px solid rgba(128,128,128,.4);border-radius:8px;'
        'font:13px/1.45 system-ui,sans-serif;color:inherit;background:transparent">'
        f'<div style="font-weight:600;margin-bottom:4px">{escaped(title)}</div>{drawing}'
        f'<div style="display:grid;grid-template-columns:max-content 1fr;gap:1px 12px">{rows}</div></div>'
    )


def drawing(curves: Sequence[tuple[Array, Array]], *, x: str, y: str, says: str, log_x: bool = False) -> str:
    """Curves over a logarithmic y axis, as inline SVG; nothing if there is nothing to draw.

    Args:
        curves: Pairs of x and y, each (n,). Of more than :data:`CURVES`, an even selection is drawn.
        x, y: Names of the axes.
        says: A text alternative.
        log_x: Whether the x axis is logarithmic, too.
    """
    kept = [(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)) for a, b in evenly(curves, CURVES)]
    xs, ys = (np.concatenate([pair[i] for pair in kept]) if kept else np.zeros(0) for i in (0, 1))
    if not (np.isfinite(ys) & (ys > 0)).any():
        return ""
    across, up = Axis.of(xs, LEFT, RIGHT, log=log_x), Axis.of(ys, BOTTOM, TOP)
    lines = "".join(_curve(across.place(a), up.place(b), alone=len(kept) == 1) for a, b in kept)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" '
        f'style="max-width:{WIDTH}px;display:block;color:inherit"><title>{escaped(says)}</title>'
        f'<g fill="none" stroke="currentColor" stroke-opacity=".22">{_rules(across, up)}</g>'
        f'<g fill="currentColor" fill-opacity=".7" font-size="10.5" font-family="system-ui,sans-serif">'
        f"{_labels(across, up, ys)}{_names(x, y)}</g>{lines}</svg>"
    )


def _curve(x: Array, y: Array, *, alone: bool) -> str:
    points = [f"{a:.1f},{b:.1f}" for a, b in evenly(list(zip(x, y, strict=True)), POINTS)]
    width, thin = (1.6, "") if alone else (1, ' stroke-opacity=".6"')
    line = f'<polyline fill="none" stroke="{ACCENT}" stroke-width="{width}"{thin} points="{" ".join(points)}"/>'
    if not alone or len(x) > DOTS:
        return line
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6"/>' for a, b in zip(x, y, strict=True))
    return f'{line}<g fill="{ACCENT}">{dots}</g>'


def _rules(across: Axis, up: Axis) -> str:
    level = [f"M{LEFT} {y:.1f}H{RIGHT}" for y in up.place(np.array(up.ticks()))]
    upright = [f"M{x:.1f} {TOP}V{BOTTOM}" for x in across.place(np.array(across.ticks()))]
    return f'<path d="{"".join(level + upright)}"/>'


def _labels(across: Axis, up: Axis, ys: Array) -> str:
    beyond = [value for value in (np.inf, 0.0) if (ys == value).any()]
    values = np.array([*up.ticks(), *beyond])
    left = "".join(
        f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{number(value)}</text>'
        for value, y in zip(values, up.place(values), strict=True)
    )
    below = "".join(
        f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{number(value)}</text>'
        for value, x in zip(across.ticks(), across.place(np.array(across.ticks())), strict=True)
    )
    return left + below


def _names(x: str, y: str) -> str:
    middle = (LEFT + RIGHT) / 2
    return (
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escaped(x)}</text>'
        f'<text x="{RIGHT}" y="{TOP - 10}" text-anchor="end">{escaped(y)}</text>'
    )


def evenly(values: Sequence[Any], most: int) -> list[Any]:
    """All values, or an even selection that includes the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[i] for i in np.rint(np.linspace(0, len(values) - 1, most)).astype(int)]


def number(value: float) -> str:
    """A level or a power in at most four digits.

    >>> [number(value) for value in (80.0, 0.0123456, 1e-05, float("inf"), 0.0)]
    ['80', '0.01235', '1e-05', 'inf', '0']
    """
    return f"{value:.4g}"


def numbers(values: Iterable[float], most: int = 12) -> str:
    """Numbers in a row; of many, only the first and the last.

    >>> numbers(range(20), most=6)
    '0, 1, 2, ..., 17, 18, 19'
    """
    texts = [number(float(value)) for value in values]
    half = most // 2
    return ", ".join(texts if len(texts) <= most else [*texts[:half], "...", *texts[-half:]])


def count(n: int, thing: str) -> str:
    """How many there are.

    >>> count(1, "step"), count(50_000, "image")
    ('1 step', '50,000 images')
    """
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def line(value: Any, longest: int = LONGEST) -> str:
    r"""A value as one line of text: without control characters, truncated if too long.

    >>> line("two\nlines and more", longest=12)
    'two lines...'
    """
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in str(value)).split())
    return text if len(text) <= longest else f"{text[: longest - 3].rstrip()}..."


def options(values: Mapping[str, Any]) -> str:
    """Options in brief: ``rho=7, c=0.5``; lists and nested values are left out."""
    plain = {name: value for name, value in values.items() if isinstance(value, str | int | float)}
    return ", ".join(f"{name}={number(v) if isinstance(v, float) else v}" for name, v in plain.items())


def escaped(value: Any) -> str:
    """A value as one line of HTML's text."""
    return escape(line(value), quote=True)
