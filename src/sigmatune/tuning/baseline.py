"""The baseline of a tuned plan: the best static default by validation noises, and how to rebuild it from the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sigmatune import schedules
from sigmatune.plan import Plan
from sigmatune.plan.tuned_for import solver_of
from sigmatune.schedules import FAMILIES, Rival
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.workbench import Workbench

FIRST_ROWS = 16
"""Validation noises on which all defaults are measured; the best few are then measured on all of them."""

FINALISTS = 4


@dataclass(frozen=True)
class Baseline:
    """The best static default.

    Attributes:
        plan: It.
        label: Its name in :func:`sigmatune.schedules.defaults`.
        scores: Of all defaults, best first: ``name``, ``mean_log_error`` on so many ``rows``, and ``same_levels``, the names of
            further defaults with these levels.
    """

    plan: Plan
    label: str
    scores: list[dict[str, Any]]


def best_default(bench: Workbench, steps: int, solver: str, *, most: int | None = None) -> Baseline:
    """Chooses the baseline on the validation noises.

    Every set of levels is measured once, all of them on the first :data:`FIRST_ROWS` noises and the :data:`FINALISTS` best on
    all, where this is the cheaper way.

    Args:
        bench: The workbench.
        steps: N.
        solver: Its name.
        most: How many defaults are measured at most, the first ones of the list; all by default.

    Raises:
        SigmaTuneError: if no default is defined at this number of steps.
    """
    entrants: Sequence[tuple[Rival, Plan]] = defined_defaults(bench, steps, solver)[:most]
    if not entrants:
        raise SigmaTuneError(f"no static default is defined for this model at {steps} steps; ask for fewer.")
    rows, dropped = bench.settings.validation, []
    if len(entrants) * FIRST_ROWS + FINALISTS * rows < len(entrants) * rows:
        first = _ranked(bench, entrants, FIRST_ROWS)
        entrants, dropped = [entry[1:] for entry in first[:FINALISTS]], first[FINALISTS:]
    last = _ranked(bench, entrants, rows)
    scores = [_score(rival, value, rows) for value, rival, _ in last]
    scores += [_score(rival, value, FIRST_ROWS) for value, rival, _ in dropped]
    return Baseline(last[0][2], last[0][1].label, scores)


def defined_defaults(bench: Workbench, steps: int, solver: str) -> tuple[tuple[Rival, Plan], ...]:
    """The static defaults that a workbench's model can run at a number of steps, each set of levels once, with their plans.

    They are made once, because forecasts and the choice need them.
    """
    return bench.once(f"defaults of {steps} steps by {solver}", lambda: tuple(_defined(bench, steps, solver)))


def _defined(bench: Workbench, steps: int, solver: str) -> Iterator[tuple[Rival, Plan]]:
    for rival in schedules.rivals(steps, bench.model.path, bench.model.default_schedule):
        with suppress(SigmaTuneError):  # rounds onto the same whole timestep
            yield rival, bench.plan(rival.schedule, solver)


def _ranked(bench: Workbench, entrants: Sequence[tuple[Rival, Plan]], rows: int) -> list[tuple[float, Rival, Plan]]:
    """The entrants with their mean log errors on the first validation noises, best first."""
    some = None if rows == bench.settings.validation else rows
    values = bench.scores([plan for _, plan in entrants], "validation", rows=some, purpose="guard")
    return sorted(((value, *entry) for value, entry in zip(values, entrants, strict=True)), key=lambda entry: entry[0])


def _score(rival: Rival, value: float, rows: int) -> dict[str, Any]:
    same = {"same_levels": list(rival.same)} if rival.same else {}
    return {"name": rival.label, "mean_log_error": value, "rows": rows, **same}


def baseline(bench: Workbench, plan: Plan) -> Plan:
    """Rebuilds the static default with which a plan was compared.

    Args:
        bench: A workbench of the plan's model.
        plan: A plan that :func:`sigmatune.tuning.tune_on` made.

    Raises:
        SigmaTuneError: if the plan carries no evidence, or the model has no such default.
    """
    if not plan.evidence:
        raise SigmaTuneError("this plan carries no evidence, so it has no baseline; tune it first.")
    label, solver = plan.evidence["baseline"], solver_of(plan)
    for name, family, options in schedules.defaults(bench.model.path, bench.model.default_schedule):
        if name == label:
            return bench.plan(schedules.build(family, plan.steps, bench.model.path, **options), solver)
    raise SigmaTuneError(f"there is no default called {label!r} for this model.")


def family_label(plan: Plan) -> str:
    """What a plan of a schedule family is called: the family with its options and ends."""
    return schedules.label(FAMILIES[plan.schedule.family], plan.schedule.options)
