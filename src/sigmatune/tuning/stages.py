"""The stages of tuning: every way to propose plans, by name.

A stage with many candidates first ranks them by the :mod:`~sigmatune.tuning.surrogate`, which costs no evaluations.
:mod:`~sigmatune.tuning.stage_words` says what each does and costs, :mod:`~sigmatune.tuning.stage_choice` decides whether it
runs, and :mod:`~sigmatune.tuning.climb` runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
import torch

from sigmatune.core.schedule import Schedule
from sigmatune.noise import Array
from sigmatune.solvers import SOLVERS
from sigmatune.spectra import spectrum_of
from sigmatune.spectra.bounds import tight_ends
from sigmatune.statistics.pieces import pieces
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.registry import Registry
from sigmatune.tuning import blackbox, candidates, discretisation
from sigmatune.tuning import trajectory as paths
from sigmatune.tuning.activations import PRICE
from sigmatune.tuning.gaussian_optimum import Regulariser, optimal, power_of
from sigmatune.tuning.gradient import DescentLimits, tune_by_gradient
from sigmatune.tuning.kriging import tune_by_kriging
from sigmatune.tuning.parameters import Freedom, Parameters
from sigmatune.tuning.search import search
from sigmatune.tuning.table_of_bench import TABLE, table_of, table_price
from sigmatune.tuning.task import Proposals, Stage, Task, payable, surrogate_of

FINALISTS = 5
"""Static candidates that are measured."""

TRAJECTORY_ROWS, TRAJECTORY_GRID = 8, 32

TRAJECTORY_MEMORY = 2**29
"""Bytes of the states at all nodes; large images leave room for fewer rows, and below two rows the stage is skipped."""

TRIALS = 12
"""Most plans that the surrogate stage tries."""

ITERATIONS = {"gradient": 12, "start": 25, "queries": 40, "coefficients": 25}
GRADIENTS = 1.1
"""Gradients per iteration of L-BFGS, as a rule; each costs as much as four plans, the choice among iterates one more."""

SNAPSHOTS = (3, 10, 20, 40, 60)
"""Iterations on the surrogate after which its coefficients are measured: the longer it runs, the less reliable it
is."""


def static(task: Task) -> Proposals:
    """The best static candidates, and schedules of other numbers of steps resampled to this one."""

    def scores(schedules: list[Schedule]) -> list[float]:
        plans = [task.plans([schedule]) for schedule in schedules]
        values = iter(task.estimates([plan for one in plans for plan in one]))
        return [next(values) if one else float("inf") for one in plans]

    ranked = candidates.rank(task.steps, task.bench.model.path, scores, task.bench.model.default_schedule)
    read = []
    for schedule in task.goal.others:
        with suppress(SigmaTuneError):  # a single step has no curve
            read.append(schedule.resample(task.steps))
    return task.plans([*read[:1], *ranked[: FINALISTS - len(read[:1])]])


def closed_form(task: Task) -> Proposals:
    """The regularised optimum for Gaussian data with the spectrum of the model's samples."""
    modes = power_of(task.bench.reference("tuning"), task.bench.measure)
    if modes is None:
        return []
    return task.plans([optimal(task.solver, task.steps, modes, task.bench.model.path, regulariser=Regulariser())])


def discretised(task: Task) -> Proposals:
    """The best optimum of both discretisation losses, between the ends of the best plan and the tight ones."""
    path, table = task.bench.model.path, table_of(task.bench)
    ends = set()
    for plan in task.best[:1]:
        high, low = float(plan.schedule.sigmas[0]), float(plan.schedule.sigmas[-2])
        ends.add((min(high, float(table.sigma[-1])), low))
    images = task.bench.reference("tuning")
    if images.ndim == 4 and min(images.shape[-2:]) > 1:
        with suppress(SigmaTuneError):  # a spectrum without a range
            spectrum = spectrum_of((part.double() for part in pieces(images)), corners=True)
            tight = tight_ends(spectrum, task.steps, order=SOLVERS[task.solver].order)
            ends.add((min(tight.sigma_max, path.sigma_max), max(tight.sigma_min, path.sigma_min)))
    optima = task.plans([
        discretisation.schedules(table, path, task.steps, ends=pair, weighting=weighting)[-1]
        for pair in sorted(ends) if pair[0] > pair[1]
        for weighting in ("riemann", "kl")
    ])  # fmt: skip
    best = np.argsort(task.estimates(optima), kind="stable")[:1]
    return [optima[i] for i in best]


def table_left(task: Task) -> int:
    """The remaining cost of the error table."""
    return 0 if task.bench.has(TABLE) else table_price(task.bench)


def trajectory(task: Task) -> Proposals:
    """The schedule from the dynamic programme on the student's states; one run serves all budgets."""
    bench, most, grid, rows = task.bench, task.most, _grid(task), _trajectory_rows(task)
    schedules = bench.once(
        _trajectories(task), lambda: paths.tune_by_trajectory(bench, most, task.solver, grid=grid, rows=rows)
    )
    return task.plans([schedules[task.steps - 1]])


def trajectory_left(task: Task) -> int:
    """The remaining cost of the trajectories."""
    if task.bench.has(_trajectories(task)) or not _has_trajectories(task):
        return 0
    levels = paths.nodes(task.bench, _grid(task))
    return paths.cost(task.bench, task.most, levels, solver=task.solver, rows=_trajectory_rows(task))


def _has_trajectories(task: Task) -> bool:
    """Whether no step depends on those after it, levels outnumber steps (whole timesteps may be few), and memory suffices."""
    return (
        not SOLVERS[task.solver].tapers
        and task.most < len(paths.nodes(task.bench, _grid(task)))
        and _trajectory_rows(task) > 0
    )


def _trajectory_rows(task: Task) -> int:
    """The number of noises to follow: as many as fit into memory, or 0 if fewer than two do."""
    each = paths.memory(task.bench, paths.nodes(task.bench, _grid(task)), solver=task.solver)
    rows = min(TRAJECTORY_ROWS, TRAJECTORY_MEMORY // each)
    return min(rows, task.bench.settings.tuning) if rows >= 2 else 0


def _grid(task: Task) -> int:
    """Fewer nodes for a solver that calls the network for every pair of nodes."""
    pairs = SOLVERS[task.solver].calls(2) > 2
    return max(TRAJECTORY_GRID // 2 if pairs else TRAJECTORY_GRID, 2 * task.most)


def _trajectories(task: Task) -> str:
    return f"trajectories of {SOLVERS[task.solver].name}, {task.most}"


def surrogate(task: Task) -> Proposals:
    """The optima of the surrogate, corrected by measurements."""
    return tune_by_kriging(
        task.bench, surrogate_of(task.bench), task.classical, task.solver, trials=min(TRIALS, task.bench.settings.evaluations),
        affordable=lambda plan: task.pays(task.trial(plan)),
    )  # fmt: skip


def searched(task: Task) -> Proposals:
    """Runs CMA-ES from the two best plans."""
    done = 0

    def objective(schedules: list[Schedule]) -> list[float]:
        nonlocal done
        task.bench.progress(f"{task.steps} steps: trials of the search", done, task.bench.settings.evaluations)
        done += len(schedules)
        plans = [task.plans([schedule]) for schedule in schedules]
        values = iter(task.bench.scores([plan for one in plans for plan in one], "tuning"))
        return [next(values) if one else float("inf") for one in plans]

    starts = [plan.schedule for plan in task.best[:2]]
    settings = task.bench.settings
    trial = task.trial(task.best[0])
    best = search(
        starts, objective, task.bench.model.path, evaluations=settings.evaluations, seed=settings.seed,
        affordable=lambda trials: task.pays(trials * trial),
    )  # fmt: skip
    return task.plans([best])


def by_gradient(task: Task) -> Proposals:
    """Runs L-BFGS over the levels from the best plan."""
    return _descended(task, Freedom(), "gradient")


def start(task: Task) -> Proposals:
    """Runs L-BFGS over the levels and the size of the start noise, from the best plan."""
    return _descended(task, Freedom(start=True), "start")


def queries(task: Task) -> Proposals:
    """Runs L-BFGS over the levels and, separately, the levels that the network receives, from the best plan.

    By another measure than rms, whose plans stay what they were, also over the size of the start noise.
    """
    return _descended(task, Freedom(queries=True, start=task.bench.measure.name != "rms"), "queries")


def coefficients(task: Task) -> Proposals:
    """Runs L-BFGS over levels and coefficients, from the best plan or from the surrogate's optimum."""

    def firsts(parameters: Parameters) -> list[Array]:
        points = surrogate_of(task.bench).descended(parameters, SNAPSHOTS)
        start = np.zeros(sum(parameters.sizes))  # which is measured in any case
        plans = [parameters.plan(torch.from_numpy(x), task.bench) for x in (start, *points)]
        return points[: max(len(payable(task, plans)) - 1, 0)]

    return _descended(task, Freedom(coefficients=True, sums="free"), "coefficients", firsts)


def _descended(
    task: Task, freedom: Freedom, stage: str, firsts: Callable[[Parameters], list[Array]] = lambda parameters: []
) -> Proposals:
    kept = task.trial(task.classical[0]) + task.reserve  # so that the result can be measured
    limits = DescentLimits(ITERATIONS[stage], affordable=lambda evaluations: task.pays(evaluations + kept))
    descended = tune_by_gradient(
        task.bench, task.classical[0].schedule, task.solver, freedom=freedom, firsts=firsts, limits=limits
    )
    return [descended]


def _has_gradient(task: Task) -> bool:
    """Whether levels can move smoothly from a plan of the solver."""
    return not task.bench.model.integer_time and bool(task.classical)


def evolution(task: Task) -> Proposals:
    """Runs a genetic algorithm over subsets of the model's timesteps."""
    best = blackbox.tune_by_trials(
        task.bench, SOLVERS[task.solver].calls(task.steps), blackbox.SearchSpace([task.solver], "subset"),
        trials=task.bench.settings.evaluations, affordable=lambda plan: task.pays(task.trial(plan)),
    )  # fmt: skip
    return [best.plan]


def _usual_descent(stage: str, task: Task) -> int:
    """What the iterations of a gradient stage cost as a rule."""
    iterations = ITERATIONS[stage]
    return task.rows(PRICE * GRADIENTS * iterations, validation=iterations)


def _usual_trials(task: Task) -> int:
    return task.rows(task.bench.settings.evaluations)


def _has_plans(task: Task) -> bool:
    return bool(task.best)


def _first_trial(task: Task) -> int:
    return task.trial(task.classical[0])


STAGES: Registry[Stage] = Registry(
    "tuning stage",
    {
        stage.name: stage
        for stage in (
            Stage("static", static, costly=False, usual=lambda task: task.rows(FINALISTS + 1)),
            Stage("closed-form", closed_form, costly=False, linear=True),
            Stage("discretisation", discretised, costly=False, left=table_left, first=table_left, linear=True),
            Stage(
                "trajectory",
                trajectory,
                costly=False,
                left=trajectory_left,
                possible=_has_trajectories,
                first=trajectory_left,
                linear=True,
            ),
            Stage(
                "surrogate",
                surrogate,
                possible=lambda task: bool(task.classical),
                linear=True,
                usual=lambda task: task.rows(TRIALS),
            ),
            Stage("search", searched, possible=_has_plans, usual=_usual_trials),
            *(
                Stage(
                    # all but the gradient run even after the search for levels has ended
                    name,
                    run,
                    coefficients=name != "gradient",
                    possible=_has_gradient,
                    first=_first_trial,
                    linear=True,
                    usual=partial(_usual_descent, name),
                )
                for name, run in (
                    ("gradient", by_gradient),
                    ("start", start),
                    ("queries", queries),
                    ("coefficients", coefficients),
                )
            ),
            Stage(
                "evolution",
                evolution,
                possible=_has_plans,
                first=lambda task: task.trial(task.best[0]),
                usual=_usual_trials,
            ),
        )
    },
)
