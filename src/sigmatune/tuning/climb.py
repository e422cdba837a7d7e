"""The climb: stages in order, cheap ones first, each from the best so far, until the next one does not pay.

Proposals are measured on the tuning noises. After each stage the best plan is measured on the validation noises; a
costly stage that does not improve on them ends the search for levels. The plan records the gain and the cost of every
stage.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sigmatune.core.schedule import Schedule
from sigmatune.plan import Plan
from sigmatune.plan.calls import most_per_call
from sigmatune.solvers import SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.budget import Allowance, Budget
from sigmatune.tuning.stages import STAGES
from sigmatune.tuning.task import Task, payable
from sigmatune.tuning.workbench import Workbench

logger = logging.getLogger(__name__)

PAYS = 0.005
"""A costly stage pays if it lowers the mean log error on the validation noises by more than this: half a percent."""

AUTO = ("static", "closed-form", "discretisation", "trajectory", "surrogate", "gradient")
"""The stages of ``method="auto"``."""


@dataclass(frozen=True)
class Climb:
    """The result of the stages.

    Attributes:
        plan: The plan that is best on the validation noises.
        levels: The best plan of the solver itself, whose levels other numbers of steps may start from.
        log: Per stage its name, network evaluations by purpose, seconds, peak memory of the process so far in MiB, proposals,
            the leader's mean log error on tuning and validation noises, and whether it improved on validation.
    """

    plan: Plan
    levels: Schedule
    log: list[dict[str, Any]]


def climb(
    bench: Workbench,
    steps: int,
    solver: str,
    names: Sequence[str],
    *,
    allowance: Allowance | None = None,
    most: int | None = None,
    others: Sequence[Schedule] = (),
) -> Climb:
    """Runs stages in order.

    Args:
        bench: The workbench; its tuning and validation noises are used.
        steps: N.
        solver: A deterministic solver of the registry.
        names: Stages, in order; the first has to propose something.
        allowance: The budget; no limit by default.
        most: The largest N to be tuned on this workbench.
        others: Schedules that were found at other numbers of steps, nearest first.

    Raises:
        SigmaTuneError: for an unknown stage, if no stage proposes anything, or if the budget does not pay for one plan.
    """
    stages = [STAGES[name] for name in names]
    allowance = allowance or Allowance(bench, Budget())
    calls = SOLVERS[solver].calls(steps) * most_per_call(bench.model)
    trial, reserve = (bench.padded(rows) * calls for rows in (bench.settings.tuning, bench.settings.validation))
    if not allowance.pays(trial + reserve):
        raise SigmaTuneError(
            f"the budget does not pay for a single plan of {steps} steps, which costs {trial + reserve:,} network evaluations "
            "on the tuning and validation noises; raise it, ask for fewer numbers of calls, or use fewer noises."
        )
    ranked: list[tuple[float, Plan]] = []
    best: tuple[float, Plan] | None = None
    log: list[dict[str, Any]] = []
    stopped = False
    for stage in stages:
        if stopped and not stage.coefficients:
            continue
        if bench.progress is not None:
            bench.progress(f"{steps} steps: {stage.name}", len(log), len(stages))
        cost, began = bench.meter(), time.monotonic()
        task = Task(bench, steps, solver, [plan for _, plan in ranked], allowance, reserve, most or steps, others)
        proposed = payable(task, stage.run(task))
        ranked += zip(bench.scores(proposed, "tuning"), proposed, strict=True)
        ranked.sort(key=lambda entry: entry[0])
        if not ranked:
            continue
        value = bench.score(ranked[0][1], "validation")
        paid = best is None or value < best[0] - PAYS
        spent = {k: v for k, v in cost()["network_evaluations"].items() if k not in ("reference", "total") and v}
        log.append(
            {"stage": stage.name, "network_evaluations": spent, "seconds": time.monotonic() - began,
             "peak_memory_mib": bench.costs.peak_memory(), "proposals": len(proposed), "tuning": ranked[0][0],
             "validation": value, "paid": paid}
        )  # fmt: skip
        logger.info(
            "%s, %d steps: stage %s proposed %d plans for %s evaluations; mean log error %.4f on validation%s",
            solver, steps, stage.name, len(proposed), f"{sum(spent.values()):,}", value, "" if paid else ", no better",
        )  # fmt: skip
        if best is None or value < best[0]:
            best = value, ranked[0][1]
        stopped = stopped or bool(stage.costly and proposed and not paid)
    if best is None:
        raise SigmaTuneError(
            f"none of the stages {', '.join(names)} proposes a schedule of {steps} steps; add 'static'."
        )
    levels = next((plan for _, plan in ranked if plan.solver != "custom"), best[1]).schedule
    return Climb(best[1], levels, log)
