r"""Beta distributions fitted to a change density, and the density's own transform.

The measured change is a histogram: the share :math:`w_j` of the whole change falls into the bin :math:`[x_j, x_{j+1}]`
between clean image (x = 0) and noise (x = 1). Beta(a, b) is fitted by weighted maximum likelihood, its mass in every
bin integrated exactly,

.. math:: \max_{a, b} \sum_j w_j \log p_j, \qquad p_j = F_{a, b}(x_{j+1}) - F_{a, b}(x_j)

(densities at midpoints would be infinite or wrong at the ends). This minimises the Kullback-Leibler divergence from
measured to fitted shares, so a poor fit has a large divergence.

A schedule needs no Beta: the family ``measured`` places levels at the quantiles of the measured distribution itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import log
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import betainc, betaincc

from sigmatune.analysis.fold_intervals import JackknifeEstimate, jackknife
from sigmatune.analysis.result import Band, Of, Stepwise
from sigmatune.core.schedule import whole
from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError

PUBLISHED = ((0.5, 0.5), (0.6, 0.6))
"""The paper's parameters, chosen by hand: ADM-G and Stable Diffusion."""

_LIMIT = np.log(100.0)


def beta_parts(edges: Array, a: float, b: float) -> Array:
    """The mass of Beta(a, b) in bins, (M,), of edges in [0, 1], (M + 1,); scaled to sum to 1 if they leave a part out."""
    # Differences of small numbers on either side of the mean; differences of numbers near 1 would lose digits.
    split = int(np.searchsorted(edges, a / (a + b)))
    below, above = betainc(a, b, edges[: split + 1]), betaincc(a, b, edges[split:])
    mass = np.concatenate([np.diff(below), -np.diff(above)])
    return np.asarray(mass / mass.sum())


def fit(edges: Array, parts: Array, *, symmetric: bool = False) -> tuple[float, float]:
    """Fits Beta(a, b) to a histogram by weighted maximum likelihood.

    Args:
        edges: Of the bins, rising in [0, 1], (M + 1,).
        parts: The histogram, (M,), at least 0, with a positive sum.
        symmetric: Fit a = b.

    Raises:
        SigmaTuneError: for an invalid histogram, or one so narrow or split that a or b leaves [0.01, 100].
    """
    edges, parts = np.asarray(edges, dtype=np.float64), np.asarray(parts, dtype=np.float64)
    rising = edges.shape == (len(parts) + 1,) and bool((np.diff(edges) > 0).all()) and edges[0] >= 0 and edges[-1] <= 1
    if not rising or not (np.isfinite(parts) & (parts >= 0)).all() or parts.sum() <= 0:
        raise SigmaTuneError(
            "a fit needs bins with rising edges in [0, 1] and shares of at least 0 that are not all 0."
        )
    weights = parts / parts.sum()

    def loss(point: Array) -> float:
        a, b = np.exp(np.clip(point, -_LIMIT, _LIMIT))
        return -float(weights @ np.log(np.maximum(beta_parts(edges, a, b), 1e-300)))

    if symmetric:
        optimum = minimize_scalar(lambda p: loss(np.array([p, p])), bounds=(-_LIMIT, _LIMIT), options={"xatol": 1e-8})
        logs = np.array([optimum.x, optimum.x])
    else:
        tight = {"xatol": 1e-6, "fatol": 1e-12, "maxfev": 2000}
        logs = minimize(loss, _moments(edges, weights), method="Nelder-Mead", options=tight).x
    if np.abs(logs).max() > _LIMIT - 1e-3:
        raise SigmaTuneError("all change lies in one bin, which no Beta distribution fits; take more steps.")
    a, b = np.exp(logs).tolist()
    return a, b


def _moments(edges: Array, weights: Array) -> Array:
    """Log a and log b of the Beta with the histogram's mean and variance: the start of the search."""
    middle = (edges[1:] + edges[:-1]) / 2
    mean = float(weights @ middle)
    variance = max(float(weights @ (middle - mean) ** 2), 1e-6)
    size = max(mean * (1 - mean) / variance - 1, 0.05)
    return np.clip(np.log([mean * size, (1 - mean) * size]), -_LIMIT / 2, _LIMIT / 2)


@dataclass(frozen=True)
class BetaFit:
    """Beta distributions fitted to a change density.

    Attributes:
        a, b: The free fit, with jackknife intervals (:mod:`sigmatune.analysis.fold_intervals` says what they cover).
        symmetric: The fit of a = b.
        ratio: b / a of the free fit; above 1 there is more change towards the clean end.
        divergence: Kullback-Leibler divergence from the measured to the freely fitted shares, nats; 0 is a perfect fit.
        symmetric_divergence: The same for the symmetric fit.
    """

    a: JackknifeEstimate
    b: JackknifeEstimate
    symmetric: JackknifeEstimate
    ratio: JackknifeEstimate
    divergence: float
    symmetric_divergence: float

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        return asdict(self)


def fit_beta(analysis: Stepwise, of: Of = "x", *, band: Band | None = None, relative: bool = True) -> BetaFit:
    """Fits Beta(a, b) over time to the change density of an analysis, free and with a = b.

    Args:
        analysis: The analysis.
        of: The state or the estimate.
        band: Only the rings of a band.
        relative: Changes against k = 0, as in the paper, or of the log magnitudes themselves.

    Raises:
        SigmaTuneError: if nothing changes, or the change has no Beta shape.
    """

    def numbers(part: Stepwise) -> tuple[float, float, float, float]:
        edges, parts = part.parts(of, band=band, relative=relative)
        a, b = fit(edges, parts)
        return a, b, fit(edges, parts, symmetric=True)[0], b / a

    a, b, symmetric, ratio = jackknife(analysis, numbers, log=True)
    edges, parts = analysis.parts(of, band=band, relative=relative)
    free = divergence(parts, beta_parts(edges, a.value, b.value))
    equal = divergence(parts, beta_parts(edges, symmetric.value, symmetric.value))
    return BetaFit(a, b, symmetric, ratio, free, equal)


def divergence(p: Array, q: Array) -> float:
    """The Kullback-Leibler divergence of shares p from shares q, in nats."""
    held = p > 0
    return float(np.sum(p[held] * np.log(p[held] / np.maximum(q[held], 1e-300))))


def total_variation(p: Array, q: Array) -> float:
    """Half the sum of absolute differences of two lists of shares: the mass that differs, in [0, 1]."""
    return float(np.abs(p - q).sum() / 2)


def against_fit(
    analysis: Stepwise, fitted: BetaFit, a: float, *, of: Of = "x", relative: bool = True
) -> dict[str, float | None]:
    """Measures how far a hand-picked Beta(a, a) lies from the measured density and from the fit.

    Returns:
        ``a``; ``half_widths``: distance of log a to the symmetric fit in half widths of its interval, above 1 is
        outside, None where all samples agree and there is no width; ``total_variation``, ``divergence``: to the
        measured shares; ``total_variation_to_fit``: to the free fit.
    """
    edges, parts = analysis.parts(of, relative=relative)
    mine, best = beta_parts(edges, a, a), beta_parts(edges, fitted.a.value, fitted.b.value)
    half = log(fitted.symmetric.high / fitted.symmetric.low) / 2
    away = abs(log(fitted.symmetric.value / a))
    widths: float | None = away / half if half > 1e-4 else None
    return {
        "a": a,
        "half_widths": widths,
        "total_variation": total_variation(mine, parts),
        "divergence": divergence(parts, mine),
        "total_variation_to_fit": total_variation(mine, best),
    }


def equal_bins(
    analysis: Stepwise, bins: int = 50, *, of: Of = "x", band: Band | None = None, relative: bool = True
) -> list[float]:
    """The change density over equal bins of the way, clean end first: the option ``density`` of the family ``measured``.

    Args:
        analysis: The analysis.
        bins: How many; not more than the analysis has steps.
        of, band, relative: As for :func:`fit_beta`.

    Returns:
        Shares of the change, summing to 1; each step's change is spread evenly over its stretch.

    Raises:
        SigmaTuneError: for more bins than steps, or if nothing changes.
    """
    if whole(bins, "bins") > analysis.steps:
        raise SigmaTuneError(f"an analysis of {analysis.steps} steps fills at most as many bins, not {bins}.")
    edges, parts = analysis.parts(of, band=band, relative=relative)
    cdf = np.interp(np.linspace(0, 1, bins + 1), edges, np.append(0, parts.cumsum() / parts.sum()))
    return [float(share) for share in np.diff(cdf)]


def quantiles(
    analysis: Stepwise, of: Of = "x", *, band: Band | None = None, relative: bool = True
) -> Callable[[Array], Array]:
    """The quantile function of the change: share of the change, from the clean end, to share of the way.

    It needs no Beta distribution: steps between equal shares of the change are steps of equal change.

    Raises:
        SigmaTuneError: if nothing changes.
    """
    edges, parts = analysis.parts(of, band=band, relative=relative)
    below = np.append(0, parts.cumsum() / parts.sum())
    return lambda u: np.asarray(np.interp(u, below, edges))
