r"""Tight ends: how much noise is enough, and how little.

With :math:`\kappa_k = P_k / \sigma^2` and n_k modes of power P_k:

*The noisy end.* A sampler starts from :math:`N(0, \sigma^2)`, the noisy data are :math:`N(\mu, P + \sigma^2)`. The
cost, in nats over all modes, is a Kullback-Leibler divergence,

.. math::
    \text{marginal:}\quad & KL(\text{noisy data} \,\|\, \text{start}) =
        \tfrac12 \textstyle\sum_k n_k [\bar\kappa_k - \log(1 + \kappa_k)] \\
    \text{start:}\quad & KL(\text{start} \,\|\, \text{noisy data}) =
        \tfrac12 \textstyle\sum_k n_k \left[\log(1 + \kappa_k) + \frac{\bar\kappa_k - 2 \kappa_k}{1 + \kappa_k}\right] \\
    \text{image:}\quad & KL(x_0 + \sigma\epsilon \,\|\, \text{start}) = \tfrac12 \textstyle\sum_k n_k \bar\kappa_k
        \quad \text{for one image instead of a distribution}

with :math:`\kappa` from the power about the mean image and :math:`\bar\kappa` from the power about 0; where they agree these
are the formulas of zero-mean data. The first direction bounds the divergence of the data from the model.

*The clean end.* The last step, :math:`x \leftarrow D(x; \sigma)`, removes the variance :math:`P_k \sigma^2 / (P_k +
\sigma^2)` from every mode. Below the rounding of 8-bit pixels,
:math:`\sigma^2 = (2/255)^2/12`, there is nothing left to remove.

*The paper's form* of both: :math:`\sigma_{\max}^2 = P^* / \kappa_{\min}` with P* the largest power of a ring, and
:math:`\sigma_{\min}^2 = P(k_{\max}) / \kappa_{\max}`.

More steps deserve wider ends: an end may cost as much as the solver's own error, and that falls with N. With fixed
tolerances the ends' error dominates at many steps. For a solver of order p the divergence shrinks here like
:math:`N^{-p-1}` and the lost variance like :math:`N^{-p}`; with these exponents and :data:`NATS`, :data:`LOST` the ends
come close to the best ends on Gaussian data with two spectra (``benchmarks/ends.py``).

Reference: Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026), https://arxiv.org/abs/2603.19222, for the
principle and the last form; the divergences and the dependence on N are derived here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from sigmatune.core.schedule import whole
from sigmatune.noise import Array
from sigmatune.spectra.curves import KAPPA_MAX, KAPPA_MIN
from sigmatune.spectra.rings import binning, whole_rings
from sigmatune.spectra.spectrum import QUANTISATION, Spectrum
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import positive

Direction = Literal["marginal", "start", "image"]

NATS = 3.0
"""Prior mismatch that N steps of order p may cost, times N^(p + 1), in nats in all."""

LOST = 0.2
"""Share of the data's variance that the last of N steps may remove, times N^p."""

LOWEST, HIGHEST = 1e-9, 1e9
"""Levels between which the search for an end runs, times the root of the mean power."""


@dataclass(frozen=True)
class Ends:
    """A range of noise levels.

    Attributes:
        sigma_max, sigma_min: The first and the last positive level.
    """

    sigma_max: float
    sigma_min: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < np.inf:
            raise SigmaTuneError(
                f"the ends {self.sigma_max:.4g} and {self.sigma_min:.4g} enclose no range of noise; tighten them less."
            )


def prior_mismatch(
    spectrum: Spectrum, sigma: float | Array, direction: Direction = "marginal", *, per_dimension: bool = False
) -> Array:
    r"""The cost of starting from :math:`N(0, \sigma^2)`, in nats.

    Args:
        spectrum: The data's; one measured with its corners counts all modes. A spectrum of a single image has no power
            about a mean; all its power is taken as variance, except in the direction "image".
        sigma: Noise levels, > 0, of any shape.
        direction: "marginal" (noisy data from the start), "start" (the reverse), "image" (one image instead of the data).
        per_dimension: Divide by the number of dimensions; otherwise the total over all modes and channels.

    Returns:
        Nats, shaped like sigma.

    Raises:
        SigmaTuneError: for an unknown direction.
    """
    power, centred, count = _modes(spectrum)
    variance = np.asarray(sigma, dtype=np.float64)[..., None] ** 2
    raw, kappa = power / variance, centred / variance
    if direction == "marginal":
        nats = (raw - kappa) + _minus_log1p(kappa)
    elif direction == "start":
        nats = (raw - kappa) / (1 + kappa) + _log1p_minus(kappa)
    elif direction == "image":
        nats = raw
    else:
        raise SigmaTuneError(f"a direction is 'marginal', 'start' or 'image', not {direction!r}.")
    total = 0.5 * (count * nats).sum(axis=-1)
    return np.asarray(total / count.sum() if per_dimension else total)


def lost_variance(spectrum: Spectrum, sigma: float | Array) -> Array:
    r"""The variance that the last step :math:`x \leftarrow D(x; \sigma)` removes, mean over modes.

    .. math:: \frac{1}{\sum n_k} \sum_k n_k \frac{P_k \sigma^2}{P_k + \sigma^2}

    Args:
        spectrum: The data's.
        sigma: Noise levels, > 0, of any shape.

    Returns:
        Variance in units of the data, squared; shaped like sigma.
    """
    _, power, count = _modes(spectrum)
    variance = np.asarray(sigma, dtype=np.float64)[..., None] ** 2
    removed = np.divide(power * variance, power + variance)
    return np.asarray((count * removed).sum(axis=-1) / count.sum())


def sigma_max(
    spectrum: Spectrum, nats: float, direction: Direction = "marginal", *, per_dimension: bool = False
) -> float:
    """The smallest noise level at which the start costs at most some nats: the inverse of :func:`prior_mismatch`.

    Args:
        spectrum: The data's.
        nats: Tolerance, > 0.
        direction, per_dimension: As for :func:`prior_mismatch`.

    Raises:
        SigmaTuneError: if nats is not positive or the data has no power.
    """
    positive(nats=nats)

    def excess(log_sigma: float) -> float:
        mismatch = prior_mismatch(spectrum, float(np.exp(log_sigma)), direction, per_dimension=per_dimension)
        return float(np.log(max(float(mismatch), 1e-300) / nats))

    return _root(spectrum, excess)


def sigma_min(spectrum: Spectrum, variance: float) -> float:
    """The largest noise level whose last step removes at most some variance: the inverse of :func:`lost_variance`.

    Args:
        spectrum: The data's.
        variance: Tolerance, > 0, mean over modes, in squared units of the data in [-1, 1]; the result is never below the
            rounding of 8-bit pixels.

    Raises:
        SigmaTuneError: if the tolerance is not positive, not below the data's variance, or the data has no power.
    """
    positive(variance=variance)
    _, power, count = _modes(spectrum)
    most = float((count * power).sum() / count.sum())
    if variance >= most:
        raise SigmaTuneError(f"the last step can remove at most the data's variance, {most:.4g}; ask for less.")
    sigma = _root(
        spectrum,
        lambda log_sigma: float(np.log(variance / lost_variance(spectrum, float(np.exp(log_sigma))))),
    )
    return max(sigma, math.sqrt(QUANTISATION))


def tight_ends(
    spectrum: Spectrum,
    steps: int,
    *,
    order: int = 1,
    nats: float = NATS,
    lost: float = LOST,
    direction: Direction = "marginal",
) -> Ends:
    r"""Chooses both ends for a number of steps from their costs.

    .. math:: \mathrm{KL} = \text{nats} / N^{p+1}, \qquad
        \text{variance removed} = \text{lost} / N^p \text{ of the data's, half of it at most}

    Args:
        spectrum: The data's, a class's or an image's, or one of these from :func:`at_resolution`.
        steps: N.
        order: p, the order of the solver.
        nats: Tolerance of the noisy end times N^(p + 1), in all.
        lost: Tolerance of the clean end times N^p, a share of the data's variance.
        direction: As for :func:`prior_mismatch`.

    Raises:
        SigmaTuneError: if a tolerance is not positive or the ends leave no range.
    """
    positive(lost=lost)
    steps, order = whole(steps, "steps"), whole(order, "order")
    raw, power, count = _modes(spectrum)
    mean = float((count * power).sum() / count.sum())
    if mean <= 1e-12 * float((count * raw).sum() / count.sum()):  # equal images up to rounding
        raise SigmaTuneError("all images are the same, so there is nothing to denoise; pass images that differ.")
    high = sigma_max(spectrum, nats / steps ** (order + 1), direction)
    return Ends(high, sigma_min(spectrum, min(lost / steps**order, 0.5) * mean))


def kappa_ends(
    spectrum: Spectrum, *, kappa_min: float = KAPPA_MIN, kappa_max: float = KAPPA_MAX, steps: int = 10, order: int = 1
) -> Ends:
    r"""Chooses both ends in the paper's form, for a number of steps.

    .. math:: \sigma_{\max}^2 = \frac{P^*}{\kappa_{\min}} \left(\frac{N}{10}\right)^p, \qquad
              \sigma_{\min}^2 = \frac{P(k_{\max})}{\kappa_{\max}} \left(\frac{10}{N}\right)^p

    with P* the largest ring power over k >= 1, and sigma_min never below the rounding of 8-bit pixels. An image of a
    single pixel has ring 0 only, which then takes their place.

    Args:
        spectrum: The data's, an image's or a class's.
        kappa_min, kappa_max: Signal-to-noise ratios at the noisy and at the clean end at 10 steps, > 0.
        steps: N.
        order: p, the order of the solver.

    Raises:
        SigmaTuneError: if a ratio is not positive or the ends leave no range.
    """
    positive(kappa_min=kappa_min, kappa_max=kappa_max)
    grow = (whole(steps, "steps") / 10) ** whole(order, "order")
    power = _joint(spectrum.power)[: min(spectrum.size) // 2 + 1]
    rings = np.maximum(power[1:] if len(power) > 1 else power, QUANTISATION)
    high, low = np.sqrt(rings.max() / kappa_min * grow), np.sqrt(rings[-1] / kappa_max / grow)
    return Ends(float(high), float(max(low, math.sqrt(QUANTISATION))))


def at_resolution(spectrum: Spectrum, side: int, slope: float) -> Spectrum:
    r"""The spectrum of the same images at another resolution.

    An image of m times the side has the same content at the same number of cycles per image, and with the orthonormal
    transform :math:`m^2` times its power; rings beyond the measured ones continue the last like :math:`k^{-a}`. Fewer
    pixels keep the rings that they have (an ideal low-pass filter).

    Args:
        spectrum: The data's, without corners: rings that are not whole are not used.
        side: The other short side in pixels; the shape stays.
        slope: a, of :func:`sigmatune.spectra.power_laws.power_law`.

    Returns:
        The spectrum about 0 and about the mean; the statistics over images stay behind.
    """
    height, width = spectrum.size
    ratio = whole(side, "side") / min(height, width)
    size = (round(height * ratio), round(width * ratio))
    kept, rings = whole_rings(height, width), whole_rings(*size)
    beyond = np.maximum(np.arange(rings) / max(kept - 1, 1), 1.0) ** -slope

    def moved(power: Array) -> Array:
        return np.asarray(power[..., np.minimum(np.arange(rings), kept - 1)] * beyond * ratio**2)

    centred = None if spectrum.centred is None else moved(spectrum.centred)
    count = binning(*size, "fft", corners=False).count
    return Spectrum(moved(spectrum.power), count, size, spectrum.images, spectrum.channels, centred)


def _modes(spectrum: Spectrum) -> tuple[Array, Array, Array]:
    """Power about 0, power about the mean, and the number of modes (channels counted), for rings that have any."""
    power = _joint(spectrum.power)
    centred = power if spectrum.centred is None else np.minimum(_joint(spectrum.centred), power)
    present = spectrum.count > 0
    return power[present], centred[present], spectrum.count[present] * spectrum.channels


def _joint(power: Array) -> Array:
    """Power per ring, channels averaged."""
    return np.asarray(power.reshape(-1, power.shape[-1]).mean(axis=0))


def _minus_log1p(kappa: Array) -> Array:
    """kappa - log(1 + kappa) without cancellation for small kappa."""
    series = kappa**2 * (1 / 2 - kappa * (1 / 3 - kappa * (1 / 4 - kappa / 5)))
    return np.where(kappa < 1e-3, series, kappa - np.log1p(kappa))


def _log1p_minus(kappa: Array) -> Array:
    """log(1 + kappa) - kappa / (1 + kappa) without cancellation for small kappa."""
    series = kappa**2 * (1 / 2 - kappa * (2 / 3 - kappa * (3 / 4 - kappa * 4 / 5)))
    return np.where(kappa < 1e-3, series, np.log1p(kappa) - kappa / (1 + kappa))


def _root(spectrum: Spectrum, excess: Callable[[float], float]) -> float:
    power, _, count = _modes(spectrum)
    mean = float((count * power).sum() / count.sum())
    if not mean > 0:
        raise SigmaTuneError("the data has no power at all, so no noise level is tight; check the images.")
    scale = 0.5 * np.log(mean)
    low, high = scale + np.log(LOWEST), scale + np.log(HIGHEST)
    if excess(low) * excess(high) > 0:
        raise SigmaTuneError("no noise level costs that much or that little; ask for a tolerance nearer to 1.")
    return float(np.exp(brentq(excess, low, high, xtol=1e-12)))
