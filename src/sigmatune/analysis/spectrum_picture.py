"""A spectrum as a figure: power against frequency, and the noise levels that it implies."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sigmatune.analysis.spectrum_facts import BUDGETS
from sigmatune.spectra.advice import EDM, Density, training_density
from sigmatune.spectra.bounds import Ends, tight_ends
from sigmatune.spectra.measured_spectra import Measured
from sigmatune.spectra.power_laws import power_law
from sigmatune.spectra.spectrum import QUANTISATION, Spectrum
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.outputs import picture_metadata

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sigmatune.noise import Array

# Wong's colours, safe for colour-blind readers.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#888888"


@dataclass(frozen=True)
class NoisePanel:
    """The content of the right panel.

    Attributes:
        densities: Densities of training noise by label.
        ends: Proposed ranges by label.
        levels: Positive levels of a plan, if any.
    """

    densities: Mapping[str, Density] = field(default_factory=dict)
    ends: Mapping[str, Ends] = field(default_factory=dict)
    levels: Array | None = None


def draw(
    spectrum: Spectrum,
    *,
    title: str,
    laws: Mapping[str, Any] | None = None,
    classes: Mapping[str, Spectrum] | None = None,
    noise: NoisePanel | None = None,
    kind: str = "png",
) -> bytes:
    """Draws P(k) with its scatter over images and its law, and beside it the noise levels.

    Args:
        spectrum: The data's.
        title: The title.
        laws: Anything with ``power(k)``, such as a fitted power law, by its name in the legend.
        classes: Spectra of classes, drawn as thin lines.
        noise: The right panel.
        kind: ``"png"`` or ``"svg"``.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=130, facecolor="white")
    left, right = figure.subplots(1, 2)
    _power(left, spectrum, laws or {}, classes or {})
    _noise(right, noise or NoisePanel())
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(visible=True, which="major", alpha=0.25)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=picture_metadata("spectrum", kind))
    return buffer.getvalue()


def of_measured(
    measured: Measured,
    name: str,
    trained: Density,
    *,
    levels: Array | None = None,
    order: int = 1,
    kind: str = "png",
) -> bytes:
    """Draws measured spectra with everything that they imply about noise.

    Args:
        measured: The spectra.
        name: What was measured, for the title.
        trained: Density of training noise that is compared.
        levels: Positive levels of a plan.
        order: Order of the solver for which the ends are proposed.
        kind: ``"png"`` or ``"svg"``.
    """
    spectrum = measured.all
    try:
        law = power_law(spectrum)
        lines = {f"{law.power(1):.3g} k^{-law.exponent:.2f}": law}
    except SigmaTuneError:  # too few rings
        lines = {}
    proposed = {"proposed: every ring the same": training_density(spectrum)} if min(spectrum.size) > 1 else {}
    densities = {**proposed, f"log-normal ({trained.mean:g}, {trained.std:g})": trained}
    ends = {f"{steps} steps": tight_ends(spectrum, steps, order=order) for steps in BUDGETS}
    height, width = spectrum.size
    return draw(
        spectrum,
        title=f"{name}: {spectrum.images} images of {height} x {width}",
        laws=lines,
        classes=measured.classes,
        noise=NoisePanel(densities, {**ends, "EDM": Ends(EDM["sigma_max"], EDM["sigma_min"])}, levels),
        kind=kind,
    )


def _power(axis: Axes, spectrum: Spectrum, laws: Mapping[str, Any], classes: Mapping[str, Spectrum]) -> None:
    whole = min(spectrum.size) // 2 + 1
    k = np.arange(1, whole)
    axis.set_xlabel("frequency k (cycles per image)")
    axis.set_ylabel("power P(k)")
    if len(k) == 0:
        axis.text(0.5, 0.5, "one pixel: no frequencies", ha="center", va="center", transform=axis.transAxes)
        return
    for number, one in enumerate(classes.values()):
        label = f"each of {len(classes)} classes" if number == 0 else None
        axis.loglog(k, _rings(one.power, whole), color=GREY, lw=0.8, alpha=0.7, label=label)
    power = _rings(spectrum.power, whole)
    if spectrum.images > 1 and spectrum.log_mean is not None and spectrum.log_variance is not None:
        middle = spectrum.log_mean.reshape(-1, spectrum.rings).mean(axis=0)[1:whole]
        spread = np.sqrt(spectrum.log_variance.reshape(-1, spectrum.rings).mean(axis=0)[1:whole])
        low, high = np.exp(middle - spread), np.exp(middle + spread)
        axis.fill_between(k, low, high, color=BLUE, alpha=0.15, lw=0, label="images, one deviation of log P")
    axis.loglog(k, power, "o-", ms=3.5, color=BLUE, label="mean power P(k)")
    for name, law in laws.items():
        axis.loglog(k, law.power(k), "--", color=ORANGE, label=name)
    if power.min() < 100 * QUANTISATION:
        axis.axhline(QUANTISATION, color=GREY, ls=":", label="rounding to 8 bits")
    if len(k) < 10:
        axis.set_xticks(k, [str(value) for value in k])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8.5)


def _noise(axis: Axes, noise: NoisePanel) -> None:
    log_sigma = np.linspace(np.log(5e-4), np.log(500), 600)
    tallest = 0.0
    for (label, density), colour in zip(noise.densities.items(), (BLUE, ORANGE, GREEN), strict=False):
        values = density.at(np.exp(log_sigma))
        tallest = max(tallest, float(values.max()))
        axis.semilogx(np.exp(log_sigma), values, color=colour, label=label)
    tallest = tallest or 1.0
    below = -0.09 * tallest
    for number, ((label, ends), colour) in enumerate(zip(noise.ends.items(), _cycle(len(noise.ends)), strict=True)):
        height = below * (number + 1)
        axis.plot([ends.sigma_min, ends.sigma_max], [height, height], color=colour, lw=2.5, solid_capstyle="butt")
        axis.annotate(
            label, (ends.sigma_max, height), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8
        )
    if noise.levels is not None:
        levels = noise.levels[np.isfinite(noise.levels)]
        axis.plot(
            levels, np.full(len(levels), tallest * 1.08), "|", ms=11, mew=1.3, color="black", label="plan's levels"
        )
    axis.set_xlim(5e-4, 2000)
    axis.set_xlabel("noise level sigma")
    axis.set_ylabel("training noise per unit of log sigma")
    axis.set_yticks([tick for tick in axis.get_yticks() if tick >= 0])
    axis.set_ylim(below * (len(noise.ends) + 0.8), tallest * 1.5)
    axis.minorticks_off()
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, fontsize=8.5, loc="upper left")


def _rings(power: Array, whole: int) -> Array:
    return np.asarray(np.maximum(power.reshape(-1, power.shape[-1]).mean(axis=0)[1:whole], QUANTISATION / 10))


def _cycle(count: int) -> Sequence[str]:
    return [(PINK, GREEN, BLUE, ORANGE, GREY)[i % 5] for i in range(count)]
