r"""Black-box search by Optuna: levels, Beta parameters or timestep subsets, solvers and their order, eta; any objective.

The objective only has to return a number per plan, so the search also covers plans that add noise, with a distance
between distributions. Plans are proposed by evolution, Optuna's genetic algorithm. On subsets of the model's timesteps it
is AutoDiffusion without the search over the network's layers.

A study lives in memory. The workbench's store keeps the values of its trials as plain numbers. Every proposal is a
function of the seed and the earlier trials, so a stopped study is replayed and resumes exactly. Or it lives in any
database that Optuna takes (``postgresql://...``), through which several machines can share it. Such a database must be
trusted. No study is ever read from a folder: a database of an older version may hold pickles, which can run code when
they are opened.

References:
    | Optuna: A Next-generation Hyperparameter Optimization Framework (Akiba et al., 2019), https://arxiv.org/abs/1907.10902
    | AutoDiffusion (Li et al., 2023), https://arxiv.org/abs/2309.10438
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from sigmatune import schedules
from sigmatune.core.schedule import Schedule, whole
from sigmatune.measures import Fitted
from sigmatune.noise import Array
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan.reference import HIGHEST
from sigmatune.solvers import SOLVERS
from sigmatune.statistics.frechet import frechet_distance
from sigmatune.statistics.pieces import pieces
from sigmatune.statistics.sliced import sliced_wasserstein
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import positive
from sigmatune.tuning.search import repair
from sigmatune.tuning.study import database, opened, optuna_module
from sigmatune.tuning.workbench import Workbench

Levels = Literal["free", "beta", "subset"]
Objective = Callable[[Plan], float]

TIMESTEPS = 1000
"""Evenly spaced times among which subsets are chosen: the timesteps of a model that has as many."""

BETA = (0.1, 5.0)
"""Range of the Beta parameters."""

POPULATION = 12
OBJECTIVES = ("paired", "sliced-wasserstein", "frechet")


@dataclass(frozen=True)
class SearchSpace:
    """The search space.

    Attributes:
        solvers: One or more solvers of the registry; the order of a method is part of its name.
        levels: "free", every level; "beta", the two parameters of Beta timesteps; "subset", which timesteps are taken.
        eta: The range of eta for solvers that have one; without it they keep their default.
    """

    solvers: Sequence[str] = ("dpmpp2m",)
    levels: Levels = "free"
    eta: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.solvers or self.levels not in ("free", "beta", "subset"):
            raise SigmaTuneError("a search space has at least one solver, and levels 'free', 'beta' or 'subset'.")
        object.__setattr__(self, "solvers", tuple(SOLVERS[name].name for name in self.solvers))

    @property
    def paired(self) -> bool:
        """Whether the end points of all its plans can be compared noise by noise."""
        most = {} if self.eta is None else {"eta": max(self.eta)}
        return all(SOLVERS[name].paired(**(most if SOLVERS[name].noise else {})) for name in self.solvers)


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        plan: The best plan.
        value: Its objective.
        trials: How many plans the study has tried, on all machines.
        study: Name of the study.
    """

    plan: Plan
    value: float
    trials: int
    study: str


def tune_by_trials(
    bench: Workbench,
    calls: int,
    space: SearchSpace,
    *,
    trials: int = 60,
    objective: Objective | str = "paired",
    affordable: Callable[[Plan], bool] = lambda plan: True,
) -> Found:
    """Searches a space for the plan with the smallest objective, by evolution.

    Args:
        bench: The workbench, whose tuning noises are used. Its ``study`` is the URL of a database, which is trusted; by
            default the study is in memory and its values in the workbench's store.
        calls: Network calls per image that a plan may take.
        space: The search space.
        trials: How many plans the study is to have.
        objective: "paired", the mean log error against the reference; "sliced-wasserstein", in the space of the
            workbench's measure, or "frechet", of average-pooled pixels, a distance to the set of reference images; or a
            function of a plan.
        affordable: Says whether a plan may still be tried.

    Raises:
        SigmaTuneError: without Optuna, for an unknown objective, a database that cannot be opened, or paired errors of
            plans that add noise.
    """
    optuna_module()  # a missing Optuna is refused before any work
    measure = _objective(bench, objective, space)
    builder = _Builder(bench, space, whole(calls, "calls"))
    positive(trials=whole(trials, "trials"))
    about = f"{bench.name}|{bench.settings}|{calls}|{space}|evolution|{_name(objective)}"
    about += "" if bench.measure_choice.name == "rms" else f"|{bench.measure_choice}"
    name = f"sigmatune-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
    measure = _kept(bench, builder, measure, name) if callable(objective) else measure
    study = opened(name, bench.study)
    _warn_of_old(bench)
    with database(bench.study):
        complete = _tried(study, builder, measure, trials, affordable)
        plans = [(one.value, builder.plan(one)) for one in complete]
    usable = [(value, plan) for value, plan in plans if plan is not None and value is not None]
    if not usable:
        raise SigmaTuneError("no plan was tried: the budget does not pay for one, or no choice of levels was valid.")
    value, best = min(usable, key=lambda pair: pair[0])
    return Found(best, value, len(complete), name)


def _tried(
    study: Any, builder: _Builder, measure: Objective, trials: int, affordable: Callable[[Plan], bool]
) -> list[Any]:
    """The trials of a study, completed as far as is affordable."""
    optuna, bench = optuna_module(), builder.bench
    complete = (optuna.trial.TrialState.COMPLETE,)
    for done in study.get_trials(states=complete):
        builder.spend(builder.plan(done))
    while (finished := len(study.get_trials(deepcopy=False, states=complete))) < trials:
        begun = len(study.get_trials(deepcopy=False))  # other machines' open ones, too: no two propose the same
        study.sampler = _evolution(optuna, bench.settings.seed + 7919 * begun)
        trial = study.ask()
        plan = builder.plan(trial)
        if plan is not None and not affordable(plan):
            break
        value = float("inf") if plan is None else measure(plan)
        study.tell(trial, value if np.isfinite(value) else 1e6)
        bench.progress("evolution trials", finished + 1, trials)
    return list(study.get_trials(states=complete))


def _warn_of_old(bench: Workbench) -> None:
    """Warns that a database which an older version left in a store is not read."""
    file = None if bench.store is None else bench.store / "studies.db"
    if file is not None and file.exists():
        warnings.warn(
            f"{file} is of an older version and is not read, because it may hold pickles; delete it.", stacklevel=3
        )


def _evolution(optuna: Any, seed: int) -> Any:
    """A fresh sampler for each trial: its proposals depend on the study and the seed alone, not on this process."""
    return optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed % 2**32)


class _Builder:
    """From a trial to its plan."""

    def __init__(self, bench: Workbench, space: SearchSpace, calls: int) -> None:
        self.bench, self.space, self.path = bench, space, bench.model.path
        self.steps = {name: SOLVERS[name].steps_for(calls) for name in space.solvers}
        self.infinite = bool(np.isinf(self.path.sigma_max))
        self.low, self.high = np.log(self.path.sigma_min), np.log(min(self.path.sigma_max, HIGHEST))
        self.times = schedules.build("uniform-trailing", TIMESTEPS, self.path).sigmas[:-1]

    def plan(self, trial: Any) -> Plan | None:
        """The plan of a trial, new or finished; None if its levels make no valid schedule."""
        if hasattr(trial, "params") and not hasattr(trial, "study"):
            trial = optuna_module().trial.FixedTrial(trial.params)
        name = (
            trial.suggest_categorical("solver", list(self.space.solvers))
            if len(self.steps) > 1
            else self.space.solvers[0]
        )
        options = {}
        if self.space.eta is not None and SOLVERS[name].noise:
            options[str(SOLVERS[name].noise)] = trial.suggest_float("eta", *self.space.eta)
        try:
            return compile_plan(self._schedule(trial, self.steps[name]), name, self.bench.model, **options)
        except SigmaTuneError:
            return None

    def _schedule(self, trial: Any, steps: int) -> Schedule:
        if self.space.levels == "beta":
            a, b = (trial.suggest_float(which, *BETA, log=True) for which in ("a", "b"))
            return schedules.build("beta", steps, self.path, a=a, b=b)
        if self.space.levels == "subset":
            chosen = sorted({trial.suggest_int(f"{steps}/t{i}", 0, TIMESTEPS - 1) for i in range(steps)})
            free = iter(i for i in range(TIMESTEPS) if i not in chosen)
            chosen = sorted([*chosen, *(next(free) for _ in range(steps - len(chosen)))])
            return Schedule(np.append(self.times[chosen], 0.0), "timestep-subset")
        head = np.array([np.inf] if self.infinite else [])
        names = [f"{steps}/y{i}" for i in range(steps - len(head))]
        y = np.array([trial.suggest_float(name, self.low, self.high) for name in names])
        levels = np.clip(np.exp(repair(y, self.low, self.high)), self.path.sigma_min, np.exp(self.high))
        return Schedule(np.concatenate([head, levels, [0.0]]), "trials")

    def spend(self, plan: Plan | None) -> None:
        """Counts a trial that a stopped run has paid for."""
        if plan is not None:
            rows = self.bench.padded(self.bench.settings.tuning)
            self.bench.spend("search", rows * plan.network_calls(self.bench.model))


def _objective(bench: Workbench, objective: Objective | str, space: SearchSpace) -> Objective:
    if callable(objective):
        return objective
    if objective not in OBJECTIVES:
        raise SigmaTuneError(f"an objective is one of {', '.join(OBJECTIVES)}, or a function, not {objective!r}.")
    if objective == "paired":
        if not space.paired:
            raise SigmaTuneError(
                "plans that add noise have no paired errors; pass objective='sliced-wasserstein', 'frechet' or a function."
            )
        return lambda plan: bench.score(plan, "tuning")
    exact, seed = bench.reference("tuning"), bench.settings.seed
    if objective == "frechet":
        bench.watch(objective, lambda x: np.array([frechet_distance(_pooled(x), _pooled(exact))]))
    else:
        measured = _applied(bench.measure, exact)
        bench.watch(
            objective, lambda x: np.array([sliced_wasserstein(_applied(bench.measure, x), measured, seed=seed)])
        )
    return lambda plan: float(bench.watched(plan, objective)[0])


def _applied(measure: Fitted, x: torch.Tensor) -> torch.Tensor:
    """Samples in a measure's space, (n, ...)."""
    return torch.cat([measure.apply(part) for part in pieces(x)])


def _pooled(x: torch.Tensor) -> Array:
    """Features for which a few dozen images suffice: means over a grid of 4 by 4."""
    if x.ndim == 4:
        x = torch.nn.functional.adaptive_avg_pool2d(x.double(), 4)
    return np.asarray(x.double().flatten(1).numpy())


def _kept(bench: Workbench, builder: _Builder, measure: Objective, study: str) -> Objective:
    """A function of the user's whose values are kept in the store; the workbench already keeps its own measurements."""
    seen: set[str] = set()

    def value(plan: Plan) -> float:
        name, measured = f"{study}|{hashlib.sha256(plan.coefficients.tobytes()).hexdigest()}", []

        def evaluated() -> Array:
            measured.append(measure(plan))
            return np.array(measured[-1], dtype=np.float64)

        number = float(bench.array(name, evaluated, purpose="search", evaluations=0))
        if not measured and name not in seen:  # a run that was stopped has paid for it
            builder.spend(plan)
        seen.add(name)
        return number

    return value


def _name(objective: Objective | str) -> str:
    return objective if isinstance(objective, str) else getattr(objective, "__qualname__", repr(type(objective)))
