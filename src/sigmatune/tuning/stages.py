"""Tuning in stages: cheap ones first, each from the best so far, until the next one does not pay.

========================== =========================================================== ==================================
stage                      what it proposes                                            network evaluations per image
========================== =========================================================== ==================================
``static``                 families over their parameters and ends                     about 28 K
``closed-form``            the optimum for Gaussian data of the samples' spectrum      none
``discretisation``         exact optima of the discretisation loss                     one table for all budgets
``trajectory``             dynamic programming on the student's own states             one table for all budgets
``search``                 CMA-ES over the levels                                      K per trial
``gradient``               L-BFGS through the plan, over the levels                    about 4 K per step
``coefficients``           the same over the plan's own coefficients                   about 4 K per step
========================== =========================================================== ==================================

Proposals are ranked on the tuning noises. After each stage the leader is measured on the validation noises; a costly stage that
does not improve on them ends the climb. What a stage brought and what it cost is written down and stays with the plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sigmatune.errors import SigmaTuneError
from sigmatune.plan import Plan
from sigmatune.registry import Registry
from sigmatune.schedule import Schedule
from sigmatune.solvers import SOLVERS
from sigmatune.spectra import spectrum_of
from sigmatune.spectra.bounds import tight_ends
from sigmatune.tuning import candidates, discretisation
from sigmatune.tuning.error_table import ErrorTable, tabulate
from sigmatune.tuning.gradient import Freedom, tune_by_gradient
from sigmatune.tuning.search import search
from sigmatune.tuning.spectral import Regulariser, optimal, power_of
from sigmatune.tuning.trajectory import tune_by_trajectory
from sigmatune.tuning.workbench import Workbench

SCREEN = 8
"""Tuning noises on which static candidates are screened."""

FINALISTS = 4
TABLE_ROWS, TABLE_LEVELS = 16, 32
TRAJECTORY_ROWS, TRAJECTORY_STEPS = 16, 10
"""Rows of the trajectory tuner, and the budget up to which one table serves all."""

ITERATIONS = {"gradient": 12, "coefficients": 25}

PAYS = 0.005
"""A costly stage pays if it lowers the mean log error on the validation noises by more than this: half a percent."""

Proposals = list[Plan]


@dataclass(frozen=True)
class Task:
    """What a stage is asked for.

    Attributes:
        bench: The workbench; stages see its tuning noises, the gradient also the validation noises.
        steps: N.
        solver: A deterministic solver of the registry.
        best: The plans so far, best first.
    """

    bench: Workbench
    steps: int
    solver: str
    best: Sequence[Plan]

    def plans(self, schedules: Sequence[Schedule]) -> Proposals:
        """The plans of schedules; without those whose levels a network of whole timesteps cannot tell apart."""
        found = []
        for schedule in schedules:
            try:
                found.append(self.bench.plan(schedule, self.solver))
            except SigmaTuneError:
                if not self.bench.model.integer_time:
                    raise
        return found


@dataclass(frozen=True)
class Stage:
    """One way to propose plans.

    Attributes:
        name: Its name in the registry.
        run: Returns plans for a :class:`Task`.
        costly: If it does not pay on the validation noises, no further stage is run.
    """

    name: str
    run: Callable[[Task], Proposals]
    costly: bool = True


def static(task: Task) -> Proposals:
    """The best static candidates."""

    def scores(schedules: list[Schedule]) -> list[float]:
        values: list[float] = []
        for schedule in schedules:
            plans = task.plans([schedule])
            rows = min(SCREEN, task.bench.settings.tuning)
            values.append(task.bench.score(plans[0], "tuning", rows=rows) if plans else float("inf"))
        return values

    ranked = candidates.rank(task.steps, task.bench.model.path, scores, task.bench.model.default_schedule)
    return task.plans(ranked[:FINALISTS])


def closed_form(task: Task) -> Proposals:
    """The regularised optimum for Gaussian data with the spectrum of the model's samples."""
    modes = power_of(task.bench.reference("tuning"))
    if modes is None:
        return []
    return task.plans([optimal(task.solver, task.steps, modes, task.bench.model.path, regulariser=Regulariser())])


def table_of(bench: Workbench) -> ErrorTable:
    """The model's error table on its own samples; measured once per workbench, and kept in its folder."""
    images = bench.reference("tuning")[:TABLE_ROWS]
    size = bench.settings.micro_batch

    def measured() -> ErrorTable:
        found = tabulate(bench.model, images, levels=TABLE_LEVELS, seed=bench.settings.seed, micro_batch=size)
        calls = sum(bench.model.calls_at(float(level)) for level in found.sigma)
        bench.spend("table", bench.padded(len(images)) * calls)
        return found

    return bench.once("error-table", measured, ErrorTable.load)


def discretised(task: Task) -> Proposals:
    """Optima of both discretisation losses, between the ends of the best plan and the tight ones."""
    path, table = task.bench.model.path, table_of(task.bench)
    ends = set()
    for plan in task.best[:1]:
        high, low = float(plan.schedule.sigmas[0]), float(plan.schedule.sigmas[-2])
        ends.add((min(high, float(table.sigma[-1])), low))
    images = task.bench.reference("tuning")
    if images.ndim == 4 and min(images.shape[-2:]) > 1:
        with suppress(SigmaTuneError):  # a spectrum that leaves no range
            tight = tight_ends(spectrum_of(images.double(), corners=True), task.steps, order=SOLVERS[task.solver].order)
            ends.add((min(tight.sigma_max, path.sigma_max), max(tight.sigma_min, path.sigma_min)))
    found = [
        discretisation.schedules(table, path, task.steps, ends=pair, weighting=weighting)[-1]
        for pair in sorted(ends) if pair[0] > pair[1]
        for weighting in ("riemann", "kl")
    ]  # fmt: skip
    return task.plans(found)


def trajectory(task: Task) -> Proposals:
    """The schedule that the dynamic programme on the student's states finds; one run serves all budgets."""
    if any(SOLVERS[task.solver].calls(n) != n for n in range(1, task.steps + 1)):
        return []
    most = max(TRAJECTORY_STEPS, task.steps)
    rows = min(TRAJECTORY_ROWS, task.bench.settings.tuning)
    try:
        found = task.bench.once(
            f"trajectory-{SOLVERS[task.solver].name}-{most}",
            lambda: tune_by_trajectory(task.bench, most, task.solver, rows=rows),
        )
    except SigmaTuneError:  # more steps than a network of whole timesteps has levels
        return []
    return task.plans([found[task.steps - 1]])


def searched(task: Task) -> Proposals:
    """What CMA-ES finds from the two best."""

    def objective(schedules: list[Schedule]) -> list[float]:
        plans = [task.plans([schedule]) for schedule in schedules]
        values = iter(task.bench.scores([plan for one in plans for plan in one], "tuning"))
        return [next(values) if one else float("inf") for one in plans]

    starts = [plan.schedule for plan in task.best[:2]]
    settings = task.bench.settings
    found = search(starts, objective, task.bench.model.path, evaluations=settings.evaluations, seed=settings.seed)
    return task.plans([found])


def by_gradient(task: Task) -> Proposals:
    """What L-BFGS over the levels finds from the best."""
    if task.bench.model.integer_time or not task.best:
        return []
    return [tune_by_gradient(task.bench, task.best[0].schedule, task.solver, iterations=ITERATIONS["gradient"])]


def coefficients(task: Task) -> Proposals:
    """What L-BFGS over levels, queries and tied coefficients finds from the best."""
    if task.bench.model.integer_time or not task.best:
        return []
    freedom = Freedom(coefficients=True)
    return [
        tune_by_gradient(
            task.bench, task.best[0].schedule, task.solver, freedom=freedom, iterations=ITERATIONS["coefficients"]
        )
    ]


STAGES: Registry[Stage] = Registry(
    "tuning stage",
    {
        stage.name: stage
        for stage in (
            Stage("static", static, costly=False),
            Stage("closed-form", closed_form, costly=False),
            Stage("discretisation", discretised, costly=False),
            Stage("trajectory", trajectory, costly=False),
            Stage("search", searched),
            Stage("gradient", by_gradient),
            Stage("coefficients", coefficients),
        )
    },
)

AUTO = ("static", "closed-form", "discretisation", "trajectory", "gradient")
"""The stages of ``method="auto"``."""


def climb(bench: Workbench, steps: int, solver: str, names: Sequence[str]) -> tuple[Plan, list[dict[str, Any]]]:
    """Runs stages in order and returns the plan that is best on the validation noises, and what each stage brought.

    Args:
        bench: The workbench; its tuning and validation noises are used.
        steps: N.
        solver: A deterministic solver of the registry.
        names: Stages, in order; the first has to propose something.

    Returns:
        The plan, and per stage its name, network evaluations by purpose, seconds, proposals, the leader's mean log error
        on tuning and validation noises, and whether it improved on validation.

    Raises:
        SigmaTuneError: for an unknown stage, or if no stage proposes anything.
    """
    stages = [STAGES[name] for name in names]
    ranked: list[tuple[float, Plan]] = []
    best: tuple[float, Plan] | None = None
    log: list[dict[str, Any]] = []
    for stage in stages:
        if bench.progress is not None:
            bench.progress(f"{steps} steps: {stage.name}", len(log), len(stages))
        cost, began = bench.meter(), time.monotonic()
        proposed = stage.run(Task(bench, steps, solver, [plan for _, plan in ranked]))
        ranked += zip(bench.scores(proposed, "tuning"), proposed, strict=True)
        ranked.sort(key=lambda entry: entry[0])
        if not ranked:
            continue
        value = bench.score(ranked[0][1], "validation")
        paid = best is None or value < best[0] - PAYS
        spent = {k: v for k, v in cost()["network_evaluations"].items() if k not in ("reference", "total") and v}
        log.append(
            {"stage": stage.name, "network_evaluations": spent, "seconds": time.monotonic() - began,
             "proposals": len(proposed), "tuning": ranked[0][0], "validation": value, "paid": paid}
        )  # fmt: skip
        if best is None or value < best[0]:
            best = value, ranked[0][1]
        if stage.costly and proposed and not paid:
            break
    if best is None:
        raise SigmaTuneError(
            f"none of the stages {', '.join(names)} proposes a schedule of {steps} steps; add 'static'."
        )
    return best[1], log
