"""The climb: stages in order, cheap ones first, each from the best so far, until the next one does not pay.

Proposals are measured on the tuning noises. After each stage the best plan is measured on the validation noises; a
costly stage that does not improve on them ends the search for levels. Then levels that nearly touch are spaced
(:mod:`~sigmatune.tuning.spacing`). The plan records the gain and the cost of every stage.
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
from sigmatune.schedules import FAMILIES
from sigmatune.solvers import SOLVERS
from sigmatune.statistics.paired import compare
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.budget import Allowance, Budget
from sigmatune.tuning.spacing import spaced, touching
from sigmatune.tuning.stage_choice import follows, proposals
from sigmatune.tuning.stages import STAGES
from sigmatune.tuning.task import Goal, Stage, Task, payable
from sigmatune.tuning.workbench import Workbench

logger = logging.getLogger(__name__)

PAYS = 0.005
"""A costly stage pays if it lowers the mean log error on the validation noises by more than this: half a percent."""


@dataclass(frozen=True)
class Climb:
    """The result of the stages.

    Attributes:
        plan: The plan that is best on the validation noises.
        levels: The best plan of the solver itself, whose levels other numbers of steps may start from.
        log: Per stage its name, network evaluations by purpose, seconds, peak memory of the process so far in MiB, proposals,
            the leader's mean log error on tuning and validation noises, and whether it improved on validation.
        family: The best schedule family that the static stage found, its ends searched too; None if it found none.
    """

    plan: Plan
    levels: Schedule
    log: list[dict[str, Any]]
    family: Plan | None = None


def climb(
    bench: Workbench,
    goal: Goal,
    names: Sequence[str],
    *,
    allowance: Allowance | None = None,
    starts: Sequence[Plan] = (),
) -> Climb:
    """Runs stages in order.

    Args:
        bench: The workbench; its tuning and validation noises are used.
        goal: What to tune for.
        names: Stages, in order; the first has to propose something.
        allowance: The budget; no limit by default.
        starts: Plans of the solver that join the proposals of the first stage, such as the rival.

    Raises:
        SigmaTuneError: for an unknown stage, if no stage proposes anything, or if a budget of evaluations does not pay for one
            plan; of a time the caller knows that it does, and the first of the starts comes back.
    """
    stages = [STAGES[name] for name in names]
    run = _Run(bench, goal, allowance or Allowance(bench, Budget()), starts)
    for stage in stages:
        if stage.coefficients:
            run.space()
        if follows(stage, stopped=run.stopped):
            bench.progress(f"{goal.steps} steps: {stage.name}", len(run.log), len(stages))
            run.take(stage)
    run.space()
    if run.best is None:
        raise SigmaTuneError(
            f"none of the stages {', '.join(names)} proposes a schedule of {goal.steps} steps; add 'static'."
        )
    levels = next((plan for _, plan in run.ranked if plan.solver != "custom"), run.best[1]).schedule
    return Climb(run.best[1], levels, run.log, run.family)


class _Run:
    """The plans so far: ``ranked`` on the tuning noises, ``best`` on the validation noises, each with its mean log error."""

    def __init__(self, bench: Workbench, goal: Goal, allowance: Allowance, starts: Sequence[Plan]) -> None:
        self.bench, self.goal, self.allowance, self.starts = bench, goal, allowance, starts
        calls = SOLVERS[goal.solver].calls(goal.steps) * most_per_call(bench.model)
        trial, self.reserve = (
            bench.padded(rows) * calls for rows in (bench.settings.tuning, bench.settings.validation)
        )
        if not allowance.timed and not allowance.pays(trial + self.reserve):
            raise SigmaTuneError(
                f"the budget does not pay for a single plan of {goal.steps} steps, which costs {trial + self.reserve:,} "
                "network evaluations on the tuning and validation noises; raise it, ask for fewer numbers of calls, or use "
                "fewer noises."
            )
        self.ranked: list[tuple[float, Plan]] = []
        self.best: tuple[float, Plan] | None = None
        self.log: list[dict[str, Any]] = []
        self.family: Plan | None = None
        self.stopped = False
        self.touches: Plan | None = None  # has levels that nearly touch, and is better so

    def take(self, stage: Stage) -> None:
        """Runs one stage, measures its proposals, and logs gain and cost."""
        bench, goal = self.bench, self.goal
        cost, began = bench.meter(), time.monotonic()
        task = Task(bench, goal, [plan for _, plan in self.ranked], self.allowance, self.reserve)
        proposed = proposals(stage, task)
        if not self.ranked:
            known = [plan.coefficients.digits() for plan in proposed]
            fresh = [plan for plan in self.starts if plan.coefficients.digits() not in known]
            kept = fresh[:1] if self.allowance.timed else []  # the clock may run out between two looks at it
            proposed = payable(task, [*fresh, *proposed]) or kept
        self.ranked += zip(bench.scores(proposed, "tuning"), proposed, strict=True)
        self.ranked.sort(key=lambda entry: entry[0])
        if not self.ranked:
            return
        if stage.name == "static":
            self.family = next((plan for _, plan in self.ranked if plan.schedule.family in FAMILIES), None)
        value = bench.score(self.ranked[0][1], "validation")
        paid = self.best is None or value < self.best[0] - PAYS
        spent = _spent(cost())
        self._note(stage.name, len(proposed), spent, value, seconds=time.monotonic() - began, paid=paid)
        if self.best is None or value < self.best[0]:
            self.best = value, self.ranked[0][1]
        self.stopped = self.stopped or bool(stage.costly and proposed and not paid)

    def space(self) -> None:
        """Replaces levels that nearly touch, unless they are significantly better on the validation noises."""
        bench = self.bench
        if self.best is None or self.best[1].solver == "custom" or self.best[1] is self.touches:
            return
        plan, cost, began = self.best[1], bench.meter(), time.monotonic()
        task = Task(bench, self.goal, [], self.allowance, self.reserve)
        tried = task.plans(spaced(plan.schedule))
        if not tried or not self.allowance.pays(len(tried) * (self.reserve + task.trial(plan))):
            return
        values = bench.scores(tried, "validation")
        value, better = min(zip(values, tried, strict=True), key=lambda entry: entry[0])
        pair = (bench.errors(one, "validation") for one in (plan, better))
        kept = compare(*pair, seed=bench.settings.seed).gain
        if kept:
            self.touches = plan
        else:
            others = [entry for entry in self.ranked if entry[1].solver == "custom" or not touching(entry[1].schedule)]
            self.best, self.ranked = (value, better), [(bench.score(better, "tuning"), better), *others]
        self._note("spacing", len(tried), _spent(cost()), self.best[0], seconds=time.monotonic() - began, paid=not kept)

    def _note(
        self, stage: str, proposals: int, spent: dict[str, int], value: float, *, seconds: float, paid: bool
    ) -> None:
        """Logs what a stage brought and cost."""
        bench, goal = self.bench, self.goal
        self.log.append(
            {"stage": stage, "network_evaluations": spent, "seconds": seconds,
             "peak_memory_mib": bench.costs.peak_memory(), "proposals": proposals, "tuning": self.ranked[0][0],
             "validation": value, "paid": paid}
        )  # fmt: skip
        seen = {"tuning": self.ranked[0][0], "validation": value, "proposals": float(proposals)}
        bench.progress.track({f"{goal.steps} steps/{name}": one for name, one in seen.items()}, bench.costs.done)
        bench.progress.on_stage(
            {**self.log[-1], "steps": goal.steps}, self.ranked[0][1] if self.best is None else self.best[1]
        )
        logger.info(
            "%s, %d steps: stage %s proposed %d plans for %s evaluations; mean log error %.4f on validation%s",
            goal.solver, goal.steps, stage, proposals, f"{sum(spent.values()):,}", value, "" if paid else ", no better",
        )  # fmt: skip


def _spent(cost: dict[str, Any]) -> dict[str, int]:
    """The network evaluations of a stage by purpose, the references not counted."""
    return {k: v for k, v in cost["network_evaluations"].items() if k not in ("reference", "total") and v}
