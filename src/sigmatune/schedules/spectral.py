r"""Spectral: levels from the power spectrum of the data, or of one image.

.. math:: \sigma_i = e^{-\lambda(v_i) / 2}, \quad v_i = 1 - i / (N - 1), \quad i = 0, \dots, N - 1

with the curve :math:`\lambda(v) = \log \kappa(v) - \log P(f(v))` of :mod:`sigmatune.spectra.curves`: it visits every
ring of the spectrum at the noise that hides it. The curve's own ends are **tight**: more noise would be wasted, less
would be invisible; how tight depends on the number of steps. An end outside the model's range moves to the end of the
range, a given end to its value, and the curve moves with it, affinely in logSNR. If the tight range is empty (a
constant image), the model's own end replaces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from sigmatune.core.schedule import whole
from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import known_options, positive

if TYPE_CHECKING:
    from sigmatune.spectra.curves import Curve

Numbers = Sequence[float] | Sequence[Sequence[float]] | Array

LEAST = 1 + 1e-6
"""Ratio of the ends below which a range counts as empty: its levels would coincide."""


def levels(  # noqa: PLR0913 (the family's options)
    kind: Literal["frequency", "power", "mixed"],
    steps: int,
    path: NoisePath,
    *,
    spectrum: Numbers | None = None,
    amplitude: float = 15.0,
    slope: float = 2.2,
    rings: int = 16,
    kappa_min: float = 0.01,
    kappa_max: float = 20.0,
    widen: float = 1.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> Array:
    r"""Reads a spectral curve at N even steps of v, from the noisy to the clean end.

    References:
        | Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026)
        | https://arxiv.org/abs/2603.19222

    Args:
        kind: The curve, a name in :data:`sigmatune.spectra.curves.CURVES`.
        steps: N; one step is at the path's sigma_max.
        path: The noise path; sigma_max may be infinite.
        spectrum: P(k), k = 0..K-1 with DC first, squared units of the data; or one per row, (R, K).
        amplitude, slope, rings: Without a spectrum, that of :math:`P(k) = A k^{-a}` up to this ring; the defaults are
            about those of photographs of 32 x 32 pixels in [-1, 1].
        kappa_min, kappa_max: P / sigma^2 at the noisy and at the clean end at 10 steps.
        widen: p; N steps take kappa_min (10 / N)^p and kappa_max (N / 10)^p, because ends that are tight for few steps
            dominate the error at many. 0 keeps the ends.
        sigma_min, sigma_max: Given ends; the path is narrowed to them.

    Returns:
        N noise levels (sigma), descending, or (R, N).

    Raises:
        SigmaTuneError: for an invalid spectrum or invalid kappas, or both a spectrum and a power law.
    """
    from sigmatune.spectra.curves import CURVES  # torch comes with it

    if spectrum is None:
        positive(amplitude=amplitude)
        spectrum = amplitude * np.maximum(np.arange(whole(rings, "rings") + 1.0), 1.0) ** -slope
    elif {"amplitude": amplitude, "slope": slope, "rings": rings} != LAW:
        raise SigmaTuneError("give either a spectrum or amplitude, slope and rings of a power law, not both.")
    grow = (max(steps, 2) / 10) ** widen
    curve = CURVES[kind](spectrum, kappa_min=kappa_min / grow, kappa_max=kappa_max * grow)
    if steps == 1:
        return np.full((*np.shape(spectrum)[:-1], 1), path.sigma_max)
    low, high = _ends(curve, path, fixed_low=sigma_min is not None, fixed_high=sigma_max is not None)
    sigmas = curve.between(low, high).sigma(np.linspace(1, 0, steps))
    sigmas[..., 0], sigmas[..., -1] = high, low
    return sigmas


LAW = {name: value for name, value in known_options(levels).items() if name in ("amplitude", "slope", "rings")}
"""The options of the power law that replaces a spectrum, and their defaults."""


def _ends(curve: Curve, path: NoisePath, *, fixed_low: bool, fixed_high: bool) -> tuple[Array, Array]:
    """Where the levels end: given, tight, or the path's own where the tight end is outside or leaves no range."""
    low, high = curve.ends
    low = np.where(fixed_low | (low * LEAST >= path.sigma_max), path.sigma_min, np.maximum(low, path.sigma_min))
    high = np.where(fixed_high | (high <= path.sigma_min * LEAST), path.sigma_max, np.minimum(high, path.sigma_max))
    if np.isinf(high).any():
        raise SigmaTuneError(
            f"all power of the spectrum is below the model's last level, {path.sigma_min:.4g}, and its first is infinite; "
            "pass sigma_max=80 or the like."
        )
    return low, high


def _family(kind: Literal["frequency", "power", "mixed"], description: str) -> Family:
    return Family(f"spectral-{kind}", partial(levels, kind), description, starts=False, ends=False, tight=True)


FREQUENCY = _family("frequency", "the data's rings of frequency, one after the other")
POWER = _family("power", "equal parts of the data's power")
MIXED = _family("mixed", "the mean of spectral-frequency and spectral-power in logSNR")
