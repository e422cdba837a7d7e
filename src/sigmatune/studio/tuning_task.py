"""Tune: the job of ``sigmatune tune`` with its stages as they come."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from sigmatune.interop.clients import clients
from sigmatune.models.exact_names import cache
from sigmatune.plan import Plan
from sigmatune.plan.estimate import call_seconds
from sigmatune.report import write
from sigmatune.report.html import p, table, three
from sigmatune.report.usage import PlanUse
from sigmatune.studio.held_models import HeldModel
from sigmatune.studio.turns import TaskTurn
from sigmatune.studio.views import bullet_list
from sigmatune.tuning import Workbench, tune_on
from sigmatune.tuning.both_numbers import both_numbers, lead
from sigmatune.tuning.budget import Budget
from sigmatune.tuning.effort import EFFORTS
from sigmatune.tuning.estimates import TuningJob
from sigmatune.tuning.guard_evidence import statement
from sigmatune.tuning.stage_words import in_words
from sigmatune.tuning.tuner import check

REPORT_ROWS = 8
"""Held-out noises of the report's error against calls, as in the demo."""


@dataclass
class TuningTask:
    """A tuning.

    Attributes:
        solver, calls, measure, effort, budget: Options of ``sigmatune tune``; an empty one is the default.
        stages: The log of every stage by now.
        best: The best plan by now, not tested yet.
    """

    solver: str
    calls: int
    measure: str = ""
    effort: str = "low"
    budget: str = ""
    stages: list[Mapping[str, Any]] = field(default_factory=list)
    best: Plan | None = None
    _bench: Workbench | None = None

    def run(self, held: HeldModel, turn: TaskTurn) -> Plan:
        """Tunes on the model's turn. Measurements are kept in the cache, so the same tuning resumes after a cancel.

        Raises:
            SigmaTuneError: as for :func:`sigmatune.tuning.tune`.
        """
        began, work = time.monotonic(), EFFORTS[self.effort]
        limit = self.budget.strip() or work.budget(1, method="auto", coefficients=False)
        job = TuningJob([self.calls], self.solver, budget=Budget.of(limit))
        check(job, held.model)
        each = call_seconds(held.model, work.settings.of(held.model.shape).micro_batch)
        settings = job.settings(held.model, work.settings, each)
        self._bench = bench = Workbench(
            held.model, settings, store=store(), progress=turn.report, measure=self.measure or None
        )
        bench.costs.call_seconds = each if job.timed else 0.0
        bench.progress.on_stage = self._note
        return tune_on(bench, self.calls, solver=self.solver, budget=job.budget.since(began))

    def _note(self, log: Mapping[str, Any], best: Plan) -> None:
        self.stages.append(log)
        self.best = best

    def report(self, held: HeldModel, plan: Plan, file: Path, turn: TaskTurn) -> str:
        """Writes the report beside the plan and returns its text."""
        assert self._bench is not None
        self._bench.progress.progress = turn.report
        page = file.with_suffix(".html")
        write(page, self._bench, plan, rows=REPORT_ROWS, use=PlanUse(held.source, [file.name], clients))
        return page.read_text(encoding="utf-8")


def store() -> Path:
    """The folder of measurements of all tunings of the page."""
    return cache() / "studio"


def stage_table(stages: list[Mapping[str, Any]]) -> str:
    """The stages with their error on the validation noises and what each gained."""
    rows, best = [], math.inf
    for log in stages:
        change = math.exp(min(log["validation"] - best, 0.0)) - 1
        said = "first" if math.isinf(best) else "none" if change > -0.0005 else f"{change:+.1%}"
        calls, error = sum(log["network_evaluations"].values()), three(math.exp(log["validation"]))
        rows.append(("", [_stage(str(log["stage"])), error, said, f"{calls:,}", f"{log['seconds']:.1f} s"]))
        best = min(best, log["validation"])
    if not rows:
        return p("The stages appear here as they finish. References are measured first.", "note")
    note = "The error is that of the best plan so far, on validation noises that no stage uses to search."
    return table(["stage", "error", "change", "network evaluations", "time"], rows) + p(note, "note")


def _stage(name: str) -> str:
    """A stage with what it does in a few words."""
    return f'{escape(name)} <span class="why">{escape(in_words(name))}</span>'


def verdict(plan: Plan) -> str:
    """The verdict of a tuned plan with its interval, in words."""
    both, evidence = both_numbers(plan.evidence), plan.evidence or {}
    large = both.large if both is not None and evidence.get("gain") else "The best default stays"
    lines = [line for line in lead(plan.evidence) if not line.startswith(large)]
    details = f"<details><summary>All tests</summary>{bullet_list(statement(evidence))}</details>"
    return f'<div class="verdict"><div class="big">{escape(large)}</div>{"".join(p(line) for line in lines)}{details}</div>'
