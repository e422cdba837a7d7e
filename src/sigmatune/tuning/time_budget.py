"""A budget in time: everything counts, the references and the guard included, and something comes back in any case.

Before the work a :class:`~sigmatune.tuning.estimates.TuningJob` takes, of the given numbers of noises and smaller ones
(:func:`falling`), the most whose references, guard and cheapest search fit into the time, at the measured pace of the
network. While it runs, the search gets what the guard does not need, at the pace so far. Where not even the smallest
numbers fit, the best default comes back without a test (:func:`untested`), of as many as the time can compare on a few
noises, or if it cannot compare any, unmeasured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sigmatune.plan import Plan
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.baseline import Baseline, best_default, defined_defaults
from sigmatune.tuning.forecast import payable_defaults
from sigmatune.tuning.settings import TuningSettings
from sigmatune.tuning.workbench import Workbench

SMALLER = (
    {"tuning": 16, "validation": 16, "held_out": 48, "reference_steps": 24},
    {"tuning": 16, "validation": 16, "held_out": 32, "reference_steps": 16},
    {"tuning": 16, "validation": 16, "held_out": 24, "reference_steps": 16},
    {"tuning": 8, "validation": 8, "held_out": 16, "reference_steps": 16},
    {"tuning": 8, "validation": 8, "held_out": 16, "reference_steps": 8},
    {"tuning": 8, "validation": 8, "held_out": 8, "reference_steps": 8},
    {"tuning": 8, "validation": 8, "held_out": 8, "reference_steps": 4},
    {"tuning": 4, "validation": 4, "held_out": 8, "reference_steps": 4},
)
"""Smaller numbers of noises to fall back on, most first."""

SHARE = 0.7
"""The share of the time that the least work may be expected to take: the rest is for a search and for surprises."""

BESIDES = 1.0
"""Seconds for each number of calls that no network takes, such as the bootstrap."""


def falling(settings: TuningSettings) -> Iterator[TuningSettings]:
    """Numbers of noises to try, most first: the given ones, then at most those of :data:`SMALLER`."""
    yield settings
    for fewer in SMALLER:
        yield replace(settings, **{name: min(getattr(settings, name), n) for name, n in fewer.items()})


def cheapest(bench: Workbench, steps: int, solver: str, *, seconds: float) -> Baseline:
    """The best default on the validation noises, of as many as the time pays for; the first one, unmeasured, if of none.

    Args:
        bench: The workbench.
        steps: N.
        solver: The solver.
        seconds: The time.

    Raises:
        SigmaTuneError: if no default is defined at this number of steps.
    """
    payable = payable_defaults(bench, steps, solver, seconds / max(bench.costs.pace, 1e-9))
    if payable:
        return best_default(bench, steps, solver, most=payable)
    for rival, plan in defined_defaults(bench, steps, solver)[:1]:
        return Baseline(plan, rival.label, [])
    raise SigmaTuneError(f"no static default is defined for this model at {steps} steps; ask for fewer.")


def untested(bench: Workbench, rival: Baseline) -> Plan:
    """A default with evidence that says why nothing else was tried."""
    best = f"is the best of {len(rival.scores)} on {bench.settings.validation} noises"
    how = best if rival.scores else "was chosen without a measurement"
    verdict = (
        f"no gain: the time pays for no test of a tuned plan here, so this is the static default {rival.label}, which "
        f"{how}; give more time, or use a faster device."
    )
    seen: dict[str, Any] = {"seed": bench.settings.seed}
    if rival.scores:
        rows = bench.settings.rows("validation")
        seen["validation"] = [rows.start, rows.stop]
    return rival.plan.with_notes(
        micro_batch=bench.settings.micro_batch,
        evidence={
            "verdict": verdict, "gain": False, "tested": False, "baseline": rival.label,
            "defaults_on_validation": rival.scores, "rows": seen, "dtype": bench.model.arithmetic(),
        },
    )  # fmt: skip
