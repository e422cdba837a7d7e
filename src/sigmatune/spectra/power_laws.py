r"""Power laws: two or four numbers that say what a spectrum is.

.. math:: P(k) \approx A k^{-a} \qquad\text{and, with a break,}\qquad P(k) \approx B \, (k / k_b)^{-a_1},\ k \le k_b;
          \quad B \, (k / k_b)^{-a_2},\ k \ge k_b

Both are straight in :math:`\log k`, :math:`\log P` and are fitted there by least squares over whole rings without DC. A
ring's n_k modes hold n_k independent real numbers, for the mirror image of a mode adds none, and so for Gaussian images
:math:`n_k P(k)` is P times a :math:`\chi^2` variable of n_k degrees of freedom: over n images

.. math:: \operatorname{Var} \log P(k) \approx \frac{2}{n \, n_k} .

The weights are the mode counts. The standard errors are those of the weighted estimate under the variance that is asked
for:

- ``errors="modes"``: the variance above, of Gaussian images that share one spectrum. Channels are taken to be copies of
  one another, as those of photographs nearly are; if they are independent, the errors are too large by the root of
  their number.
- ``errors="images"``: the variance of log P(k) between the images, divided by n. It knows dependent channels and images
  that are not Gaussian. Rings count as independent; where images differ in contrast as a whole, the rings of an image
  move together, and then the error of A is too small and that of a too large.

The logarithm of a mean is on average :math:`1 / (n \, n_k)` too small; that is left in, being small next to the error
above.

The law itself is never exact: ``misfit``, chi-squared per degree of freedom, is about 1 if the law holds within those
errors.

References:
    | Natural images are scale invariant: Relations between the statistics of natural images and the response properties of
      cortical cells (Field, 1987), https://doi.org/10.1364/JOSAA.4.002379
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from sigmatune.noise import Array
from sigmatune.spectra.rings import whole_rings
from sigmatune.spectra.spectrum import QUANTISATION, Spectrum
from sigmatune.support.errors import SigmaTuneError

Errors = Literal["modes", "images"]


@dataclass(frozen=True)
class PowerLaw:
    r"""P(k) = A k^-a.

    Attributes:
        log_amplitude: Natural logarithm of A.
        exponent: a.
        log_amplitude_error, exponent_error: Their standard errors.
        correlation: Of the errors of log A and a.
        r_squared: Share of the weighted variance of log P over rings that the law explains; 1 if there is none to explain.
        misfit: Chi-squared per degree of freedom.
        rings: How many rings were fitted, k = 1..rings.
    """

    log_amplitude: float
    exponent: float
    log_amplitude_error: float
    exponent_error: float
    correlation: float
    r_squared: float
    misfit: float
    rings: int

    def power(self, k: ArrayLike) -> Array:
        """P at any frequencies k > 0 in cycles per image, in the shape of k."""
        return np.asarray(np.exp(self.log_amplitude - self.exponent * np.log(_positive(k))))

    def to_dict(self) -> dict[str, Any]:
        """The law as JSON has it; ``PowerLaw(**fields)`` is the inverse."""
        return asdict(self)


@dataclass(frozen=True)
class BrokenPowerLaw:
    r"""P(k) = B (k / k_b)^-a_1 up to the break k_b and B (k / k_b)^-a_2 from there on.

    Attributes:
        log_amplitude: Natural logarithm of B = P(k_b).
        break_at: k_b in cycles per image.
        low_exponent, high_exponent: a_1 and a_2.
        log_amplitude_error, break_error, low_exponent_error, high_exponent_error: Standard errors by the delta method,
            from the model's slope in all four parameters at the optimum; infinite where the two exponents are equal,
            because then the break may be anywhere.
        r_squared, misfit, rings: As in :class:`PowerLaw`.
        bic_gain: BIC of one law minus BIC of this one, two parameters more: above 0 the break pays, above 10 the
            evidence is very strong (Kass & Raftery, 1995). Chi-squared is divided by the misfit, if that is above 1
            (overdispersion), so that a break must do more than fix a small part of the misfit.
    """

    log_amplitude: float
    break_at: float
    low_exponent: float
    high_exponent: float
    log_amplitude_error: float
    break_error: float
    low_exponent_error: float
    high_exponent_error: float
    r_squared: float
    misfit: float
    rings: int
    bic_gain: float

    def power(self, k: ArrayLike) -> Array:
        """P at any frequencies k > 0 in cycles per image, in the shape of k."""
        u = np.log(_positive(k) / self.break_at)
        return np.asarray(np.exp(self.log_amplitude - np.where(u < 0, self.low_exponent, self.high_exponent) * u))

    def to_dict(self) -> dict[str, Any]:
        """The law as JSON has it; ``BrokenPowerLaw(**fields)`` is the inverse."""
        return asdict(self)


def power_law(spectrum: Spectrum, *, errors: Errors = "modes", centred: bool = False) -> PowerLaw:
    r"""Fits A k^-a by least squares of log P on log k, weighted with the mode counts.

    Args:
        spectrum: At least 3 whole rings beside DC, not per channel.
        errors: Where the standard errors come from: ``"modes"`` or ``"images"``; see the module.
        centred: Fit the power about the mean image.

    Raises:
        SigmaTuneError: for too few rings, a spectrum per channel or without power, or errors that it does not know.
    """
    points = _Points.of(spectrum, errors, centred=centred, least=3)
    design = np.stack([np.ones(len(points.u)), -points.u], axis=1)
    coefficients, cost = points.solve(design)
    covariance = points.covariance(design)
    log_amplitude_error, exponent_error = np.sqrt(np.diag(covariance)).tolist()
    return PowerLaw(
        float(coefficients[0]), float(coefficients[1]), log_amplitude_error, exponent_error,
        float(covariance[0, 1] / (log_amplitude_error * exponent_error)), points.explained(cost),
        points.chi_squared(design @ coefficients) / (len(points.u) - 2), len(points.u),
    )  # fmt: skip


def broken_power_law(spectrum: Spectrum, *, errors: Errors = "modes", centred: bool = False) -> BrokenPowerLaw:
    """Fits two power laws that meet at a break; the break is found by a search over its profile.

    For every k_b between the second ring and the last but one, the other three parameters are a linear fit. The best of
    a fine grid in log k_b is refined by Brent's method.

    Args:
        spectrum: At least 6 whole rings beside DC, not per channel.
        errors, centred: As for :func:`power_law`.

    Raises:
        SigmaTuneError: as :func:`power_law`.
    """
    points = _Points.of(spectrum, errors, centred=centred, least=6)
    u = points.u

    def design(at: float) -> Array:
        return np.stack([np.ones(len(u)), np.maximum(at - u, 0), -np.maximum(u - at, 0)], axis=1)

    def cost(at: float) -> float:
        return points.solve(design(at))[1]

    grid = np.linspace(u[1], u[-2], 4 * len(u) + 1)
    best = int(np.argmin([cost(at) for at in grid]))
    inside = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    refined = minimize_scalar(cost, bounds=inside, method="bounded", options={"xatol": 1e-10})
    at = float(min((refined.x, grid[best]), key=cost))
    coefficients, left = points.solve(design(at))
    by_break = np.where(u < at, coefficients[1], coefficients[2])  # derivative of log P by log k_b
    covariance = points.covariance(np.column_stack([design(at), by_break]))
    deviations = np.sqrt(np.diag(covariance)).tolist()
    chi_squared = points.chi_squared(design(at) @ coefficients)
    misfit = chi_squared / (len(u) - 4)
    one = np.stack([np.ones(len(u)), -u], axis=1)
    gain = (points.chi_squared(one @ points.solve(one)[0]) - chi_squared) / max(misfit, 1) - 2 * np.log(len(u))
    return BrokenPowerLaw(
        float(coefficients[0]), float(np.exp(at)), float(coefficients[1]), float(coefficients[2]),
        deviations[0], float(np.exp(at)) * deviations[3], deviations[1], deviations[2],
        points.explained(left), misfit, len(u), float(gain),
    )  # fmt: skip


@dataclass(frozen=True)
class _Points:
    """The points of a fit: u = log k, y = log P, weights, and the variance of every y; all (K,)."""

    u: Array
    y: Array
    weight: Array
    variance: Array

    @classmethod
    def of(cls, spectrum: Spectrum, errors: Errors, *, centred: bool, least: int) -> _Points:
        power, count = spectrum.centred if centred else spectrum.power, spectrum.count
        if errors not in get_args(Errors):
            raise SigmaTuneError(f"errors come from 'modes' or 'images', not from {errors!r}.")
        if power is None or (errors == "images" and (spectrum.log_variance is None or spectrum.images < 2)):
            raise SigmaTuneError(
                "one image gives no variation between images; measure at least two, or use errors='modes'."
            )
        if np.ndim(power) != 1:
            raise SigmaTuneError("a law describes one spectrum; measure without per_channel.")
        whole = min(whole_rings(*spectrum.size), spectrum.rings)
        if whole - 1 < least:
            raise SigmaTuneError(
                f"this law needs at least {least} whole rings beside DC, not {whole - 1}; measure larger images."
            )
        kept = slice(1, whole)
        if not (power[kept] > QUANTISATION).any():
            raise SigmaTuneError(
                "no ring has more power than 8-bit rounding; a law needs images that are not constant."
            )
        variance = 2 / (spectrum.images * count[kept])
        if errors == "images":
            variance = cast(Array, spectrum.log_variance)[kept] / spectrum.images
            if not (variance > 0).all():
                raise SigmaTuneError("the images do not differ in some ring; use errors='modes'.")
        y = np.log(np.maximum(power[kept], QUANTISATION))
        return cls(np.log(np.arange(1.0, whole)), y, count[kept], variance)

    def solve(self, design: Array) -> tuple[Array, float]:
        """The weighted least-squares estimate, (p,), and its weighted sum of squares."""
        root = np.sqrt(self.weight)
        estimate: Array = np.asarray(np.linalg.lstsq(design * root[:, None], self.y * root)[0], dtype=np.float64)
        return estimate, float(self.weight @ (self.y - design @ estimate) ** 2)

    def covariance(self, design: Array) -> Array:
        """Covariance of the weighted estimate, (p, p), when each y has its variance; infinite if p is too many."""
        normal = design.T @ (self.weight[:, None] * design)
        if np.linalg.cond(normal) > 1e14:
            return np.full(normal.shape, np.inf)
        estimate = np.linalg.solve(normal, design.T * self.weight)
        return np.asarray((estimate * self.variance) @ estimate.T)

    def chi_squared(self, fitted: Array) -> float:
        return float(((self.y - fitted) ** 2 / self.variance).sum())

    def explained(self, cost: float) -> float:
        """R squared."""
        total = float(self.weight @ (self.y - np.average(self.y, weights=self.weight)) ** 2)
        return 1 - cost / total if total > 0 else 1.0


def _positive(k: ArrayLike) -> Array:
    values = np.asarray(k, dtype=np.float64)
    if not (values > 0).all():
        raise SigmaTuneError("a power law has no value at k = 0, DC; ask for frequencies above 0.")
    return values
