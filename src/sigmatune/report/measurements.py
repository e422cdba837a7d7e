r"""The measurements of a report, on the noises that the guard has already used.

Nothing here chooses a plan: the held-out noises are used again only after the verdict. The guard's end points and
references come from the workbench's memory.

A row's error is :math:`e_i`, the paired error of :mod:`sigmatune.tuning.workbench`; the typical error is its geometric
mean over rows, with a bootstrap interval over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from sigmatune import schedules, solvers
from sigmatune.core.schedule import whole
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.plan.calls import most_per_call
from sigmatune.report.decoded import are_latents, shrunk, with_images
from sigmatune.report.facts import ErrorCurve, Group, Pair, Point, ReportFacts, View
from sigmatune.report.residual import residual
from sigmatune.statistics.bootstrap import percentile_interval
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import cache
from sigmatune.tuning.baseline import baseline
from sigmatune.tuning.measure_choice import MeasureChoice, of_evidence
from sigmatune.tuning.workbench import Workbench

SHOWN_DEFAULTS = 2
"""Static defaults in the charts, of each plan the best; the table of the evidence has all."""

BUDGETS = (4, 6, 8, 10, 20)
"""Network calls per image that a report shows beside those of its plans."""

SHOWN = 8
"""How many noises are shown as images: the first of the held-out range, not a selection."""


def measure(
    bench: Workbench, plans: Sequence[Plan], *, rows: int = 16, budgets: Sequence[int] | None = None
) -> ReportFacts:
    """Measures the data of a report on tuned plans.

    Args:
        bench: The workbench on which the plans were tuned.
        plans: The plans, with their evidence.
        rows: Held-out noises for error against calls, at most all of them; each costs the sum of the budgets' calls, times
            the number of static defaults and one.
        budgets: Network calls per image to show beside those of the plans; :data:`BUDGETS` by default.

    Raises:
        SigmaTuneError: if there is no plan, or one was not tuned on this workbench or not with its measure.
    """
    rows = min(whole(rows, "rows"), bench.settings.held_out)
    if rows < 2:
        raise SigmaTuneError("a report needs at least 2 noises.")
    _check(bench, plans)
    cost = bench.meter()
    names = dict.fromkeys(_solver(plan) for plan in plans)
    groups = [_group(bench, name, [p for p in plans if _solver(p) == name], rows, budgets or BUDGETS) for name in names]
    groups = [with_images(bench.model, group) for group in groups]
    views = [_view(bench, plan) for plan in plans]
    spent = cost()
    spent["network_evaluations"] = spent["network_evaluations"].get("report", 0)
    path, held_out = bench.model.path, bench.settings.held_out
    return ReportFacts(
        tuple(bench.model.shape), bench.model.value_range, path.sigma_min, rows, held_out, views, groups, spent,
        latents=are_latents(bench.model),
    )  # fmt: skip


def _check(bench: Workbench, plans: Sequence[Plan]) -> None:
    if not plans:
        raise SigmaTuneError("a report needs at least one tuned plan.")
    seen = bench.settings.rows("held_out")
    for plan in plans:
        if not plan.evidence:
            raise SigmaTuneError(
                "a report shows the evidence of tuned plans, and this plan carries none; tune it first."
            )
        if plan.fingerprint is None or not bench.model.is_model_of(plan.fingerprint):
            raise SigmaTuneError("this plan was tuned for another model than the workbench's.")
        judged = plan.evidence["rows"]
        if (judged["seed"], *judged["held_out"]) != (bench.settings.seed, seen.start, seen.stop):
            raise SigmaTuneError(
                "this plan was tested on other noises than the workbench's; give the settings it was tuned with."
            )
        measure = of_evidence(plan.evidence, bench.model)
        theirs = "rms" if measure is None else str(MeasureChoice(measure.name, measure.options))
        if theirs != str(bench.measure_choice):
            raise SigmaTuneError(
                f"this plan was tuned with the measure {theirs}, the workbench has {bench.measure_choice}; give it the plan's."
            )


def _solver(plan: Plan) -> str:
    return str((plan.tuned_for or {}).get("solver", plan.solver))


def _group(bench: Workbench, solver: str, plans: list[Plan], rows: int, budgets: Sequence[int]) -> Group:
    reference_steps = max((plan.evidence or {})["reference"]["steps"] for plan in plans)
    by_steps = {plan.steps: plan for plan in reversed(plans)}
    steps = _steps(bench, solver, by_steps, budgets)
    families = _defaults(bench, plans)

    def default(family: str, options: dict[str, float], n: int) -> Plan:
        return bench.plan(schedules.build(family, n, bench.model.path, **options), solver)

    makers = {label: partial(default, family, options) for label, family, options in families}
    curves = {label: _defined(make, steps) for label, make in makers.items()}
    # The workbench's memory has all end points of the guard; the rest is sampled in batches.
    judged = {(label, n) for label in curves for n, p in by_steps.items() if (p.evidence or {})["baseline"] == label}
    missing = [plan for label, plans in curves.items() for n, plan in plans.items() if (label, n) not in judged]
    if (
        len(missing) * rows * int(np.prod(bench.model.shape)) * 4 <= cache.KEPT
    ):  # else they would be evicted before their use
        bench.prefetch(missing, "held_out", rows=rows, purpose="report")

    def point(plan: Plan, *, judged: bool) -> Point:
        return _point(bench, plan, rows, reference_steps, judged=judged)

    defaults = [
        ErrorCurve(label, {n: point(plan, judged=(label, n) in judged) for n, plan in plans.items()})
        for label, plans in curves.items()
    ]
    tuned_curve = ErrorCurve("plan", {n: point(plan, judged=True) for n, plan in sorted(by_steps.items())})
    reference = shrunk(bench.reference("held_out", reference_steps)[: min(SHOWN, rows)])
    names = list(dict.fromkeys((plan.evidence or {})["baseline"] for plan in plans))
    pairs = {n: pair for n in steps if (pair := _pair(n, defaults, tuned_curve, by_steps.get(n))) is not None}
    calls = bench.reference_plan(reference_steps).network_calls(bench.model)
    gain = any((plan.evidence or {})["gain"] for plan in plans)
    return Group(solver, [c for c in defaults if c.points], tuned_curve, pairs, reference, calls, names, gain)


def _defaults(bench: Workbench, plans: Sequence[Plan]) -> list[tuple[str, str, dict[str, float]]]:
    """The defaults to show: the baselines, and the best few by each plan's validation noises."""
    names = {(plan.evidence or {})["baseline"] for plan in plans}
    for plan in plans:
        names |= {score["name"] for score in (plan.evidence or {})["defaults_on_validation"][:SHOWN_DEFAULTS]}
    return [entry for entry in schedules.defaults(bench.model.path, bench.model.default_schedule) if entry[0] in names]


def _defined(make: Callable[[int], Plan], steps: Sequence[int]) -> dict[int, Plan]:
    """The plans of a curve at the numbers of steps at which it exists and its levels are distinct timesteps."""
    plans = {}
    for n in steps:
        with suppress(SigmaTuneError):
            plans[n] = make(n)
    return plans


def _steps(bench: Workbench, solver: str, by_steps: dict[int, Plan], budgets: Sequence[int]) -> list[int]:
    """The numbers of steps to show: those of the plans, and the largest that fit the budgets."""
    per_call = most_per_call(bench.model)
    steps = set(by_steps)
    for budget in budgets:
        if budget // per_call >= solvers.solver(solver).calls(1):
            steps.add(solvers.solver(solver).steps_for(budget // per_call))
    return sorted(steps)


def _point(bench: Workbench, plan: Plan, rows: int, reference_steps: int, *, judged: bool) -> Point:
    asked = None if judged else rows
    errors = bench.errors(plan, "held_out", rows=asked, reference_steps=reference_steps, purpose="report")[:rows]
    images = shrunk(bench.outputs(plan, "held_out", rows=asked, purpose="report")[: min(SHOWN, rows)])
    low, high = interval(errors, seed=bench.settings.seed)
    mean, levels = float(np.exp(np.log(errors).mean())), plan.coefficients.q.numpy()
    return Point(plan.network_calls(bench.model), plan.steps, errors, mean, low, high, images, levels)


def interval(errors: Array, *, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval of the geometric mean of positive errors, (rows,), over rows."""
    logs = np.log(errors)
    low, high = np.exp(percentile_interval(logs, lambda resampled: resampled.mean(axis=1), seed=seed))
    return float(low), float(high)


def _pair(n: int, defaults: list[ErrorCurve], tuned: ErrorCurve, judged_plan: Plan | None) -> Pair | None:
    present = [curve for curve in defaults if n in curve.points]
    if judged_plan is not None:
        present = [curve for curve in present if curve.name == (judged_plan.evidence or {})["baseline"]]
    if not present:
        return None
    best = min(present, key=lambda curve: curve.points[n].mean)
    gain = judged_plan is not None and (judged_plan.evidence or {})["gain"]
    return Pair(best.points[n], best.name, tuned.points[n] if gain else None)


def _view(bench: Workbench, plan: Plan) -> View:
    default, evidence = baseline(bench, plan), plan.evidence or {}
    of_baseline, others = (evidence["baseline"], default.coefficients.q.numpy()), []
    for label, family, options in _defaults(bench, [plan]):
        try:
            other = bench.plan(schedules.build(family, plan.steps, bench.model.path, **options), default.solver)
        except SigmaTuneError:
            continue
        if label != evidence["baseline"]:
            others.append((label, other.coefficients.q.numpy()))
    mine = [("tuned plan", plan.coefficients.q.numpy())] if evidence["gain"] else []
    levels = [*mine, of_baseline, *others]
    if len(bench.model.shape) != 3 or min(bench.model.shape[1:]) < 2:
        return View(plan, default, levels, None, None)
    exact = bench.reference("held_out", evidence["reference"]["steps"])
    first, second = (residual(bench.outputs(which, "held_out", purpose="report"), exact) for which in (plan, default))
    return View(plan, default, levels, (first, second), residual(exact))
