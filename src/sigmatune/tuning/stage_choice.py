"""Whether a stage runs: the one place that decides, by the method, the budget, the climb so far and the task.

1. :func:`stages_of`: the method names the stages, in order;
2. :func:`with_payable_tables`: the method "auto" leaves out a table that takes too much of the budget;
3. :func:`follows`: once a costly stage has not paid, only stages that move coefficients follow;
4. :func:`proposals`: a stage that is impossible for the task, or whose first step the budget does not pay, proposes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sigmatune.support.errors import SigmaTuneError, unknown_name
from sigmatune.tuning.stages import STAGES
from sigmatune.tuning.task import Proposals, Stage, Task, payable

AUTO = ("static", "closed-form", "discretisation", "trajectory", "surrogate", "gradient")
"""The stages of ``method="auto"``."""

REMOVED = {
    "tpe": "the method 'tpe' was removed, because it never beat 'surrogate' in our benchmark; take 'auto' or 'surrogate'.",
    "cma-es": "the method 'cma-es' was removed, because 'search' runs the same algorithm; take 'search', or 'auto'.",
}
"""Methods of older versions, and what to take instead."""

LARGEST = 0.25
"""The method "auto" computes a table that all numbers of calls share if it costs at most this share of the budget."""


def stages_of(method: str, *, coefficients: bool) -> tuple[str, ...]:
    """The stages of a method.

    Raises:
        SigmaTuneError: for an unknown or removed method.
    """
    if method in REMOVED:
        raise SigmaTuneError(REMOVED[method])
    if method != "auto" and method not in STAGES:
        raise unknown_name("tuning method", method, ["auto", *STAGES])
    names: tuple[str, ...] = AUTO if method == "auto" else ("static", STAGES[method].name)
    if names[-1] == "queries":  # which starts where the levels have been found
        names = (*AUTO, "queries")
    if coefficients:  # its gradient moves the levels as well
        names = (*(name for name in names if name not in ("gradient", "coefficients")), "coefficients")
    return tuple(dict.fromkeys(names))


def with_payable_tables(names: Sequence[str], task: Task) -> tuple[str, ...]:
    """The stages without those whose table costs more than :data:`LARGEST` of the whole budget.

    Args:
        names: Stages.
        task: The largest number of steps that is tuned.
    """
    limit = LARGEST * task.allowance.budget.evaluations
    return tuple(name for name in names if STAGES[name].left(task) <= limit)


def follows(stage: Stage, *, stopped: bool) -> bool:
    """Whether a stage's turn comes, given whether a costly stage before it has not paid."""
    return stage.coefficients or not stopped


def proposals(stage: Stage, task: Task) -> Proposals:
    """The plans that a stage proposes, as many as the budget can measure; none if the stage cannot run."""
    if not stage.possible(task) or (stage.first is not None and not task.pays(stage.first(task))):
        return []
    return payable(task, stage.run(task))
