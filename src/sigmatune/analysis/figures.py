"""Figures of a stepwise analysis: where each frequency changes, band by band, and the densities over time.

They read from left to right in sampling order: pure noise on the left, the clean image on the right. Colours are those
of Okabe and Ito and a diverging map, both safe for colour-blind readers.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sigmatune.analysis.beta_fit import PUBLISHED, beta_parts, fit
from sigmatune.analysis.result import Band, Of, Stepwise
from sigmatune.noise import Array
from sigmatune.support.outputs import picture_metadata

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOW, HIGH, MEASURED, FREE, EQUAL = "#0072B2", "#D55E00", "#9a9a9a", "#000000", "#009E73"
HAND = ("#CC79A7", "#E69F00")
VIEWS: tuple[tuple[Of, bool, str], ...] = (
    ("x", True, "the state, against k = 0 (as in the paper)"),
    ("x", False, "the state, every frequency by itself"),
    ("x0", True, "the network's estimate of the image, against k = 0"),
)
BANDS: tuple[Band, Band] = ("low", "high")
COLUMNS = 400

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif", "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "legend.fontsize": 8,
    "legend.framealpha": 0.85, "legend.edgecolor": "none",
    "axes.axisbelow": True, "grid.color": "#e2e2e6", "grid.linewidth": 0.7,
    "svg.hashsalt": "sigmatune", "svg.fonttype": "none",
}  # fmt: skip


def change_map(analysis: Stepwise, of: Of = "x", *, relative: bool = True, columns: int = COLUMNS) -> Array:
    """The change per percent of the way over (ring, tau), (K - 1, columns): k from 1, tau falling from T to 0.

    Per percent of the way and not per step, so that chains of different lengths and spacings are comparable.
    """
    rate = analysis.change(of, relative=relative) / (-np.diff(analysis.shares)[:, None] * 100)
    middle = 1 - (np.arange(columns) + 0.5) / columns
    step = np.searchsorted(-analysis.shares, -middle, side="right") - 1
    shown = rate[np.clip(step, 0, None)]
    shown[step < 0] = 0  # a chain that starts below the noisiest level changes nothing above it
    return np.asarray(shown[:, 1:].T)


def figure(analysis: Stepwise) -> Figure:
    """Draws one column per view: change map, band curves, densities with fitted Betas.

    Raises:
        SigmaTuneError: if nothing changes, or the change has no Beta shape.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(cast(Any, _STYLE)):
        drawn = Figure(figsize=(14.5, 9), layout="constrained", facecolor="white")
        axes = drawn.subplots(3, len(VIEWS), sharex=True, sharey="row", height_ratios=[1.15, 1, 1.15])
        most = brightest(*(change_map(analysis, of, relative=relative) for of, relative, _ in VIEWS))
        for column, (of, relative, title) in enumerate(VIEWS):
            top, middle, below = axes[:, column]
            draw_map(top, analysis, most, of=of, relative=relative)
            top.set_title(title)
            draw_bands(middle, analysis, of=of, relative=relative)
            _densities(below, analysis, of, relative=relative)
            below.set_xlabel("position on the noise path, τ  (pure noise left, clean image right)")
        axes[1, 0].set_ylim(0, 1.05 * max(_tallest(analysis, of, relative=relative) for of, relative, _ in VIEWS))
        for row, label in enumerate(_ORDINATES):
            axes[row, 0].set_ylabel(label)
        bar = drawn.colorbar(axes[0, -1].images[0], ax=axes[0, :], pad=0.01, extend="both", aspect=14)
        bar.set_label("change of log|F|\nper percent of the way")
        axes[1, 0].legend(loc="upper left")
        drawn.suptitle(_title(analysis), fontsize=11, x=0.01, ha="left")
        return drawn


_ORDINATES = (
    "frequency k, cycles per image",
    "share of the band's change per\npercent of the way (dotted: half is done)",
    "change density\n(1 = uniform)",
)


def _title(analysis: Stepwise) -> str:
    about = analysis.about
    chain = " ".join(str(about[name]) for name in ("solver", "family") if name in about)
    return f"Which frequencies change when: {analysis.n} samples, {analysis.steps} steps, {chain}"


def brightest(*maps: Array) -> float:
    """The change at which the colour scale ends: a high quantile, so that single peaks do not wash out the rest."""
    return max(float(np.quantile(np.abs(shown), 0.98)) for shown in maps)


def draw_map(axis: Axes, analysis: Stepwise, most: float, *, of: Of = "x", relative: bool = True) -> None:
    """Draws the change map between -most and most: orange grows while the image is denoised, purple shrinks."""
    from matplotlib.ticker import MaxNLocator

    k_max = len(analysis.modes) - 1
    axis.imshow(
        change_map(analysis, of, relative=relative), origin="lower", aspect="auto", cmap="PuOr_r", vmin=-most, vmax=most,
        interpolation="none", extent=(analysis.levels, 0, 0.5, k_max + 0.5),
    )  # fmt: skip
    axis.yaxis.set_major_locator(MaxNLocator(6, integer=True))


def _tallest(analysis: Stepwise, of: Of, *, relative: bool) -> float:
    """The highest rate of the band curves, single steps excepted."""
    rates = []
    for band in BANDS:
        edges, parts = analysis.parts(of, band=band, relative=relative)
        rates.append(float(np.quantile(parts / np.diff(edges) / 100, 0.99)))
    return max(rates)


def draw_bands(
    axis: Axes, analysis: Stepwise, *, of: Of = "x", relative: bool = True, colours: tuple[str, str] = (LOW, HIGH)
) -> None:
    """Draws where the low and the high band change, each as shares of its own change, with their medians dotted."""
    for band, colour, style in zip(BANDS, colours, ("-", "--"), strict=True):
        edges, parts = analysis.parts(of, band=band, relative=relative)
        rings = analysis.rings(band)
        label = f"{band} band, k = {rings[0]}" + (f" to {rings[-1]}" if len(rings) > 1 else "")
        rate = parts / np.diff(edges) / 100
        look = {"color": colour, "linestyle": style, "linewidth": 1.6, "label": label}
        axis.stairs(rate, edges * analysis.levels, baseline=None, **cast(Any, look))
        median = analysis.median(of, band=band, relative=relative)
        axis.axvline(median, color=colour, linestyle=":", linewidth=1.2)
    axis.set_xlim(analysis.levels, 0)
    axis.set_ylim(bottom=0, auto=None)
    axis.grid(axis="y")


def _densities(axis: Axes, analysis: Stepwise, of: Of, *, relative: bool) -> None:
    edges, parts = analysis.parts(of, relative=relative)
    wide = np.diff(edges)
    axis.stairs(parts / wide, edges * analysis.levels, color=MEASURED, fill=True, alpha=0.45, label="measured")
    fine = np.linspace(edges[0], edges[-1], 401)
    middle = (fine[1:] + fine[:-1]) / 2 * analysis.levels
    (a, b), (same, _) = fit(edges, parts), fit(edges, parts, symmetric=True)
    curves = [(a, b, FREE, "-", 1.8, "fitted"), (same, same, EQUAL, "-", 1.5, "fitted, a = b")]
    curves += [(a, b, colour, "--", 1.2, "paper") for (a, b), colour in zip(PUBLISHED, HAND, strict=True)]
    for a, b, colour, style, width, name in curves:
        density = beta_parts(fine, a, b) / np.diff(fine)
        axis.plot(middle, density, style, color=colour, linewidth=width, label=f"{name}: Beta({a:.2f}, {b:.2f})")
    axis.set_ylim(0, 1.15 * max(3.0, float(np.quantile(parts / wide, 0.95))))
    axis.grid(axis="y")
    axis.legend(loc="upper center", ncols=2)


def rendered(analysis: Stepwise) -> tuple[bytes, bytes]:
    """The figure as PNG and as SVG.

    Raises:
        SigmaTuneError: as :func:`figure`.
    """
    drawn, png, svg = figure(analysis), io.BytesIO(), io.BytesIO()
    import matplotlib as mpl

    with mpl.rc_context(cast(Any, _STYLE)):
        drawn.savefig(png, format="png", dpi=130, metadata=picture_metadata("analysis", "png"))
        drawn.savefig(svg, format="svg", metadata=picture_metadata("analysis", "svg"))
    return png.getvalue(), svg.getvalue()
