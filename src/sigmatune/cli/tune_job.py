"""The work of ``sigmatune tune`` for solvers that are tuned noise by noise: estimate, tuning, report, summary."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigmatune.cli.already import kept, replaced
from sigmatune.cli.common import check_run, load_model, measuring, progress_bar
from sigmatune.cli.dry_run import counted, show
from sigmatune.interop.clients import clients
from sigmatune.support.progress import Parts, say
from sigmatune.support.trackers import tracked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sigmatune.core.denoiser import Denoiser
    from sigmatune.plan import Plan
    from sigmatune.plan.estimate import CostEstimate
    from sigmatune.support.engine import Engine
    from sigmatune.tuning import TuningSettings, Workbench
    from sigmatune.tuning.estimates import TuningJob

ROWS = (16, 8, 4)
"""Noises of the report, most first; a limit in time may allow fewer, or no report."""

OF_REPORT = 0.2
"""The share of a limit in time that the report may take."""

LAST = 1.5
"""Seconds that are kept of a limit in time for writing."""


@dataclass(frozen=True)
class TuneJob:
    """What is tuned noise by noise.

    Attributes:
        model, device, given: The model and its conditions.
        wanted: What to tune for.
        settings: How many noises.
        work: The folder of measurements.
        study: A database for evolution.
        measured_by: The measure, as arguments of a workbench.
        began: When the command began, by ``time.monotonic()``.
        trackers: Names of experiment trackers.
        engine: Where references and candidates run.
    """

    model: str
    device: str
    given: dict[str, Any]
    wanted: TuningJob
    settings: TuningSettings
    work: Path
    study: str | None
    measured_by: dict[str, Any]
    began: float
    trackers: tuple[str, ...] = ()
    engine: str = "local"

    def estimate(self, denoiser: Denoiser, page: Path | None, each: float | None = None) -> tuple[CostEstimate, int]:
        """What the command costs, and how many noises its report has; 0 for no report."""
        from sigmatune.models.imagined import Imagined
        from sigmatune.report.price import price
        from sigmatune.tuning import Workbench

        whole = self.wanted.estimate(denoiser, self.settings, each)
        settings = self.wanted.settings(denoiser, self.settings, whole.call_seconds)
        bench, limit = Workbench(Imagined.of(denoiser), settings), OF_REPORT * self.wanted.budget.seconds
        for rows in ROWS if page is not None else ():
            report = price(bench, self.wanted.calls, self.wanted.solver, rows=rows, glance=rows == ROWS[0])
            if report * whole.call_seconds <= limit:
                return whole.plus("report", report), rows
        return whole, 0

    def show_estimate(self, files: Iterable[Path], page: Path | None, each: float | None, *, as_json: bool) -> None:
        """Prints what the command would cost, and what of it is there."""
        denoiser, remarks = counted(self.model, self.device, self.given, each)
        self._check(denoiser)
        estimate, _ = self.estimate(denoiser, page, each)
        show(
            estimate.noting([*remarks, *kept(self.work), *replaced(files)]),
            denoiser,
            as_json=as_json,
            engine=self.engine,
            besides=False,
        )

    def run(self, files: dict[int, Path], page: Path | None, *, as_json: bool) -> None:
        """Tunes, writes plans and report, and prints the result."""
        from sigmatune.plan.file import dumps
        from sigmatune.support.engine import engine

        check_run(self.work)
        denoiser = load_model(self.model, self.device, self.given)
        self._check(denoiser)
        with measuring(self.work), engine(self.engine) as running:
            estimate, rows = self.estimate(denoiser, page)
            settings = self.wanted.settings(denoiser, self.settings, estimate.call_seconds)
            shown = estimate.on(running, denoiser, besides=False).noting(kept(self.work))
            for line in replaced(files.values()):
                say(line)
            with progress_bar("tuning", quiet=as_json, estimate=shown) as progress:
                report = estimate.evaluations.get("report", 0)
                parts = Parts(progress, [estimate.total - report, report])
                bench, plans = self._tuned(denoiser, settings, estimate, files, (parts.take(), running))
                tested = all((plan.evidence or {}).get("tested", True) for plan in plans.values())
                written = page if page is not None and rows and tested and self._in_time(estimate) else None
                if written is not None:
                    self._report(bench, plans, files, written, rows, parts.take())
        if page is not None and written is None:
            say(f"no report: {'nothing was tested' if not tested else 'the time does not pay for it'}.")
        if as_json:
            texts = [dumps(plan).rstrip() for plan in plans.values()]
            print(texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "\n]")
            if written is not None:
                print(f"report: {written}", file=sys.stderr)
            return
        for number, file in files.items():
            print("\n".join(summary(plans[number], file)))
        if written is not None:
            print(f"report: {written} (its own evaluations are not part of the cost)")
        print(f"measurements: {self.work} (a later tune resumes from them; may be deleted)")

    def _check(self, denoiser: Denoiser) -> None:
        from sigmatune.tuning.measure_choice import MeasureChoice
        from sigmatune.tuning.tuner import check

        MeasureChoice.of(denoiser.shape, self.measured_by.get("measure"), self.measured_by.get("measure_options"))
        check(self.wanted, denoiser)

    def _in_time(self, estimate: CostEstimate) -> bool:
        """Whether the rest of a limit in time pays for the report."""
        left = self.wanted.budget.since(self.began).seconds - LAST
        return estimate.evaluations.get("report", 0) * estimate.call_seconds <= left

    def _tuned(
        self,
        denoiser: Denoiser,
        settings: TuningSettings,
        estimate: CostEstimate,
        files: dict[int, Path],
        shown: tuple[Callable[[str, int, int], None], Engine],
    ) -> tuple[Workbench, dict[int, Plan]]:
        from sigmatune.tuning import Workbench, tune_on
        from sigmatune.tuning.budget import Budget

        progress, running = shown
        bench = Workbench(
            denoiser, settings, store=self.work, study=self.study, progress=progress, engine=running, **self.measured_by
        )
        bench.costs.call_seconds = estimate.call_seconds
        left, wanted = self.wanted.budget.since(self.began), self.wanted
        kept = estimate.evaluations.get("report", 0) * estimate.call_seconds + LAST
        with tracked(self.trackers, self.work) as bench.progress.track:
            plans = tune_on(
                bench, list(files), solver=wanted.solver, method=wanted.method, coefficients=wanted.coefficients,
                budget=Budget(left.evaluations, left.seconds - kept),
            )  # fmt: skip
        for number, file in files.items():
            plans[number].save(file, force=True)  # may_write has decided
        return bench, plans

    def _report(
        self,
        bench: Workbench,
        plans: dict[int, Plan],
        files: dict[int, Path],
        page: Path,
        rows: int,
        progress: Callable[[str, int, int], None],
    ) -> None:
        from sigmatune.report import glance
        from sigmatune.report import write as write_report
        from sigmatune.report.price import price
        from sigmatune.report.usage import PlanUse

        bench.progress.progress = progress
        bench.progress.expect(price(bench, self.wanted.calls, self.wanted.solver, rows=rows, glance=False))
        bench.progress("report", 1, 1)
        write_report(
            page, bench, list(plans.values()), rows=rows, use=PlanUse(self.model, list(files.values()), clients),
            analysis=glance(bench) if rows == ROWS[0] else None,
        )  # fmt: skip
        bench.progress.finish()


def summary(plan: Plan, file: Path) -> list[str]:
    """What is said about a tuned plan, in lines."""
    from sigmatune.tuning.both_numbers import lead

    cost = plan.cost or {}
    levels = ", ".join(f"{sigma:.4g}" for sigma in plan.schedule.sigmas)
    spent: dict[str, Any] = dict(cost["network_evaluations"])
    total = spent.pop("total")
    parts = ", ".join(f"{purpose} {count:,}" for purpose, count in spent.items() if count)
    return [
        *lead(plan.evidence),
        f"sigmas: {levels}  ({plan.steps} steps, {plan.calls} calls, {plan.solver})",
        *_under_guidance(plan),
        f"cost: {total:,} network evaluations of single images ({parts}), {cost['seconds']:.0f} s",
        f"written to {file}",
    ]


def _under_guidance(plan: Plan) -> list[str]:
    """What to set in a pipeline, where a step costs more than one network evaluation."""
    from sigmatune.plan.purpose import cost_words, evaluations

    q = plan.coefficients.q.numpy()
    if evaluations(q, plan.tuned_for) == plan.calls:
        return []
    return [f"in a pipeline: num_inference_steps={plan.calls}; these {cost_words(q, plan.tuned_for)}"]
