"""Tuning: stages of increasingly expensive search over the levels, then the guard."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, overload

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import Schedule, whole
from sigmatune.plan import Plan
from sigmatune.plan.calls import most_per_call, steps_for
from sigmatune.plan.compiler import check_levels
from sigmatune.plan.estimate import call_seconds, shown
from sigmatune.plan.tuned_for import tuned_for
from sigmatune.solvers import SOLVERS, Solver
from sigmatune.support.engine import Engine
from sigmatune.support.engine import engine as engine_of
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Shown
from sigmatune.tuning.baseline import Baseline, best_default, family_label
from sigmatune.tuning.budget import Allowance, Budget
from sigmatune.tuning.climb import Climb, climb
from sigmatune.tuning.effort import EFFORTS
from sigmatune.tuning.estimates import TuningJob
from sigmatune.tuning.forecast import forecast, guarded, held_out, judging
from sigmatune.tuning.guard import judge
from sigmatune.tuning.guard_evidence import evidence
from sigmatune.tuning.measure_choice import MeasureChoice
from sigmatune.tuning.settings import TuningSettings
from sigmatune.tuning.stage_choice import for_measure, stages_of, with_payable_tables
from sigmatune.tuning.stages import FINALISTS, STAGES
from sigmatune.tuning.task import Goal, Task
from sigmatune.tuning.time_budget import cheapest, untested
from sigmatune.tuning.trajectory import check_steps
from sigmatune.tuning.workbench import Workbench

logger = logging.getLogger(__name__)

Spending = Budget | int | str | timedelta | None


@overload
def tune(
    model: Denoiser,
    calls: int = ...,
    *,
    solver: str = ...,
    method: str = ...,
    coefficients: bool = ...,
    budget: Spending = ...,
    effort: str = ...,
    settings: TuningSettings | None = ...,
    store: str | Path | None = ...,
    progress: Shown = ...,
    measure: str | None = ...,
    measure_options: Mapping[str, Any] | None = ...,
    engine: str | Engine = ...,
) -> Plan: ...
@overload
def tune(
    model: Denoiser,
    calls: Sequence[int],
    *,
    solver: str = ...,
    method: str = ...,
    coefficients: bool = ...,
    budget: Spending = ...,
    effort: str = ...,
    settings: TuningSettings | None = ...,
    store: str | Path | None = ...,
    progress: Shown = ...,
    measure: str | None = ...,
    measure_options: Mapping[str, Any] | None = ...,
    engine: str | Engine = ...,
) -> dict[int, Plan]: ...


def tune(  # noqa: PLR0913 - the front door
    model: Denoiser,
    calls: int | Sequence[int] = 8,
    *,
    solver: str = "dpmpp2m",
    method: str = "auto",
    coefficients: bool = False,
    budget: Spending = None,
    effort: str = "normal",
    settings: TuningSettings | None = None,
    store: str | Path | None = None,
    progress: Shown = True,
    measure: str | None = None,
    measure_options: Mapping[str, Any] | None = None,
    engine: str | Engine = "local",
) -> Plan | dict[int, Plan]:
    """Finds the noise levels that get the most out of a budget of network calls, and proves it.

    The stages of :mod:`sigmatune.tuning.stages` run one after the other, cheap ones first. The result is guarded
    (:mod:`sigmatune.tuning.guard`): it is the best static default, or significantly better than it on held-out noises.

    Args:
        model: The denoiser.
        calls: Network evaluations per image that sampling may take; the largest number of steps whose calls fit is used, and
            where guidance is on anywhere, every call counts as two. Several of them share references and tables.
        solver: A solver of the registry.
        method: "auto": the stages of :data:`sigmatune.tuning.stage_choice.AUTO`; or one stage by name, after the static ones.
        coefficients: In place of the gradient over the levels, one over levels and the plan's own coefficients.
        budget: The budget for all ``calls`` together: network evaluations of single images such as 20000, for the search alone;
            or a time such as "10min", for everything, with fewer noises if it is short
            (:mod:`sigmatune.tuning.time_budget`).
        effort: "low", "normal" or "high": how many noises, and a budget for the method "auto"
            (:mod:`sigmatune.tuning.effort`); ``settings`` and ``budget`` come first.
        settings: How many noises.
        store: A folder for measurements, so that a killed run resumes where it was.
        progress: True for a bar on a terminal and lines on stderr elsewhere, after an estimate if it takes long; False for
            nothing; or a function (what, done, total) that receives the present stage and the work of the whole. The estimate
            takes a few calls of the network, which the plan's cost does not count.
        measure: What the error is that tuning minimises and the guard compares, a name in
            :data:`sigmatune.measures.MEASURES`; by default ``whitened`` for data on a grid, else ``rms``.
        measure_options: Options of that measure, such as ``{"exponent": 1.0}``.
        engine: Where references and candidates run: "local", "ray", "ray://host:10001" (:mod:`sigmatune.support.engine`), or an
            open engine; the plan is the same.

    Returns:
        A plan with its evidence and cost; the best static default, with the verdict "no gain", if nothing beat it. For
        several ``calls`` a dictionary from each to its plan.

    Raises:
        SigmaTuneError: for an unknown solver, method, effort or measure, calls below one step, a budget that does not pay for
            one plan, or a model that returns NaN.
    """
    began, several = time.monotonic(), calls if isinstance(calls, Sequence) else [calls]
    work = EFFORTS[effort]
    if budget is None:
        budget = work.budget(len(several), method=method, coefficients=coefficients)
    job = TuningJob([whole(n, "calls") for n in several], solver, method, coefficients, Budget.of(budget))
    wanted, estimate = TuningSettings.chosen(settings, work.settings), None
    check(job, model)
    MeasureChoice.of(model.shape, measure, measure_options)  # refused before a call is timed
    if job.timed or progress is True:
        estimate = job.estimate(model, wanted)
        wanted = job.settings(model, wanted, estimate.call_seconds)
    with (
        engine_of(engine) as running,
        shown(progress, "tuning", estimate=estimate and estimate.on(running, model, besides=False)) as report,
    ):
        bench = Workbench(model, wanted, store=store, measure=measure, measure_options=measure_options, engine=running)
        bench.progress.progress = report
        bench.costs.call_seconds = 0.0 if estimate is None else estimate.call_seconds
        limit = job.budget.since(began)
        return tune_on(bench, calls, solver=solver, method=method, coefficients=coefficients, budget=limit)


@overload
def tune_on(
    bench: Workbench,
    calls: int,
    *,
    solver: str = ...,
    method: str = ...,
    coefficients: bool = ...,
    budget: Spending = ...,
) -> Plan: ...
@overload
def tune_on(
    bench: Workbench,
    calls: Sequence[int],
    *,
    solver: str = ...,
    method: str = ...,
    coefficients: bool = ...,
    budget: Spending = ...,
) -> dict[int, Plan]: ...


def tune_on(
    bench: Workbench,
    calls: int | Sequence[int],
    *,
    solver: str = "dpmpp2m",
    method: str = "auto",
    coefficients: bool = False,
    budget: Spending = None,
) -> Plan | dict[int, Plan]:
    """Tunes on a workbench, so that several solvers share one reference; see :func:`tune`."""
    job = TuningJob(
        [whole(n, "calls") for n in (calls if isinstance(calls, Sequence) else [calls])], solver, method, coefficients,
        Budget.of(budget),
    )  # fmt: skip
    check(job, bench.model)
    plans = _Tuning(bench, job).run()
    return plans if isinstance(calls, Sequence) else plans[job.calls[0]]


def check_solver(name: str, calls: Iterable[int]) -> Solver:
    """The solver of a name, if plans of some numbers of calls can be tuned for it, noise by noise.

    Raises:
        SigmaTuneError: for an unknown solver, one whose end points cannot be paired, or calls below one step.
    """
    known = SOLVERS[name]
    if not known.paired():
        why = "samples in phase space" if known.augmented else "adds noise"
        raise SigmaTuneError(
            f"{known.name} {why} and this guard compares end points of the same noise; tune a deterministic "
            "position-space solver, or choose by the spectrum and a distance to data with "
            "sigmatune.workflows.tune_by_spectrum."
        )
    for number in calls:
        known.steps_for(number)
    return known


def check(job: TuningJob, model: Denoiser) -> None:
    """Refuses what cannot be tuned, before any work.

    Raises:
        SigmaTuneError: for an unknown solver or method, calls below one step, a solver whose end points cannot be paired, or
            one that asks between its levels where the network accepts whole timesteps only.
    """
    if not job.calls:
        raise SigmaTuneError("no number of calls was given; ask for one or more, such as [4, 6, 8, 10].")
    stages_of(job.method, coefficients=job.coefficients)
    known = check_solver(job.solver, job.calls)
    check_levels(known, model)
    if job.method == "trajectory":
        check_steps(known)
    for n in job.calls:
        steps_for(known, n, model)


class _Tuning:
    """A tuning of several numbers of calls, most steps first."""

    def __init__(self, bench: Workbench, job: TuningJob) -> None:
        self.bench, self.job, self.solver = bench, job, SOLVERS[job.solver].name
        if job.timed and not bench.costs.call_seconds:
            bench.costs.call_seconds = call_seconds(bench.model, bench.settings.micro_batch)
        self.allowance = Allowance(bench, job.budget)
        names, per_call = for_measure(job.stages, bench.measure_choice, method=job.method), most_per_call(bench.model)
        self.steps = {n: SOLVERS[self.solver].steps_for(n // per_call) for n in sorted(set(job.calls), reverse=True)}
        self.most = max(self.steps.values())
        if job.method == "auto":
            names = with_payable_tables(names, self._task(self.most))
        self.names, self.plans, self.levels = names, dict[int, Plan](), dict[int, Schedule]()

    def run(self) -> dict[int, Plan]:
        """The plans, by calls as asked."""
        forecasts = forecast(self.bench, self.job.calls, solver=self.solver, stages=self.names, budget=self.job.budget)
        self.bench.progress.expect(sum(forecasts.values()))
        for n, count in self.steps.items():
            logger.info("tuning %s for %d calls, %d steps; stages: %s", self.solver, n, count, ", ".join(self.names))
            cost = self.bench.meter()
            self.bench.progress("check of the model", 1, 1)
            self.bench.check()
            target = tuned_for(
                self.bench.model, solver=self.solver, calls=n, steps=count, measure=self.bench.measure_choice.to_dict()
            )
            plan = self._tuned(n, count, target)
            spent = {**cost(), "method": self.job.method, "stages": [], **(plan.cost or {})}
            self.plans[n] = plan.with_notes(tuned_for=target, cost=spent)
        self.bench.progress.finish()
        return {n: self.plans[n] for n in self.job.calls}

    def _tuned(self, n: int, count: int, target: dict[str, Any]) -> Plan:
        bench, allowance = self.bench, self.allowance
        if allowance.timed:
            allowance.reserve = 0
            least = forecast(bench, [n], solver=self.solver, stages=self.names, budget=Budget(), least=True)
            shared = bench.spent("reference")  # the references of tuning and validation, and the surrogate's path
            if not allowance.pays(max(sum(least.values()) - shared, 0)):
                bench.progress(f"{count} steps: defaults", 1, 1)
                rival = cheapest(bench, count, self.solver, seconds=allowance.seconds)
                return untested(bench, rival)
        for split in ("tuning", "validation"):
            bench.reference(split)
        bench.progress(f"{count} steps: defaults", 1, 1)
        rival = best_default(bench, count, self.solver)
        allowance.reserve = self._evidence(count) if allowance.timed else 0
        tables = self._task(count)
        left = sum(STAGES[name].left(tables) for name in self.names)
        remaining = sum(self.steps[m] for m in self.steps if m not in self.plans)
        share = allowance.share(count / remaining, besides=left)
        if share.timed and not share.pays(tables.rows(FINALISTS + 1, validation=1)):
            return untested(bench, rival)
        nearest = [self.levels[m] for m in sorted(self.levels, key=lambda m: abs(self.steps[m] - count))]
        goal = Goal(count, self.solver, self.most, nearest)
        climbed = climb(bench, goal, self.names, allowance=share, starts=[rival.plan])
        self.levels[n] = climbed.levels
        return _guarded(bench, climbed, rival, target, self._affordable).with_notes(cost={"stages": climbed.log})

    def _affordable(self, steps: int) -> bool:
        """Whether a limit in time pays for another reference of the guard; the first doubling is in its reserve."""
        bench, first = self.bench, self.bench.settings.reference_steps
        price = bench.padded(bench.settings.held_out) * bench.reference_plan(steps).network_calls(bench.model)
        return not self.allowance.timed or steps == 2 * first or price * bench.costs.pace < self.allowance.seconds

    def _task(self, count: int) -> Task:
        return Task(self.bench, Goal(count, self.solver, self.most), (), self.allowance, 0)

    def _evidence(self, count: int) -> int:
        """What the guard of a number of steps and all of the numbers after it still cost."""
        later = [steps for steps in self.steps.values() if steps < count]
        return judging(self.bench, [count]) + held_out(self._task(count)) + sum(guarded(self._task(n)) for n in later)


def _guarded(
    bench: Workbench, climbed: Climb, rival: Baseline, target: dict[str, Any], affordable: Callable[[int], bool]
) -> Plan:
    """The tuned plan with its evidence, or the best static default with the words "no gain"."""
    judged = judge(bench, climbed.plan, rival.plan, searched=climbed.family, affordable=affordable)
    searched = None if climbed.family is None else family_label(climbed.family)
    report = evidence(bench, judged, rival.scores, rival.label, searched_label=searched)
    logger.info("%s, %d steps: %s", target["solver"], target["steps"], report["verdict"])
    return (climbed.plan if judged.gain else rival.plan).with_notes(
        micro_batch=bench.settings.micro_batch, evidence=report
    )
