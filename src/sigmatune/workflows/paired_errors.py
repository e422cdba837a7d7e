"""The paired errors of a leaderboard's entries: all on the same noises, by one measure, against one converged solution.

The measure is the default one of the model's samples (:func:`sigmatune.measures.default_measure`), fitted to the converged end
points of the same noises, so an entry's own history decides nothing. A plan's tuning and its guard have chosen it by its errors
on their noises; if a plan of the leaderboard has the same seed, the errors are of the noises behind these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from sigmatune import measures, solvers
from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation.execution import PLAIN, Execution
from sigmatune.evaluation.generation import end_points
from sigmatune.evaluation.leaderboard import Entry, Row
from sigmatune.evaluation.paired_distance import FIRST, MOST, UNSETTLED, together
from sigmatune.plan import Plan
from sigmatune.plan.reference import reference_plan
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Parts

FAR = 2**31
"""No tuning uses noises with an index as large as this."""

PAIRED = 7
"""The work of the comparisons beside that of the first reference, as a rule."""

LEAST = 4
"""Fewest noises of a figure with an interval."""


def asked_for(noises: int, n: int) -> int:
    """How many noises the paired errors of a leaderboard are of: as many as asked for, but no more than it has images.

    Raises:
        SigmaTuneError: for 1 to 3, or more than :data:`sigmatune.evaluation.paired_distance.MOST`.
    """
    if isinstance(noises, int) and (noises == 0 or LEAST <= noises <= MOST):
        return min(noises, n)
    raise SigmaTuneError(f"paired errors are of {LEAST} to {MOST} noises, or of 0 for none, not {noises}.")


def with_errors(model: Denoiser, rows: Sequence[Row], noises: int, execution: Execution = PLAIN) -> list[Row]:
    """Adds the paired errors to the rows of a leaderboard; entries without one get the reason, and with 0 noises none has one.

    Args:
        model: The denoiser.
        rows: The measured entries.
        noises: How many noises (:func:`asked_for`); each costs the reference's calls, 144 or more, and the entries'.
        execution: How; its folder keeps the end points.
    """
    if noises == 0:
        return list(rows)
    chosen, whys = planned([row.entry for row in rows], noises, execution.seed)
    if all(whys):
        return [replace(row, unpaired=why) for row, why in zip(rows, whys, strict=True)]
    parts = Parts(execution.progress, [1, PAIRED])
    exact = end_points(model, reference_plan(model, FIRST), chosen, execution.reporting(parts.take()))
    measure = measures.fit(measures.default_measure(tuple(model.shape)), exact, model)
    plans = [row.entry.plan for row, why in zip(rows, whys, strict=True) if not why]
    measured = iter(together(model, plans, chosen, measure=measure, execution=execution.reporting(parts.take())))
    figures = [None if why else next(measured) for why in whys]
    return [
        replace(row, paired=figure, unpaired=why or ("" if figure is not None else UNSETTLED))
        for row, figure, why in zip(rows, figures, whys, strict=True)
    ]


def planned(entries: Sequence[Entry], noises: int, seed: int) -> tuple[range, list[str]]:
    """The indices of the noises of a leaderboard's paired errors, and for each entry why it has none, "" if it has one."""
    first = unseen(entries, seed)
    return range(first, first + noises), [unpaired(entry.plan, first + noises) for entry in entries]


def unseen(entries: Sequence[Entry], seed: int) -> int:
    """The index of the first noise of a seed that no entry was tuned or judged on."""
    ends = [0]
    for entry in entries:
        seen = (entry.plan.evidence or {}).get("rows")
        if isinstance(seen, Mapping) and seen.get("seed") == seed:
            spans = [span for name, span in seen.items() if name != "seed"]
            with suppress(TypeError, ValueError):  # evidence that SigmaTune did not write
                ends += [int(stop) for _, stop in spans if 0 <= stop < FAR]
    return max(ends)


def unpaired(plan: Plan, rows: int) -> str:
    """Why a plan has no paired error on the noises below an index; "" if it has one."""
    if solvers.SOLVERS.knows(plan.solver) and solvers.SOLVERS[plan.solver].augmented:
        return f"{plan.solver} samples in phase space, so its end points belong to other noises than the reference's"
    if not plan.coefficients.deterministic:
        return f"{plan.solver} adds noise, so no sample has one converged solution"
    scheduled = plan.coefficients.rows
    if scheduled is not None and scheduled < rows:
        return f"the plan has schedules for {scheduled} seeds only"
    return ""
