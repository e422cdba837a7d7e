r"""The axis of noise levels as HTML: handles on a logarithmic axis, and above them which frequencies a level decides.

White noise of level :math:`\sigma` has the power :math:`\sigma^2` at every frequency, so the data's frequency k drowns in it
above :math:`\sigma = \sqrt{P(k)}` and is decided around there. The curve above the axis is this level for every k. The
positions are shares of the width, so one drawing serves every screen; ``studio.js`` moves the handles.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.report.charts import octaves

FREE_TOP = 100.0
"""The highest finite level of the axis of a path that starts at infinity, unless a level is higher."""

MARGIN = 0.35
"""Octaves that are shown beyond the model's range."""

GAP = 1.002
"""The least ratio of neighbouring levels; handles cannot come closer or cross."""

HEIGHT, RISE = 100, 0.9
"""Of the drawing of the spectrum, and the share of it up to the highest frequency."""

MANY, CROWD = 12, 44
"""Above so many levels their numbers overlap on a phone, and on any screen; then only the selected one shows its number."""


@dataclass(frozen=True)
class AxisScale:
    """The axis from ``high`` at the left to ``low`` at the right, and the model's range, ``top`` to ``bottom``; log2 sigma."""

    low: float
    high: float
    bottom: float
    top: float
    infinite: bool

    @classmethod
    def of(cls, path: NoisePath, levels: Sequence[float]) -> AxisScale:
        """The axis of a model's path and some levels."""
        infinite = math.isinf(path.sigma_max)
        finite = [level for level in levels if math.isfinite(level)]
        highest = max([FREE_TOP, *finite]) if infinite else path.sigma_max
        bottom, top = math.log2(path.sigma_min), math.log2(highest)
        return cls(bottom - MARGIN, top + (3 if infinite else 1) * MARGIN, bottom, top, infinite)

    def place(self, sigma: float) -> float:
        """The position of a level, 0 (left) to 100."""
        if math.isinf(sigma):
            return 100 * MARGIN / (self.high - self.low)
        return 100 * (self.high - math.log2(sigma)) / (self.high - self.low)


def axis_html(levels: Sequence[float], path: NoisePath, power: Array | None, *, title: str) -> str:
    """The axis.

    Args:
        levels: The positive levels, falling; the first may be infinite.
        path: The model's noise path, whose range is marked.
        power: Power of the data per ring, (K,), or None.
        title: What the levels are, in words.
    """
    scale = AxisScale.of(path, levels)
    curve = [] if power is None else decided(power)
    settings = {
        "low": scale.low, "high": scale.high, "min": path.sigma_min, "max": 2.0**scale.top, "gap": GAP,
        "levels": [None if math.isinf(level) else level for level in levels], "curve": curve,
    }  # fmt: skip
    handles = "".join(_handle(i, levels, scale, curve) for i in range(len(levels)))
    crowded = " many" * (len(levels) > MANY) + " crowd" * (len(levels) > CROWD)
    return (
        f'<div class="axis{crowded}" data-axis="{escape(json.dumps(settings))}" role="group" aria-label="{escape(title)}">'
        f"{_spectrum(scale, curve)}"
        f'<div class="track">{_range(scale)}<div class="rail"></div>{handles}</div>'
        f'<div class="scale">{_ticks(scale)}</div>{_octave_counts(levels, scale)}'
        '<p class="hint">Pure noise left, clean image right. Drag a level, or select it and press an arrow key (with Shift '
        "for small steps), Home or End. A double-click on the line, or +, adds a level; Delete removes the selected one.</p>"
        "</div>"
    )


def decided(power: Array) -> list[tuple[int, float]]:
    """(k, the level at which frequency k is decided) for k = 1, 2, ..., the levels falling."""
    levels = np.minimum.accumulate(np.sqrt(np.maximum(power[1:], 1e-12)))
    return [(k, float(level)) for k, level in enumerate(levels, start=1)]


def frequency_at(sigma: float, curve: Sequence[tuple[int, float]]) -> str:
    """What a level decides, in words; "" where the spectrum is unknown."""
    if not curve:
        return ""
    above = [k for k, level in curve if level >= sigma]
    if not above:
        return "coarser than 1 cycle per image"
    return "finer than all" if len(above) == len(curve) else f"about {above[-1]} cycle{'s' * (above[-1] > 1)} per image"


def _handle(i: int, levels: Sequence[float], scale: AxisScale, curve: Sequence[tuple[int, float]]) -> str:
    sigma, infinite = levels[i], math.isinf(levels[i])
    shown = "∞" if infinite else f"{sigma:.3g}"
    words = ", ".join(part for part in (f"sigma {shown}", "" if infinite else frequency_at(sigma, curve)) if part)
    value = 2.0**scale.high if infinite else sigma
    return (
        f'<button type="button" class="level" role="slider" data-index="{i}" style="left:{scale.place(sigma):.4f}%" '
        f'aria-label="Level {i + 1} of {len(levels)}" aria-orientation="horizontal" aria-valuemin="{2**scale.bottom:.6g}" '
        f'aria-valuemax="{2**scale.high:.6g}" aria-valuenow="{value:.6g}" aria-valuetext="{escape(words)}"'
        f'{" disabled" if infinite else ""}><span class="tip">{shown}</span></button>'
    )


def _range(scale: AxisScale) -> str:
    """Shades what lies outside the model's range."""
    left, right = scale.place(2.0**scale.top), scale.place(2.0**scale.bottom)
    before = "" if scale.infinite else f'<div class="outside" style="left:0;width:{left:.3f}%"></div>'
    return f'{before}<div class="outside" style="left:{right:.3f}%;right:0" title="below the model\'s range"></div>'


def _ticks(scale: AxisScale) -> str:
    powers = range(math.ceil(scale.low / math.log2(10)), math.floor(scale.top / math.log2(10)) + 1)
    marks = [(scale.place(10.0**p), f"{10.0**p:g}") for p in powers] + [(scale.place(math.inf), "∞")] * scale.infinite
    return "".join(f'<span style="left:{place:.3f}%">{text}</span>' for place, text in marks)


def _octave_counts(levels: Sequence[float], scale: AxisScale) -> str:
    """Calls in every octave of noise, as bars with numbers."""
    edges = np.arange(math.floor(scale.bottom), math.floor(scale.top + 1e-9) + 2, dtype=np.float64)
    at_infinity, counts = octaves(np.array(levels), edges)
    most, bars = max(counts.max(), 1), []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        left = max(scale.place(2.0**high), 0)
        width = min(scale.place(2.0**low), 100) - left
        bars.append(
            f'<div style="left:{left:.3f}%;width:{width:.3f}%"><b>{int(count) or ""}</b>'
            f'<i style="height:{100 * count / most:.0f}%"></i></div>'
        )
    words = ", ".join(
        f"{int(count)} from {2.0**low:.3g} to {2.0**high:.3g}"
        for low, high, count in zip(edges, edges[1:], counts, strict=False) if count
    )  # fmt: skip
    first = f"{at_infinity} at infinity, " * bool(at_infinity)
    return (
        f'<div class="octaves" role="img" aria-label="Levels per octave of noise: {first}{words}">{"".join(bars)}</div>'
        '<div class="caption">levels per octave of noise</div>'
    )


def _spectrum(scale: AxisScale, curve: Sequence[tuple[int, float]]) -> str:
    """The curve of the levels at which frequencies are decided, log2 k upwards."""
    if len(curve) < 2:
        return ""
    top = math.log2(curve[-1][0])
    points = [(scale.place(level), HEIGHT * (1 - RISE * math.log2(k) / top)) for k, level in curve]
    points = [(min(max(x, 0), 100), y) for x, y in points]
    line = " ".join(f"{x:.3f},{y:.2f}" for x, y in points)
    area = f"{points[0][0]:.3f},{HEIGHT} {line} 100,{points[-1][1]:.2f} 100,{HEIGHT}"
    ks = [2**i for i in range(int(top) + 1)]
    labels = "".join(f'<span style="top:{100 * (1 - RISE * math.log2(k) / top):.2f}%">{k}</span>' for k in ks)
    return (
        '<div class="caption">frequency that a level decides (cycles per image, by the spectrum of the data)</div>'
        f'<div class="spectrum"><svg viewBox="0 0 100 {HEIGHT}" preserveAspectRatio="none" role="img">'
        f"<title>Frequency against noise level: from 1 cycle per image at sigma {curve[0][1]:.3g} to {curve[-1][0]} at "
        f'{curve[-1][1]:.3g}.</title><polygon points="{area}"/><polyline points="{line}"/></svg>{labels}</div>'
    )
