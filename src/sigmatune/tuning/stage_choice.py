"""Whether a stage runs: the one place that decides, by the method, the budget, the climb so far and the task.

1. :func:`stages_of`: the method names the stages, in order;
2. :func:`for_measure`: where the measure is not linear, the method "auto" searches without the stages that need one;
3. :func:`with_payable_tables`: the method "auto" leaves out a table that takes too much of the budget;
4. :func:`follows`: once a costly stage has not paid, only stages that move coefficients follow;
5. :func:`proposals`: a stage that is impossible for the task, or whose first step the budget does not pay, proposes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sigmatune.support.errors import SigmaTuneError, shown, unknown_name
from sigmatune.tuning.measure_choice import MeasureChoice
from sigmatune.tuning.stages import STAGES
from sigmatune.tuning.task import Proposals, Stage, Task, payable

logger = logging.getLogger(__name__)

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
        SigmaTuneError: for an unknown or removed method, or if ``coefficients`` is neither True nor False.
    """
    if not isinstance(coefficients, bool):
        raise SigmaTuneError(f"coefficients is True or False, not {shown(coefficients)}.")
    if not isinstance(method, str) or method not in ("auto", *REMOVED, *STAGES):
        raise unknown_name("tuning method", method, ["auto", *STAGES])
    if method in REMOVED:
        raise SigmaTuneError(REMOVED[method])
    names: tuple[str, ...] = AUTO if method == "auto" else ("static", STAGES[method].name)
    if names[-1] in ("start", "queries"):  # which begin where the levels have been found
        names = (*AUTO, names[-1])
    if coefficients:  # its gradient moves the levels as well
        names = (*(name for name in names if name not in ("gradient", "coefficients")), "coefficients")
    return tuple(dict.fromkeys(names))


def for_measure(names: Sequence[str], choice: MeasureChoice, *, method: str) -> tuple[str, ...]:
    """The stages that can minimise a measure.

    Args:
        names: The stages of the method.
        choice: The measure.
        method: "auto", which then ends with a search, or the stage that was asked for.

    Raises:
        SigmaTuneError: if a stage that was asked for needs a linear measure.
    """
    without = [name for name in names if STAGES[name].linear and not choice.linear]
    if not without:
        return tuple(names)
    if method != "auto" or "coefficients" in without:
        raise SigmaTuneError(
            f"the stage {without[-1]} needs a measure with a gradient, whitened or rms, and {choice.name} is none; take the "
            "method auto or search."
        )
    logger.info("%s is no linear measure, so these stages are left out: %s", choice.name, ", ".join(without))
    return (*(name for name in names if name not in without), "search")


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
