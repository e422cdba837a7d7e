"""Tuning: stages of increasingly expensive search over the levels, then the guard."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, overload

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import Schedule, whole
from sigmatune.plan import Plan
from sigmatune.plan.calls import most_per_call
from sigmatune.plan.tuned_for import tuned_for
from sigmatune.solvers import SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.baseline import Baseline, best_default, family_label
from sigmatune.tuning.budget import Allowance, Budget
from sigmatune.tuning.climb import Climb, climb
from sigmatune.tuning.guard import judge
from sigmatune.tuning.guard_evidence import evidence
from sigmatune.tuning.settings import TuningSettings
from sigmatune.tuning.stage_choice import for_measure, stages_of, with_payable_tables
from sigmatune.tuning.stages import STAGES
from sigmatune.tuning.task import Goal, Task
from sigmatune.tuning.workbench import Progress, Workbench

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
    settings: TuningSettings | None = ...,
    store: Path | None = ...,
    progress: Progress | None = ...,
    measure: str | None = ...,
    measure_options: Mapping[str, Any] | None = ...,
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
    settings: TuningSettings | None = ...,
    store: Path | None = ...,
    progress: Progress | None = ...,
    measure: str | None = ...,
    measure_options: Mapping[str, Any] | None = ...,
) -> dict[int, Plan]: ...


def tune(  # noqa: PLR0913 - the front door
    model: Denoiser,
    calls: int | Sequence[int] = 8,
    *,
    solver: str = "dpmpp2m",
    method: str = "auto",
    coefficients: bool = False,
    budget: Spending = None,
    settings: TuningSettings | None = None,
    store: Path | None = None,
    progress: Progress | None = None,
    measure: str | None = None,
    measure_options: Mapping[str, Any] | None = None,
) -> Plan | dict[int, Plan]:
    """Finds the noise levels that get the most out of a budget of network calls, and proves it.

    The stages of :mod:`sigmatune.tuning.stages` run one after the other, cheap ones first. The result is guarded
    (:mod:`sigmatune.tuning.guard`): it is never significantly worse than the best static default.

    Args:
        model: The denoiser.
        calls: Network evaluations per image that sampling may take; the largest number of steps whose calls fit is used, and
            where guidance is on anywhere, every call counts as two. Several of them share references and tables.
        solver: A solver of the registry.
        method: "auto": the stages of :data:`sigmatune.tuning.stage_choice.AUTO`; or one stage by name, after the static ones.
        coefficients: In place of the gradient over the levels, one over levels and the plan's own coefficients.
        budget: The budget of tuning itself for all ``calls`` together, the reference and the guard not counted: network
            evaluations of single images such as 20000, or a time such as "10min"
            (:class:`~sigmatune.tuning.budget.Budget`).
        settings: How many noises; :class:`TuningSettings` by default.
        store: A folder for measurements, so that a killed run resumes where it was.
        progress: Receives the current action.
        measure: What the error is that tuning minimises and the guard compares, a name in
            :data:`sigmatune.measures.MEASURES`; by default ``whitened`` for data on a grid, else ``rms``.
        measure_options: Options of that measure, such as ``{"exponent": 1.0}``.

    Returns:
        A plan with its evidence and cost; the best static default, with the verdict "no gain", if nothing beat it. For
        several ``calls`` a dictionary from each to its plan.

    Raises:
        SigmaTuneError: for an unknown solver, method or measure, calls below one step, a budget that does not pay for one
            plan, or a model that returns NaN.
    """
    bench = Workbench(model, settings, store=store, progress=progress, measure=measure, measure_options=measure_options)
    return tune_on(bench, calls, solver=solver, method=method, coefficients=coefficients, budget=budget)


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
    wanted = [whole(n, "calls") for n in (calls if isinstance(calls, Sequence) else [calls])]
    names, allowance = stages_of(method, coefficients=coefficients), Allowance(bench, Budget.of(budget))
    names = for_measure(names, bench.measure_choice, method=method)
    if not wanted:
        raise SigmaTuneError("no number of calls was given; ask for one or more, such as [4, 6, 8, 10].")
    if not SOLVERS[solver].paired():
        why = "samples in phase space" if SOLVERS[solver].augmented else "adds noise"
        raise SigmaTuneError(
            f"{SOLVERS[solver].name} {why} and this guard compares end points of the same noise; tune a deterministic "
            "position-space solver, or choose by the spectrum and a distance to data with "
            "sigmatune.workflows.tune_by_spectrum."
        )
    solver, per_call = SOLVERS[solver].name, most_per_call(bench.model)
    steps = {n: SOLVERS[solver].steps_for(n // per_call) for n in sorted(set(wanted), reverse=True)}
    most = max(steps.values())
    if method == "auto":
        names = with_payable_tables(names, Task(bench, Goal(most, solver), (), allowance, 0))
    plans: dict[int, Plan] = {}
    levels: dict[int, Schedule] = {}
    for n, count in steps.items():
        cost = bench.meter()
        logger.info("tuning %s for %d calls, %d steps; stages: %s", solver, n, count, ", ".join(names))
        bench.check()
        for split in ("tuning", "validation"):
            bench.reference(split)
        tables = Task(bench, Goal(count, solver, most), (), allowance, 0)
        left = sum(STAGES[name].left(tables) for name in names)
        share = allowance.share(count / sum(steps[m] for m in steps if m not in plans), besides=left)
        nearest = [levels[m] for m in sorted(levels, key=lambda m: abs(steps[m] - count))]
        rival = best_default(bench, count, solver)
        climbed = climb(bench, Goal(count, solver, most, nearest), names, allowance=share, starts=[rival.plan])
        levels[n] = climbed.levels
        target = tuned_for(bench.model, solver=solver, calls=n, steps=count, measure=bench.measure_choice.to_dict())
        plans[n] = _guarded(bench, climbed, rival, target).with_notes(
            cost={**cost(), "method": method, "stages": climbed.log}
        )
    return {n: plans[n] for n in wanted} if isinstance(calls, Sequence) else plans[wanted[0]]


def _guarded(bench: Workbench, climbed: Climb, rival: Baseline, target: dict[str, Any]) -> Plan:
    """The tuned plan with its evidence, or the best static default with the words "no gain"."""
    judged = judge(bench, climbed.plan, rival.plan, searched=climbed.family)
    searched = None if climbed.family is None else family_label(climbed.family)
    report = evidence(bench, judged, rival.scores, rival.label, searched_label=searched)
    logger.info("%s, %d steps: %s", target["solver"], target["steps"], report["verdict"])
    return (climbed.plan if judged.gain else rival.plan).with_notes(
        micro_batch=bench.settings.micro_batch, tuned_for=target, evidence=report
    )
