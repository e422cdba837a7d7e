"""The definition of a tuning stage, and of its task.

A new stage is a function from a :class:`Task` to plans, in a file of its own, and an entry in
``STAGES`` in :mod:`sigmatune.tuning.stages`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sigmatune.core.schedule import Schedule
from sigmatune.plan import Plan
from sigmatune.plan.calls import most_per_call
from sigmatune.solvers import SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.budget import Allowance
from sigmatune.tuning.surrogate import Surrogate
from sigmatune.tuning.workbench import Workbench

Proposals = list[Plan]


@dataclass(frozen=True)
class Goal:
    """What to tune for.

    Attributes:
        steps: N.
        solver: A deterministic solver of the registry.
        most: The largest N to tune on the same workbench, which sets the length of tables; 0, the default, for N itself.
        others: Schedules that were found at other numbers of steps, nearest first.
    """

    steps: int
    solver: str
    most: int = 0
    others: Sequence[Schedule] = ()


@dataclass(frozen=True)
class Task:
    """The task of a stage.

    Attributes:
        bench: The workbench; stages see its tuning noises, the gradient also the validation noises.
        goal: What to tune for.
        best: The plans so far, best first.
        allowance: The budget.
        reserve: The cost of measuring a plan on the validation noises.
    """

    bench: Workbench
    goal: Goal
    best: Sequence[Plan]
    allowance: Allowance
    reserve: int

    @property
    def steps(self) -> int:
        """N."""
        return self.goal.steps

    @property
    def solver(self) -> str:
        """The solver."""
        return self.goal.solver

    @property
    def most(self) -> int:
        """The largest N to tune."""
        return self.goal.most or self.goal.steps

    @property
    def classical(self) -> list[Plan]:
        """The plans so far that follow the solver, best first: those without learned coefficients."""
        return [plan for plan in self.best if plan.solver != "custom"]

    def plans(self, schedules: Sequence[Schedule]) -> Proposals:
        """The plans of schedules, without those whose levels fall on the same whole timestep."""
        plans = []
        for schedule in schedules:
            try:
                plans.append(self.bench.plan(schedule, self.solver))
            except SigmaTuneError:
                if not self.bench.model.integer_time:
                    raise
        return plans

    def trial(self, plan: Plan) -> int:
        """The cost of measuring a plan on the tuning noises."""
        return self.bench.padded(self.bench.settings.tuning) * plan.network_calls(self.bench.model)

    def rows(self, plans: float, *, validation: float = 0) -> int:
        """The cost of measuring so many plans of the goal on the tuning noises, and so many on the validation noises."""
        bench = self.bench
        each = SOLVERS[self.solver].calls(self.steps) * most_per_call(bench.model)
        rows = plans * bench.padded(bench.settings.tuning) + validation * bench.padded(bench.settings.validation)
        return round(rows * each)

    def pays(self, evaluations: int) -> bool:
        """Whether the budget pays for this cost and for confirming the result on the validation noises."""
        return self.allowance.pays(evaluations + self.reserve)

    def estimates(self, plans: Sequence[Plan]) -> list[float]:
        """The mean log errors of plans by the surrogate."""
        stand_in = surrogate_of(self.bench)
        with torch.no_grad():
            return [float(stand_in.score(plan.coefficients)) for plan in plans]


@dataclass(frozen=True)
class Stage:
    """One way to propose plans.

    Attributes:
        name: Its name in the registry.
        run: Returns plans for a :class:`Task`.
        costly: If it does not improve the validation noises, no further stage moves levels.
        coefficients: It also moves the coefficients, so it may help where other stages do not.
        left: The remaining cost of its table, which all budgets share; 0 for a stage without a table.
        possible: Whether the model and the plans so far allow it.
        first: The cost of its first step, without which it cannot start; None if it asks for every trial or costs nothing.
        linear: It needs a linear measure: one with a gradient, whose squares add up.
        usual: What it usually costs without a limit, for estimates; its table and the best plan's validation come on top.
    """

    name: str
    run: Callable[[Task], Proposals]
    costly: bool = True
    coefficients: bool = False
    left: Callable[[Task], int] = lambda task: 0
    possible: Callable[[Task], bool] = lambda task: True
    first: Callable[[Task], int] | None = None
    linear: bool = False
    usual: Callable[[Task], int] = lambda task: task.rows(1)


def payable(task: Task, proposed: Proposals) -> Proposals:
    """The first proposals, as many as the budget can measure."""
    kept: Proposals = []
    price = 0
    for plan in proposed:
        price += 0 if task.bench.knows(plan, "tuning") else task.trial(plan)
        if price and not task.pays(price):
            break
        kept.append(plan)
    return kept


def surrogate_of(bench: Workbench) -> Surrogate:
    """The surrogate of a workbench's model; built once."""
    return bench.once("surrogate", lambda: Surrogate(bench))
