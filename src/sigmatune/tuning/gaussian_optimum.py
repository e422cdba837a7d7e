r"""Spectrally optimal plans: the levels that serve Gaussian data with a given spectrum best, without a network call.

The error of :mod:`~sigmatune.tuning.closed_form` is minimised over :math:`\log \sigma_0, \dots, \log \sigma_{N-1}`, the
ends included. The N + 1 gaps, from the top of the range to the first level, between levels, and from the last level to
the bottom, are a softmax times the range, so every point of the search is a valid schedule.

Modes may have weights, those of a linear measure (:mod:`sigmatune.measures`): then it is the measure's squared error.

The optimum is exact for a linear denoiser only, and a high-order method can make its errors cancel there in a way that
does not transfer to a network. Regularised levels serve several spectra at once and change their spacing slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize

from sigmatune.core.schedule import Schedule, whole
from sigmatune.measures import Fitted
from sigmatune.measures.grid import counts, ring_means
from sigmatune.measures.whitened import ring_power
from sigmatune.noise import Array, NoisePath
from sigmatune.plan.reference import HIGHEST
from sigmatune.solvers import SOLVERS
from sigmatune.spectra import spectrum_of
from sigmatune.statistics.pieces import pieces
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.closed_form import errors

LEAST = 1e-6
"""Share of the range that every gap keeps, so that levels never coincide."""

FEW = 8
STOP = {"maxiter": 200, "ftol": 1e-13, "gtol": 1e-9}

NEGLIGIBLE = 1e-7
"""Added to the relative error before its logarithm: an error below it counts as zero, even through cancellation."""

SMALL_ENOUGH = float(np.log(1.01 * NEGLIGIBLE))
"""The search stops below this objective."""


@dataclass(frozen=True)
class Modes:
    """The modes of Gaussian data, equal ones counted together.

    Attributes:
        power: P, (modes,), positive.
        count: How many modes have it, (modes,).
        weight: What the squared error of each of them counts, (modes,); by default 1.
    """

    power: Array
    count: Array
    weight: Array | None = None

    @property
    def weights(self) -> Array:
        """The weights, (modes,)."""
        return np.ones_like(self.power) if self.weight is None else self.weight

    @property
    def size(self) -> float:
        """The weighted power per mode: the squared error of samples that are all 0."""
        return float(np.average(self.power * self.weights, weights=self.count))

    @classmethod
    def of_rings(cls, power: Any, count: Any) -> Modes:
        """Takes the power of rings and how many modes each of them has, (K,) both.

        Raises:
            SigmaTuneError: if a power is negative or not finite, or all are 0.
        """
        flat = cls.of(power)  # refuses an invalid spectrum
        floor = flat.power.max() * 1e-12
        return cls(np.maximum(np.asarray(power, dtype=np.float64), floor), np.asarray(count, dtype=np.float64))

    @classmethod
    def of(cls, power: Any) -> Modes:
        """Collects the modes of a grid of powers of any shape.

        Raises:
            SigmaTuneError: if a power is negative or not finite, or all are 0.
        """
        flat = np.asarray(power, dtype=np.float64).reshape(-1)
        if not np.isfinite(flat).all() or (flat < 0).any() or not (flat > 0).any():
            raise SigmaTuneError("a spectrum needs finite powers of at least 0, and one above.")
        floor = flat.max() * 1e-12  # a mode without power takes no part in any ratio
        values, count = np.unique(np.maximum(flat, floor), return_counts=True)
        return cls(values, count.astype(np.float64))


@dataclass(frozen=True)
class Regulariser:
    """Keeps an optimum from overfitting one exact spectrum.

    Attributes:
        scales: The spectrum is taken times each of these, and the relative errors are averaged.
        smoothness: Weight of the mean squared second difference of log sigma, against the log of the error.
    """

    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0)
    smoothness: float = 0.1


def error(solver: str, sigmas: Any, modes: Modes, **options: Any) -> float:
    """The squared Wasserstein error per mode of a schedule on Gaussian data, weighted as the modes are.

    Args:
        solver: A solver of the registry.
        sigmas: Levels, (N + 1,), descending, ending in 0.
        modes: The spectrum.
        options: The solver's options.
    """
    return float(_error(solver, torch.tensor(np.array(sigmas, dtype=np.float64)), modes, (1.0,), options))


def gradient(solver: str, sigmas: Any, modes: Modes, **options: Any) -> Array:
    """The derivative of :func:`error` in the N positive levels, (N,)."""
    levels = torch.tensor(np.array(sigmas, dtype=np.float64)[:-1], requires_grad=True)
    value = _error(solver, torch.cat([levels, levels.new_zeros(1)]), modes, (1.0,), options)
    return np.asarray(torch.autograd.grad(value, levels)[0].numpy())


def optimal(
    solver: str,
    steps: int,
    modes: Modes,
    path: NoisePath,
    *,
    regulariser: Regulariser | None = None,
    ends: tuple[float, float] | None = None,
    **options: Any,
) -> Schedule:
    """Finds the schedule with the smallest closed-form error.

    Args:
        solver: A solver of the registry, deterministic or stochastic.
        steps: N.
        modes: The spectrum.
        path: Bounds the levels; an infinite range is cut at 1000.
        regulariser: None for the plain optimum.
        ends: Fixes the first and the last positive level (N >= 2).
        options: The solver's options, such as eta.

    Returns:
        The schedule, of family "spectrally-optimal".

    Raises:
        SigmaTuneError: for an unknown solver or option, or ends outside the path's range.
    """
    steps = whole(steps, "steps")
    name, options = SOLVERS[solver].name, SOLVERS[solver].options(options)
    highest = SOLVERS[solver].highest(**options)
    low, high = np.log(path.sigma_min), np.log(min(path.sigma_max, HIGHEST, highest))
    if ends is not None:
        path.check(np.array(ends))
        low, high = np.log(ends[1]), np.log(ends[0])
    fixed = ends is not None

    def levels(x: torch.Tensor) -> torch.Tensor:
        gaps = (1 - LEAST) * torch.softmax(x, dim=0) + LEAST / len(x)
        inner: torch.Tensor = high - (high - low) * torch.cumsum(gaps, dim=0)[:-1]
        if fixed:
            inner = torch.cat([inner.new_tensor([high]), inner, inner.new_tensor([low])])
        return inner

    def objective(x: Array) -> tuple[float, Array]:
        point = torch.tensor(x, requires_grad=True)
        y = levels(point)
        sigmas = torch.cat([y.exp(), y.new_zeros(1)])
        scales = (1.0,) if regulariser is None else regulariser.scales
        relative = _error(name, sigmas, modes, scales, options) / modes.size
        value = torch.log(relative + NEGLIGIBLE)
        if regulariser is not None and len(y) > 2:
            value = value + regulariser.smoothness * y.diff(n=2).square().mean()
        return value.item(), torch.autograd.grad(value, point)[0].numpy()

    def coordinates(start: Array) -> Array:
        gaps = -np.diff(start) if fixed else -np.diff(np.concatenate([[high], start, [low]]))
        return np.asarray(np.log(np.maximum(gaps, 1e-4 * (high - low))))

    starts = [np.linspace(high, low, steps)] if fixed else _starts(steps, modes, low, high)
    # Few levels have several optima; many have one, and any start finds it.
    begins = sorted((coordinates(start) for start in starts), key=lambda x: objective(x)[0])
    x = _minimised(objective, begins if steps <= FEW else begins[:1])
    with torch.no_grad():
        sigmas = np.clip(levels(torch.from_numpy(x)).exp().numpy(), path.sigma_min, path.sigma_max)
    return Schedule(np.append(sigmas, 0.0), "spectrally-optimal", {"solver": name}).bound(path)


def power_of(images: torch.Tensor, measure: Fitted | None = None) -> Modes | None:
    """Estimates the spectrum of samples: mean power about the mean sample, averaged over rings of frequency.

    Args:
        images: (n, channels, height, width), n >= 2; with a measure that weighs modes, ``(n, channels, *grid)``.
        measure: A linear measure, whose weights the modes get.

    Returns:
        The modes; None for data that are neither images nor weighed by a measure, or that do not vary.
    """
    if measure is not None and measure.weights() is not None:
        return _weighted(images, measure) if len(images) > 1 else None
    if images.ndim != 4 or len(images) < 2:
        return None
    spectrum = spectrum_of((part.double() for part in pieces(images)), corners=True)
    power = spectrum.centred
    if power is None or not power.max() > 0:
        return None
    present = spectrum.count > 0  # very oblong images have rings without a mode
    return Modes.of(np.repeat(power[present], spectrum.count[present].astype(int)))


def _weighted(samples: torch.Tensor, measure: Fitted) -> Modes | None:
    """The modes of samples on a grid: one for every ring, and for every axis of the channels that has weights of its own."""
    grid, axes = tuple(samples.shape[2:]), measure.axes()
    mean = reduce(torch.add, (part.double().sum(dim=0) for part in pieces(samples))) / len(samples)
    turn = np.zeros((0, 0)) if axes is None else axes
    whole = ring_power(samples, turn)
    power = (whole - ring_power(mean[None], turn)) * (len(samples) / (len(samples) - 1))
    if not power.max() > 1e-12 * whole.max():  # what is left of samples that do not vary is rounding
        return None
    count = np.broadcast_to(counts(grid), power.shape)
    weight = ring_means(np.asarray(measure.weights()))[: len(power)]
    present = count > 0
    return replace(Modes.of_rings(np.maximum(power[present], 0), count[present]), weight=weight[present])


def _minimised(objective: Callable[[Array], tuple[float, Array]], begins: Sequence[Array]) -> Array:
    """The best minimum of L-BFGS from each start in turn, until one is negligible."""
    tried: list[tuple[float, Array]] = []
    for x in begins:
        if tried and tried[-1][0] < SMALL_ENOUGH:
            break
        if len(x) < 2:
            tried.append((objective(x)[0], x))
            continue
        minimum = minimize(objective, x, jac=True, method="L-BFGS-B", options=STOP, callback=_stop_when_negligible)
        tried.append((float(minimum.fun), minimum.x))
    return min(tried, key=lambda pair: pair[0])[1]


def _stop_when_negligible(intermediate_result: OptimizeResult) -> None:
    if intermediate_result.fun < SMALL_ENOUGH:
        raise StopIteration


def _error(
    solver: str, sigmas: torch.Tensor, modes: Modes, scales: Sequence[float], options: dict[str, Any]
) -> torch.Tensor:
    """The error per mode, averaged over the spectrum times each scale and divided by that scale."""
    power = torch.from_numpy(np.concatenate([scale * modes.power for scale in scales]))
    weight = torch.from_numpy(np.concatenate([modes.count * modes.weights / scale for scale in scales]))
    per_mode = errors(SOLVERS[solver].build(sigmas, **options), power)
    return (per_mode * weight).sum() / (len(scales) * float(modes.count.sum()))


def _starts(steps: int, modes: Modes, low: float, high: float) -> list[Array]:
    """Log levels to start from: even ones between two pairs of ends, and the KL-optimal curve of the typical mode."""
    strongest, weakest = np.log(modes.power.max()) / 2, np.log(modes.power.min()) / 2
    starts = []
    for up, down in ((1.5, -1.0), (3.0, 0.0)):
        first, last = np.clip(strongest + up, low, high), np.clip(weakest + down, low, high)
        starts.append(np.linspace(max(first, last + 0.1), last, steps + 2)[1:-1])
    scale = np.exp(np.average(np.log(modes.power), weights=modes.count) / 2)
    angle = np.linspace(np.arctan(np.exp(high) / scale), np.arctan(np.exp(low) / scale), steps + 2)[1:-1]
    starts.append(np.log(scale * np.tan(angle)))
    return [np.clip(start, low, high) for start in starts]
