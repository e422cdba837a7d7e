"""Plans: a schedule and a solver compiled to one table, its file, and how images are sampled with it.

:mod:`~sigmatune.plan.plan` is what a plan is, :mod:`~sigmatune.plan.compiler` makes one of a schedule and a solver,
:mod:`~sigmatune.plan.sampling` runs it, :mod:`~sigmatune.plan.file` reads and writes it, :mod:`~sigmatune.plan.calls` says what
it costs, :mod:`~sigmatune.plan.tuned_for` records what it was tuned for, and :mod:`~sigmatune.plan.reference` is the fine
plan that others are measured against.
"""

from __future__ import annotations

from sigmatune.plan.compiler import compile_plan, partial
from sigmatune.plan.document import MOST_ROWS
from sigmatune.plan.file import load_plan
from sigmatune.plan.plan import MICRO_BATCH, Plan, Rule, check_fit
from sigmatune.plan.sampling import sample

__all__ = ["MICRO_BATCH", "MOST_ROWS", "Plan", "Rule", "check_fit", "compile_plan", "load_plan", "partial", "sample"]
