"""What tuning will cost, before it begins: network evaluations by purpose, counted without a call of the network.

The references, the choice of the default and the guard are known to the evaluation, but for one thing: how often the guard
doubles its reference until that has converged. It takes finer references to compare better plans: the last one has as a rule
at least :data:`FINEST` times as many steps as the plans. What the stages take is what they usually take
(:class:`~sigmatune.tuning.task.Stage`), or the budget where that is less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sigmatune.plan.calls import most_per_call
from sigmatune.solvers import SOLVERS
from sigmatune.tuning.baseline import FINALISTS, FIRST_ROWS, defined_defaults
from sigmatune.tuning.budget import TUNING, Allowance, Budget
from sigmatune.tuning.settings import Split
from sigmatune.tuning.stage_choice import with_payable_tables
from sigmatune.tuning.stages import STAGES
from sigmatune.tuning.surrogate import ROWS
from sigmatune.tuning.task import Goal, Task
from sigmatune.tuning.workbench import MOST_REFERENCE_STEPS, Workbench

FINEST = 12
"""Steps of the guard's last reference for each step of the plans, as a rule."""

SOUND = 5
"""Evaluations that check whether a network is a function."""

FEWER = 0.9
"""The share of a budget that the stages spend as a rule: the next trial would no longer fit."""


def forecast(
    bench: Workbench, calls: Sequence[int], *, solver: str, stages: Sequence[str], budget: Budget, least: bool = False
) -> dict[str, int]:
    """The network evaluations of tuning by purpose.

    Args:
        bench: The workbench; its network is not called.
        calls: As for :func:`sigmatune.tuning.tune`.
        solver: The solver.
        stages: Names of stages, in order.
        budget: The budget in evaluations; a time is not looked at.
        least: Count the cheapest search instead of the usual one: the first stage alone.
    """
    per_call = most_per_call(bench.model)
    steps = sorted({SOLVERS[solver].steps_for(n // per_call) for n in calls}, reverse=True)
    allowance = Allowance(bench, Budget(budget.evaluations))
    tasks = [Task(bench, Goal(count, solver, max(steps)), (), allowance, 0) for count in steps]
    kept = stages[:1] if least else with_payable_tables(stages, tasks[0])
    search = sum(_searched(task, kept) for task in tasks) + sum(STAGES[name].left(tasks[0]) for name in kept)
    limit = FEWER * max(budget.evaluations, sum(task.rows(1, validation=1) for task in tasks))
    return {
        "check": SOUND * per_call,
        "reference": references(bench, steps),
        "guard": sum(guarded(task) for task in tasks),
        "search": round(min(search, limit)),
    }


def _searched(task: Task, stages: Sequence[str]) -> int:
    """What some stages usually cost, the validation of each one's best plan and of spaced levels included."""
    return sum(STAGES[name].usual(task) for name in stages) + task.rows(0, validation=len(stages))


def references(bench: Workbench, steps: Sequence[int]) -> int:
    """The references of all noises, the surrogate's path, and the doublings of the guard."""
    first = bench.settings.reference_steps
    price = _reference(bench, "tuning", first) + _reference(bench, "validation", first)
    path = bench.padded(min(ROWS, bench.settings.tuning)) * _calls(bench, first)
    return price + path + judging(bench, steps)


def judging(bench: Workbench, steps: Sequence[int]) -> int:
    """The guard's references, doublings included."""
    first = bench.settings.reference_steps
    last = next((n for n in doubled(first) if n >= FINEST * max(steps)), MOST_REFERENCE_STEPS)
    return sum(_reference(bench, "held_out", n) for n in (first, *doubled(first)) if n <= last)


def doubled(steps: int) -> list[int]:
    """The steps of the guard's further references."""
    further = [steps * 2**k for k in range(1, 12)]
    return [n for n in further if n <= MOST_REFERENCE_STEPS]


def _reference(bench: Workbench, split: Split, steps: int) -> int:
    return bench.padded(len(bench.settings.rows(split))) * _calls(bench, steps)


def _calls(bench: Workbench, steps: int) -> int:
    return bench.reference_plan(steps).network_calls(bench.model)


def guarded(task: Task) -> int:
    """The choice of the default on the validation noises, and the guard's plans on the held-out ones."""
    return _choice(task.bench, task) + held_out(task)


def held_out(task: Task) -> int:
    """The guard's plans on the held-out noises: the tuned one, the default, and the best searched family."""
    return 3 * task.bench.padded(task.bench.settings.held_out) * _each(task)


def payable_defaults(bench: Workbench, steps: int, solver: str, evaluations: float) -> int:
    """How many defaults so many evaluations compare on the validation noises; 0 if fewer than two.

    That takes two references: of these noises, and of the tuning noises, by which the measure is scaled. Few defaults are all
    measured on all noises, so each costs the same.
    """
    task, first = Task(bench, Goal(steps, solver), (), Allowance(bench, Budget()), 0), bench.settings.reference_steps
    left = evaluations - _reference(bench, "tuning", first) - _reference(bench, "validation", first)
    if _choice(bench, task) < left:
        return len(defined_defaults(bench, steps, solver))
    several = int(left // (_each(task) * bench.padded(bench.settings.validation))) if left > 0 else 0
    return several if several > 1 else 0


def _each(task: Task) -> int:
    return task.rows(0, validation=1) // task.bench.padded(task.bench.settings.validation)


def _choice(bench: Workbench, task: Task) -> int:
    rows, entrants = bench.settings.validation, len(defined_defaults(bench, task.steps, task.solver))
    few = entrants * bench.padded(min(FIRST_ROWS, rows)) + FINALISTS * bench.padded(rows)
    return _each(task) * min(few, entrants * bench.padded(rows))


def of_purposes(spent: Mapping[str, int]) -> dict[str, int]:
    """What was spent by the purposes of a forecast."""
    search = sum(spent.get(purpose, 0) for purpose in TUNING)
    return {**{purpose: spent.get(purpose, 0) for purpose in ("check", "reference", "guard")}, "search": search}
