r"""Chooses noise and levels of a solver for a spectrum, in closed form and without a network call.

On Gaussian data the covariance of every linear sampler is exact, so the amount of noise, the first and last level and
the spacing in between minimise a function of four numbers,

.. math:: \min_{\lambda, p, \sigma_0, \epsilon} \; \log \sum_k w_k n_k ( \sqrt{v_k} - \sqrt{P_k} )^2
          \Big/ \sum_k w_k n_k P_k ,

with the weights of a measure (:mod:`sigmatune.measures`): w = 1 is "rms"; with those of "whitened" noise that is left over in a
weak mode counts almost as much as a wrong strong one, as it does for eyes and for features, but a mode too weak to be
seen counts no more than its floor allows. It replaces a grid search over sets of
images. It is averaged over several scales of the spectrum, so that errors do not cancel for one scale only, and over weak
modes: a ring's mean hides axes that hold a hundredth of it, such as colour differences, and much noise in few steps is stable
in the mean and grows without bound there. The result is a candidate: a guard with a distance to data decides
(:mod:`sigmatune.workflows.tune_by_spectrum`).

The amount of noise is lambda_s for splittings in phase space and eta for stochastic position-space solvers; the levels
are ``phase-time`` for the former and Karras' curve for the latter, or, with ``levels="free"``, any
(:func:`~sigmatune.tuning.gaussian_optimum.optimal`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.optimize import minimize

from sigmatune import schedules
from sigmatune.core.schedule import Schedule, whole
from sigmatune.measures.whitened import mode_weights
from sigmatune.noise import Array, NoisePath
from sigmatune.plan.reference import HIGHEST
from sigmatune.solvers import SOLVERS, Solver
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.closed_form import errors
from sigmatune.tuning.gaussian_optimum import NEGLIGIBLE, Modes, Regulariser, optimal

Levels = Literal["curve", "free"]
Measure = Literal["whitened", "rms"]

MOST = 240
"""Evaluations of the closed form."""

WEAK = (0.03, 1e-3, 1e-5)
"""Shares of every ring's power that single modes of it may have; their errors count as parts of the ring's own size."""

COVER = 2.0
"""Standard deviations of the strongest mode that the first level has to cover. From a lower one, what the start noise lacks
has to come from noise that is added later, which fills a Gaussian mode, but not the classes and shapes of real data."""

STRENGTH = {"lambda_s": (0.02, 500.0), "eta": (0.02, 1.0)}
"""The options that scale the noise, and their search ranges."""


@dataclass(frozen=True)
class BySpectrum:
    """The chosen levels and options.

    Attributes:
        schedule: The levels.
        options: The solver's options.
        error: The squared error of the choice over that of samples that are all 0, the mean over the scales of the spectrum and
            over modes with a small share of their ring's power.
        default: The same of the solver's default options on the default levels.
    """

    schedule: Schedule
    options: dict[str, Any]
    error: float
    default: float


@dataclass(frozen=True)
class SpectralSearch:
    """What a search by the spectrum may move, and what it minimises.

    Attributes:
        levels: "curve": the family of the solver with the best power and ends; "free": then every level by itself.
        measure: What the error of a mode counts: "whitened" by its own power, or "rms" as much as any other's.
        regulariser: The scales of the spectrum, and how smooth free levels are.

    Raises:
        SigmaTuneError: for unknown levels or an unknown measure.
    """

    levels: Levels = "curve"
    measure: Measure = "whitened"
    regulariser: Regulariser = field(default_factory=Regulariser)

    def __post_init__(self) -> None:
        if self.levels not in get_args(Levels) or self.measure not in get_args(Measure):
            raise SigmaTuneError(
                f"levels are 'curve' or 'free' and a measure is 'whitened' or 'rms', not {self.levels!r} and {self.measure!r}."
            )


CURVE = SpectralSearch()


def choose(
    solver: str, steps: int, modes: Modes, path: NoisePath, search: SpectralSearch = CURVE, **options: Any
) -> BySpectrum:
    """Chooses the amount of noise and the levels for a spectrum.

    Args:
        solver: A solver of the registry, deterministic or not.
        steps: N.
        modes: The spectrum of the data.
        path: The model's noise path, which bounds the levels.
        search: What the search may move, and what it minimises.
        options: Options of the solver that stay fixed.

    Raises:
        SigmaTuneError: for an unknown solver or option.
    """
    steps, scales = whole(steps, "steps"), search.regulariser.scales
    chosen = SOLVERS[solver]
    fixed = chosen.options(options)
    strength = next((name for name in STRENGTH if name in fixed and name not in options), None)
    family = _PhaseTime(fixed) if chosen.augmented else _Karras()
    ends = _first_levels(modes, path, chosen, fixed)
    begin = np.array([0.0, *family.start])
    power = np.outer([*scales, *WEAK], modes.power)
    sizes = np.outer([*scales, *(1.0 for _ in WEAK)], modes.power)
    weight = modes.count * (mode_weights(modes.power, modes.count) if search.measure == "whitened" else 1.0)

    def read(x: Array) -> tuple[dict[str, Any], Callable[[], Schedule]]:
        values = dict(fixed)
        if strength is not None:
            values[strength] = float(np.clip(np.exp(x[0]), *STRENGTH[strength]))
        return values, lambda: family.schedule(steps, path, ends, x[1:])

    def value(values: dict[str, Any], schedule: Schedule) -> float:
        with torch.no_grad():
            table = chosen.build(torch.from_numpy(schedule.sigmas.copy()), **values)
            per_mode = errors(table, torch.from_numpy(power.ravel())).numpy().reshape(power.shape)
        return float(((per_mode @ weight) / (sizes @ weight)).mean())

    def objective(x: Array) -> float:
        values, levels_at = read(x)
        try:
            return float(np.log(value(values, levels_at()) + NEGLIGIBLE))
        except SigmaTuneError:  # ends that cross, levels that meet
            return 50.0

    default = value(fixed, family.schedule(steps, path, ends, np.array(family.start)))
    simplex = begin + np.vstack([np.zeros(len(begin)), np.diag(family.spread)])
    effort = {"maxfev": MOST, "initial_simplex": simplex, "xatol": 1e-2, "fatol": 1e-4}
    best_options, levels_at = read(minimize(objective, begin, method="Nelder-Mead", options=effort).x)
    schedule = levels_at()
    if search.levels == "free":
        weighed = replace(modes, weight=weight / modes.count)
        free = optimal(solver, steps, weighed, path, regulariser=search.regulariser, **best_options)
        covers = strength is None or free.sigmas[0] >= ends[0]
        schedule = free if covers and value(best_options, free) < value(best_options, schedule) else schedule
    return BySpectrum(schedule, best_options, value(best_options, schedule), default)


def _first_levels(modes: Modes, path: NoisePath, solver: Solver, fixed: dict[str, Any]) -> tuple[float, float]:
    """The lowest and the highest first level."""
    top = min(path.sigma_max, HIGHEST, solver.highest(**fixed))
    adds_noise = any(name in fixed for name in STRENGTH)
    least = COVER * float(np.sqrt(np.max(modes.power))) if adds_noise else path.sigma_min
    return float(np.clip(least, path.sigma_min, top)), top


class _PhaseTime:
    """The family of phase space: log power, share of log sigma_max, log eps."""

    spread = (1.0, 0.4, -0.6, 1.0)

    def __init__(self, process: dict[str, Any]) -> None:
        names = ("gamma", "nu", "kappa", "beta_start", "beta_end", "T")
        self.process = {name: process[name] for name in names}
        self.start = (float(np.log(2.0)), 0.0, float(np.log(1e-3)))

    def schedule(self, steps: int, path: NoisePath, ends: tuple[float, float], x: Array) -> Schedule:
        power, eps = float(np.exp(x[0])), float(np.exp(x[2]))
        high = float(np.clip(ends[1] * np.exp(min(x[1], 0.0)), *ends))
        return schedules.build("phase-time", steps, path, sigma_max=high, power=power, eps=eps, **self.process)


class _Karras:
    """Karras' curve: log rho, and both ends in log sigma."""

    spread = (-0.7, 0.5, -1.0, 1.0)
    start = (float(np.log(7.0)), 0.0, 0.0)

    def schedule(self, steps: int, path: NoisePath, ends: tuple[float, float], x: Array) -> Schedule:
        low = float(np.clip(path.sigma_min * np.exp(max(x[2], 0.0)), path.sigma_min, ends[1]))
        high = float(np.clip(ends[1] * np.exp(min(x[1], 0.0)), max(low, ends[0]), ends[1]))
        return schedules.build("karras", steps, path, sigma_min=low, sigma_max=high, rho=float(np.exp(x[0])))
