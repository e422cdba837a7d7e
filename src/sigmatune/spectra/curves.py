r"""Noise schedules from a spectrum: the logSNR curves of spectrally guided schedules.

A ring of power P is at the signal-to-noise ratio :math:`\kappa = P / \sigma^2`. A curve visits the rings from the
coarsest (v = 1, noise) to the finest (v = 0, clean) and is, at each v, at the noise level where the visited ring has
the ratio

.. math:: \log \kappa(v) = (1 - v) \log \kappa_{\max} + v \log \kappa_{\min}, \qquad
    \lambda(v) = \log \kappa(v) - \log P(f(v)), \qquad \sigma = e^{-\lambda / 2}

==================== ==================================================================================================
frequency-focused    f is linear from k_max (v = 0) to 1 (v = 1)
power-focused        f(v) = Q(1 - v), Q the quantile function of P(k) normalised to one
mixed                the mean of the two curves :math:`\lambda`
==================== ==================================================================================================

All have the tight ends :math:`\sigma_{\max}^2 = \max_k P(k) / \kappa_{\min}` and :math:`\sigma_{\min}^2 = P(k_{\max}) /
\kappa_{\max}`.

P here is :math:`\max_{j \ge k} P(j)`, the running maximum from the fine end, floored at the quantisation power. A
curve needs a P that does not rise with k. The running maximum is the smallest such majorant: every ring is reached no
later than its own power requires, and both ends keep their formulas. (Isotonic regression would average a bump away and
move the ends.) log P is linear between rings, and so is the distribution function behind Q, whose mass between two
rings is the mean of their powers. Hence every curve is piecewise linear in v with a slope of at most :math:`\log
\kappa_{\min} / \kappa_{\max} < 0`: strictly monotone, with an exact inverse, whatever the spectrum.

Reference: Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026), https://arxiv.org/abs/2603.19222
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from sigmatune.noise import LEVEL_TOLERANCE, Array
from sigmatune.spectra.spectrum import QUANTISATION
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.registry import Registry

KAPPA_MIN, KAPPA_MAX = 0.01, 20.0
"""Signal-to-noise ratios at the two ends: our measurement (``benchmarks/ends.py``); not compared with the paper's."""


@dataclass(frozen=True, eq=False)
class Curve:
    r"""A strictly falling logSNR :math:`\lambda(v)`, v from 0 (clean) to 1 (noise), of one spectrum or of one per row.

    .. math:: \lambda(v) = a + b \, [(1 - v) \log \kappa_{\max} + v \log \kappa_{\min} - \log P(f(v))]

    With rows, v and sigma are broadcast against (R, 1) and the results have a leading row axis.

    Attributes:
        knots: v at the knots, (R, M), rising from 0 to 1.
        log_power: log P(f(v)) at the knots, (R, M), not falling.
        log_kappa: Natural logarithms of kappa_max and kappa_min.
        scale, shift: b > 0 and a, (R, 1).
        shared: There is one spectrum and no row axis; then R = 1.
    """

    knots: Array
    log_power: Array
    log_kappa: tuple[float, float]
    scale: Array
    shift: Array
    shared: bool

    def logsnr(self, v: ArrayLike) -> Array:
        """The logSNR at v in [0, 1], (...) or (R, ...)."""
        return self._per_row(lambda row, v: self._natural(row, v) * self.scale[row] + self.shift[row], _inside(v))

    def sigma(self, v: ArrayLike) -> Array:
        """The noise level at v in [0, 1], exp(-logsnr / 2)."""
        return np.asarray(np.exp(-self.logsnr(v) / 2))

    def slope(self, v: ArrayLike) -> Array:
        r"""The derivative :math:`d \lambda / dv < 0`, constant between knots; at a knot that of the noisier side."""

        def of_row(row: int, v: Array) -> Array:
            knots, values = self.knots[row], self.log_power[row]
            left = np.searchsorted(knots, np.minimum(v, np.nextafter(1, 0)), side="right") - 1
            rise = (values[left + 1] - values[left]) / (knots[left + 1] - knots[left])
            return np.asarray((self.log_kappa[1] - self.log_kappa[0] - rise) * self.scale[row])

        return self._per_row(of_row, _inside(v))

    def v(self, sigma: ArrayLike) -> Array:
        """The v of a noise level: the exact inverse of :meth:`sigma`.

        Raises:
            SigmaTuneError: for a level outside the curve's ends.
        """
        levels = np.asarray(sigma, dtype=np.float64)
        low, high = (end if self.shared else end.reshape(-1, *[1] * max(levels.ndim - 1, 1)) for end in self.ends)
        if not ((levels >= low * (1 - LEVEL_TOLERANCE)) & (levels <= high * (1 + LEVEL_TOLERANCE))).all():
            raise SigmaTuneError(
                f"a sigma lies outside the curve, whose ends are {low.min():.6g} and {high.max():.6g}; choose one inside."
            )

        def of_row(row: int, sigma: Array) -> Array:
            natural = (-2 * np.log(sigma) - self.shift[row]) / self.scale[row]
            fall = np.maximum.accumulate(-self._natural(row, self.knots[row]))
            return np.asarray(np.interp(-natural, fall, self.knots[row]))

        return self._per_row(of_row, levels)

    @property
    def ends(self) -> tuple[Array, Array]:
        """sigma_min and sigma_max, each a number or (R,)."""
        ends = self.sigma(np.array([0.0, 1.0]))
        return ends[..., 0], ends[..., 1]

    def between(self, sigma_min: ArrayLike, sigma_max: ArrayLike) -> Curve:
        r"""Maps the curve onto other ends, affinely in logSNR, so that it stays strictly monotone.

        Solving for the kappas with these ends fails: with a steep spectrum in a narrow range kappa_max would
        fall below kappa_min, and the curve would turn round between rings of equal power.

        Args:
            sigma_min, sigma_max: The new ends, each a number or (R,).

        Raises:
            SigmaTuneError: unless 0 < sigma_min < sigma_max < inf in every row.
        """
        low, high = (np.asarray(end, dtype=np.float64).reshape(-1, 1) for end in (sigma_min, sigma_max))
        if not ((low > 0) & (low < high) & np.isfinite(high)).all():
            raise SigmaTuneError("a curve's ends must be finite with 0 < sigma_min < sigma_max in every row.")
        rows = range(len(self.knots))
        clean, noisy = np.array([self._natural(row, np.array([0.0, 1.0])) for row in rows]).T[:, :, None]
        scale = 2 * np.log(high / low) / (clean - noisy)
        return replace(self, scale=scale, shift=-2 * np.log(low) - scale * clean)

    def _natural(self, row: int, v: Array) -> Array:
        """The logSNR of one row before it is mapped onto other ends."""
        first, last = self.log_kappa
        return np.asarray(first + (last - first) * v - np.interp(v, self.knots[row], self.log_power[row]))

    def _per_row(self, of_row: Callable[[int, Array], Array], values: Array) -> Array:
        """Applies a function row by row, so that no row's bits depend on its neighbours."""
        if self.shared:
            return np.asarray(of_row(0, values.ravel())).reshape(values.shape)
        rows = len(self.knots)
        spread = np.broadcast_to(values, np.broadcast_shapes(values.shape, (rows, *[1] * max(values.ndim - 1, 1))))
        flat = np.ascontiguousarray(spread).reshape(rows, -1)
        return np.stack([of_row(row, flat[row]) for row in range(rows)]).reshape(spread.shape)


def frequency_focused(power: ArrayLike, *, kappa_min: float = KAPPA_MIN, kappa_max: float = KAPPA_MAX) -> Curve:
    r"""Builds the curve that gives every octave of noise the rings that it hides, :math:`f(v) = k_{\max} - v (k_{\max} - 1)`.

    Args:
        power: P(k), (K,) or one spectrum per row, (R, K); k = 0, DC, is left out unless it is all there is.
        kappa_min, kappa_max: P / sigma^2 of the coarsest ring at v = 1 and of the finest at v = 0.

    Raises:
        SigmaTuneError: for powers that are not finite numbers of at least 0, or kappas that are not 0 < min < max.
    """
    rings = _rings(power)
    knots = np.broadcast_to(np.linspace(0, 1, rings.shape[-1]), rings.shape)
    return _curve(power, knots, _majorant(rings), kappa_min, kappa_max)


def power_focused(
    power: ArrayLike, *, kappa_min: float = KAPPA_MIN, kappa_max: float = KAPPA_MAX, count: ArrayLike | None = None
) -> Curve:
    r"""Builds the curve that spends equal parts of v on equal parts of the power, :math:`f(v) = Q(1 - v)`.

    Args:
        power, kappa_min, kappa_max: As for :func:`frequency_focused`.
        count: n_k, the modes of each ring, (K,), to weigh rings by :math:`n_k P(k)` instead of :math:`P(k)`.

    Raises:
        SigmaTuneError: as :func:`frequency_focused`, or for counts that do not fit or are not positive.
    """
    rings = _rings(power)
    return _curve(
        power, _power_knots(rings, _counts(count, np.shape(power)[-1])), _majorant(rings), kappa_min, kappa_max
    )


def mixed(
    power: ArrayLike, *, kappa_min: float = KAPPA_MIN, kappa_max: float = KAPPA_MAX, count: ArrayLike | None = None
) -> Curve:
    r"""Builds the mean of the two curves, :math:`\lambda = (\lambda_{\text{frequency}} + \lambda_{\text{power}}) / 2`.

    Arguments and errors as :func:`power_focused`.
    """
    rings = _rings(power)
    even, masses = np.linspace(0, 1, rings.shape[-1]), _power_knots(rings, _counts(count, np.shape(power)[-1]))
    values = _majorant(rings)
    knots = np.sort(np.concatenate([np.broadcast_to(even, rings.shape), masses], axis=-1), axis=-1)
    halves = [
        (np.interp(v, even, value) + np.interp(v, mass, value)) / 2
        for v, mass, value in zip(knots, masses, values, strict=True)
    ]
    return _curve(power, knots, np.maximum.accumulate(np.array(halves), axis=-1), kappa_min, kappa_max)


CURVES: Registry[Callable[..., Curve]] = Registry(
    "spectral curve", {"frequency": frequency_focused, "power": power_focused, "mixed": mixed}
)


def _inside(v: ArrayLike) -> Array:
    values = np.asarray(v, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise SigmaTuneError("v must lie in [0, 1], 0 the clean end and 1 the noisy one.")
    return values


def _rings(power: ArrayLike) -> Array:
    """The floored powers from k_max down to 1, (R, M), M at least 2: a single ring stands at both ends."""
    try:
        values = np.array(power, dtype=np.float64)
    except (TypeError, ValueError):
        raise SigmaTuneError("a spectrum is a list of powers P(k), or one list per row, all of one length.") from None
    if values.ndim not in (1, 2) or values.size == 0 or not np.isfinite(values).all() or (values < 0).any():
        raise SigmaTuneError(
            f"a spectrum needs finite powers of at least 0, (K,) or (R, K), not these of shape {values.shape}."
        )
    rings = np.maximum(np.atleast_2d(values), QUANTISATION)[:, :0:-1] if values.shape[-1] > 1 else None
    if rings is None or rings.shape[-1] == 1:
        only = np.maximum(np.atleast_2d(values)[:, -1:], QUANTISATION)
        return np.repeat(only, 2, axis=-1)
    return np.ascontiguousarray(rings)


def _majorant(rings: Array) -> Array:
    return np.asarray(np.log(np.maximum.accumulate(rings, axis=-1)))


def _counts(count: ArrayLike | None, rings: int) -> Array | None:
    if count is None or rings < 3:  # a single ring has no masses to weigh
        return None
    counts = np.asarray(count, dtype=np.float64)
    if counts.shape != (rings,) or not (np.isfinite(counts) & (counts > 0)).all():
        raise SigmaTuneError(f"count must hold one positive number of modes for each of the {rings} rings.")
    return counts[:0:-1]


def _power_knots(rings: Array, counts: Array | None) -> Array:
    """v at every ring: the share of the power beyond it, summed from the fine end, where the smallest shares are."""
    mass = rings / rings.max(axis=-1, keepdims=True)
    if counts is not None:
        mass = mass * (counts / counts.max())
    between = (mass[:, 1:] + mass[:, :-1]) / 2
    total = np.cumsum(between, axis=-1)
    return np.concatenate([np.zeros((len(rings), 1)), total / total[:, -1:]], axis=-1)


def _curve(power: ArrayLike, knots: Array, log_power: Array, kappa_min: float, kappa_max: float) -> Curve:
    if not 0 < kappa_min < kappa_max < np.inf:
        raise SigmaTuneError(f"need 0 < kappa_min < kappa_max, got {kappa_min!r} and {kappa_max!r}.")
    rows = len(knots)
    kappas = (float(np.log(kappa_max)), float(np.log(kappa_min)))
    return Curve(np.array(knots), log_power, kappas, np.ones((rows, 1)), np.zeros((rows, 1)), np.ndim(power) == 1)
