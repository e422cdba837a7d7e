"""What a report costs before it is measured: network evaluations of single images."""

from __future__ import annotations

from collections.abc import Sequence

from sigmatune import solvers
from sigmatune.plan.calls import most_per_call
from sigmatune.report import GLANCE_SAMPLES, GLANCE_STEPS
from sigmatune.report.measurements import BUDGETS, SHOWN_DEFAULTS
from sigmatune.tuning.workbench import Workbench


def price(bench: Workbench, calls: Sequence[int], solver: str, *, rows: int = 16, glance: bool = True) -> int:
    """The network evaluations of a report on plans of one solver; the defaults may turn out to be fewer.

    Args:
        bench: The workbench; its network is not called.
        calls: The plans' calls.
        solver: Their solver.
        rows: As for :func:`sigmatune.report.write`.
        glance: Whether there is a stepwise analysis.
    """
    per_call, known = most_per_call(bench.model), solvers.solver(solver)
    steps = {known.steps_for(n // per_call) for n in (*calls, *BUDGETS) if n // per_call >= known.calls(1)}
    each = sum(known.calls(n) for n in steps) * per_call
    looks = glance and len(bench.model.shape) == 3
    analysis = bench.padded(GLANCE_SAMPLES) * GLANCE_STEPS * per_call if looks else 0
    return bench.padded(rows) * (SHOWN_DEFAULTS + 1) * each + analysis
