"""Tuning: static families, then a search over the levels, then the guard."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sigmatune import schedules
from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError, unknown_name
from sigmatune.plan import Plan
from sigmatune.schedule import Schedule, whole
from sigmatune.solvers import SOLVERS
from sigmatune.tuning import candidates
from sigmatune.tuning.guard import evidence, judge
from sigmatune.tuning.search import search
from sigmatune.tuning.spectral import Regulariser, optimal, power_of
from sigmatune.tuning.stages import AUTO, STAGES, climb
from sigmatune.tuning.workbench import HIGHEST, Progress, Settings, Workbench

SCREEN = 16
"""Tuning noises on which all static candidates are screened before the best are measured on all."""

FINALISTS = 6
STARTS = 2


def tune(
    model: Denoiser,
    calls: int = 8,
    *,
    solver: str = "dpmpp2m",
    method: str = "search",
    coefficients: bool = False,
    settings: Settings | None = None,
    store: Path | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Finds the noise levels that get the most out of a budget of network calls, and proves it.

    Candidates are the static families over their useful parameters, the levels that are optimal in closed form for the
    spectrum of the model's own samples, and what CMA-ES over log sigma finds from the best of them. The
    result is guarded (:mod:`sigmatune.tuning.guard`): it is never worse than the best static default beyond noise.

    Args:
        model: The denoiser.
        calls: Budget of network evaluations per image; the largest number of steps whose calls fit is used, and where
            guidance is on anywhere, every call counts as two.
        solver: A solver of the registry.
        method: "search": static families, closed form, CMA-ES; "auto": the stages of :data:`sigmatune.tuning.stages.AUTO`;
            or one stage by name, after the static ones.
        coefficients: Last, also tune the plan's own coefficients by gradient; only with another method than "search".
        settings: How much work to do; :class:`Settings` by default.
        store: A folder in which measurements are kept, so that a killed run goes on where it was.
        progress: Sees what is being done.

    Returns:
        A plan with its evidence and cost; the best static default, with the words "no gain", if nothing beat it.

    Raises:
        SigmaTuneError: for an unknown solver, a budget below one step, or a model that returns NaN.
    """
    bench = Workbench(model, settings, store=store, progress=progress)
    return tune_on(bench, calls, solver=solver, method=method, coefficients=coefficients)


def tune_on(
    bench: Workbench, calls: int, *, solver: str = "dpmpp2m", method: str = "search", coefficients: bool = False
) -> Plan:
    """Tunes on a workbench, so that several budgets and solvers share one reference; see :func:`tune`."""
    calls, names = whole(calls, "calls"), stages_of(method, coefficients=coefficients)
    if not SOLVERS[solver].deterministic():
        raise SigmaTuneError(
            f"{SOLVERS[solver].name} adds noise and the guard compares end points of the same noise; tune a deterministic "
            "solver, or build levels for this one with sigmatune.tuning.spectral.optimal."
        )
    steps = SOLVERS[solver].steps_for(calls // _evaluations_per_call(bench.model))
    solver = SOLVERS[solver].name
    cost = bench.meter()
    for split in ("tuning", "validation"):
        bench.reference(split)
    tuned, log = (_best_tuned(bench, steps, solver), None) if names is None else climb(bench, steps, solver, names)
    default, label, scores = _best_default(bench, steps, solver)
    judged = judge(bench, tuned, default)
    chosen = tuned if judged.gain else default
    return chosen.with_notes(
        micro_batch=bench.settings.micro_batch,
        tuned_for={
            "calls": calls,
            "steps": steps,
            "solver": solver,
            "shape": list(bench.model.shape),
            "guidance": bench.model.guidance,
        },
        evidence=evidence(bench, judged, scores, label),
        cost=cost() if log is None else {**cost(), "stages": log},
    )


def stages_of(method: str, *, coefficients: bool) -> tuple[str, ...] | None:
    """The stages of a method; None for the search, which is one piece.

    Raises:
        SigmaTuneError: for an unknown method, or coefficients with the search.
    """
    if method == "search" and coefficients:
        raise SigmaTuneError("the search moves levels only; take method='auto' to tune coefficients as well.")
    if method == "search":
        return None
    if method != "auto" and method not in STAGES:
        raise unknown_name("tuning method", method, ["search", "auto", *STAGES])
    names = AUTO if method == "auto" else ("static", STAGES[method].name)
    return tuple(dict.fromkeys([*names, *(["coefficients"] if coefficients else [])]))


def _evaluations_per_call(model: Denoiser) -> int:
    """The most network evaluations that one call can cost: 2 if guidance is on anywhere in the model's range."""
    low, high = model.path.sigma_min, min(model.path.sigma_max, HIGHEST)
    return max(model.calls_at(float(sigma)) for sigma in np.geomspace(low, high, 200))


def _best_default(bench: Workbench, steps: int, solver: str) -> tuple[Plan, str, list[dict[str, Any]]]:
    """The best of the published defaults on the validation noises: (plan, label, all scores)."""
    plans: dict[str, Plan] = {}
    for label, family, options in schedules.defaults(bench.model.path, bench.model.default_schedule):
        with suppress(SigmaTuneError):  # not defined here, such as rounding onto the same whole timestep
            plans[label] = bench.plan(schedules.build(family, steps, bench.model.path, **options), solver)
    if not plans:
        raise SigmaTuneError(f"no static default is defined for this model at {steps} steps; ask for fewer.")
    values = bench.scores(list(plans.values()), "validation")
    scored = sorted(zip(values, plans, plans.values(), strict=True), key=lambda entry: entry[0])
    scores = [{"name": label, "mean_log_error": score} for score, label, _ in scored]
    return scored[0][2], scored[0][1], scores


def _best_tuned(bench: Workbench, steps: int, solver: str) -> Plan:
    """The best candidate on the tuning noises, search included, confirmed on the validation noises."""
    path, default, settings = bench.model.path, bench.model.default_schedule, bench.settings
    screen = min(SCREEN, settings.tuning)
    calls = SOLVERS[solver].calls(steps) * _evaluations_per_call(bench.model)
    trial = bench.padded(settings.tuning) * calls
    expected = candidates.most(path, default)
    _check_budget(bench, expected * bench.padded(screen) * calls + FINALISTS * trial)
    tried = spent = 0

    def measured(schedules: list[Schedule], rows: int = settings.tuning) -> list[float]:
        nonlocal tried, spent
        plans = [_compiled(bench, schedule, solver) for schedule in schedules]
        found = iter(bench.scores([plan for plan in plans if plan is not None], "tuning", rows=rows))
        tried, spent = tried + len(plans), spent + len(plans) * bench.padded(rows) * calls
        if bench.progress is not None:
            total = expected + FINALISTS + settings.evaluations
            bench.progress(f"trying schedules of {steps} steps", min(tried, total), total)
        return [math.inf if plan is None else next(found) for plan in plans]

    screened = candidates.rank(steps, path, lambda schedules: measured(schedules, screen), default)
    # A candidate, never the answer: what is optimal for Gaussian data of this spectrum may not be for a network.
    modes = power_of(bench.reference("tuning"))
    derived = [] if modes is None else [optimal(solver, steps, modes, path, regulariser=Regulariser())]
    finalists = [*screened[: FINALISTS - len(derived)], *derived]
    ranked = [finalists[i] for i in np.argsort(measured(finalists), kind="stable")]
    evaluations = settings.evaluations if settings.budget is None else (settings.budget - spent) // trial
    found = search(ranked[:STARTS], measured, path, evaluations=evaluations, seed=settings.seed)
    plans = [bench.plan(schedule, solver) for schedule in (found, ranked[0])]
    return min(zip(bench.scores(plans, "validation"), plans, strict=True), key=lambda pair: pair[0])[1]


def _compiled(bench: Workbench, schedule: Schedule, solver: str) -> Plan | None:
    """The plan, or None if two levels fall on one timestep of a network of whole timesteps."""
    try:
        return bench.plan(schedule, solver)
    except SigmaTuneError:
        if bench.model.integer_time:
            return None
        raise


def _check_budget(bench: Workbench, cost: int) -> None:
    budget = bench.settings.budget
    if budget is not None and cost > budget:
        raise SigmaTuneError(
            f"a budget of {budget} network evaluations does not pay for the static candidates, which cost {cost}; "
            "raise it or use fewer tuning noises."
        )
