"""Tuning without a correct image per row: plans that add noise, and phase-space plans.

The amount of noise and the levels are chosen for the data's spectrum in closed form
(:mod:`sigmatune.tuning.spectral_search`), without a network call. Then images decide (:mod:`sigmatune.workflows.judge`): on
validation noises every candidate and every default draws images, and the best of each kind advances; on held-out noises
these two are compared once. Without a gain the default is returned, with the verdict "no gain".
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sigmatune import schedules, solvers
from sigmatune.core.denoiser import Denoiser
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan.calls import largest
from sigmatune.plan.estimate import CostEstimate
from sigmatune.plan.tuned_for import tuned_for
from sigmatune.support.card import count
from sigmatune.support.progress import Progress
from sigmatune.tuning.gaussian_optimum import Modes
from sigmatune.tuning.spectral_search import STRENGTH, SpectralSearch, choose
from sigmatune.workflows.evaluation_estimates import estimate
from sigmatune.workflows.judge import LEAST, ImageVerdict, Judge, ReferenceData

KINDS: tuple[tuple[SpectralSearch, bool], ...] = (
    (SpectralSearch("curve", "whitened"), True),
    (SpectralSearch("curve", "rms"), True),
    (SpectralSearch("curve", "whitened"), False),
    (SpectralSearch("free", "whitened"), False),
)
"""Candidate searches, each with whether it chooses the amount of noise."""

Named = tuple[str, Plan]


def tune_by_spectrum(
    model: Denoiser, calls: int, solver: str, modes: Modes, data: ReferenceData, *, progress: Progress | None = None
) -> Plan:
    """Chooses noise and levels by the spectrum and lets images decide.

    Args:
        model: The model.
        calls: Network calls per image; guidance counts.
        solver: A solver of the registry.
        modes: The spectrum of the model's data.
        data: The data to compare the images with.
        progress: Sees the images done.

    Returns:
        The chosen plan, with evidence and cost, or the best default without a gain.

    Raises:
        SigmaTuneError: if the calls pay for no step, there are fewer than 64 images, or the data do not fit the model.
    """
    name = solvers.solver(solver).name
    judge, began = Judge(data, tuple(model.shape), progress), time.monotonic()
    ranked = {}
    defaults, candidates = _defaults(model, name, calls), _candidates(model, name, calls, modes)
    judge.expect([judge.few] * len([*defaults, *candidates]) + [data.n] * 2)
    for kind, plans in (("default", defaults), ("chosen", candidates)):
        ranked[kind] = [(label, plan, judge.score(model, plan)) for label, plan in plans]
    best = {kind: min(scored, key=lambda entry: entry[2]) for kind, scored in ranked.items()}
    judged = judge.verdict((model, best["chosen"][1]), (model, best["default"][1]))
    label, plan, _ = best["chosen" if judged.gain else "default"]
    evidence = {
        "verdict": _verdict(judged, best["default"][0]),
        "gain": judged.gain,
        "baseline": best["default"][0],
        "chosen": label,
        "differences": [d.to_dict() for d in judged.differences],
        "validation": [
            {"label": name, "kind": kind, "mean_log_frechet_distance": score}
            for kind, scored in ranked.items() for name, _, score in scored
        ],
        **judge.about(),
        "dtype": model.arithmetic(),
    }  # fmt: skip
    spent = judge.spent
    cost = {"network_evaluations": {"pictures": spent, "total": spent}, "seconds": time.monotonic() - began}
    target = tuned_for(model, solver=name, calls=calls, steps=plan.steps) | {"resolution": list(model.shape[1:])}
    return plan.with_notes(evidence=evidence, cost=cost, tuned_for=target)


def _candidates(model: Denoiser, solver: str, calls: int, modes: Modes) -> list[Named]:
    candidates: list[Named] = []
    known = solvers.solver(solver).defaults
    for search, noise in KINDS:
        kept = {} if noise else {name: value for name, value in known.items() if name in STRENGTH}
        choice = partial(_chosen, model, solver, modes, search, kept)
        plan = largest(choice, solvers.solver(solver), calls, model)
        strength = {key: value for key, value in plan.solver_options.items() if key in STRENGTH}
        said = ", ".join(
            [
                f"{search.levels} by the spectrum, {search.measure} error",
                *(f"{key}={value:.3g}" for key, value in strength.items()),
            ]
        )
        candidates.append((said, plan))
    return candidates


def _chosen(
    model: Denoiser, solver: str, modes: Modes, search: SpectralSearch, kept: Mapping[str, Any], steps: int
) -> Plan:
    choice = choose(solver, steps, modes, model.path, search, **kept)
    return compile_plan(choice.schedule, solver, model, **choice.options)


def _defaults(model: Denoiser, solver: str, calls: int) -> list[Named]:
    """The published settings: the papers' two grids in phase space, the static list elsewhere."""
    if solvers.solver(solver).augmented:
        high = min(model.path.sigma_max, solvers.solver(solver).highest())
        listed: Sequence[tuple[str, str, dict[str, float]]] = [
            (f"{said} grid, lambda_s=1", "phase-time", {"power": power, "sigma_max": high})
            for said, power in (("quadratic", 2.0), ("uniform", 1.0))
        ]
    else:
        listed = schedules.defaults(model.path, model.default_schedule)

    def built(family: str, options: Mapping[str, float], steps: int) -> Plan:
        return compile_plan(schedules.build(family, steps, model.path, **options), solver, model)

    plans = {
        label: largest(partial(built, family, options), solvers.solver(solver), calls, model)
        for label, family, options in listed
    }
    joined = schedules.joined((label, plan.schedule) for label, plan in plans.items())
    return [(rival.label, plans[rival.label]) for rival in joined]


def _verdict(judged: ImageVerdict, rival: str) -> str:
    if judged.gain:
        better = (
            f"{sum(one.gain for one in judged.differences)} of {count(len(judged.differences), 'Frechet distance')}"
        )
        return (
            f"gain: on {judged.n} held-out noises {better} significantly lower than the best default's, {rival}, none "
            f"higher: {judged.spans}."
        )
    return (
        f"no gain: on {judged.n} held-out noises the choice is not significantly better than {rival}, "
        f"so this is that default: {judged.spans}."
    )


def by_spectrum_estimate(
    model: Denoiser, calls: Sequence[int], solver: str, images: int, *, each: float | None = None
) -> CostEstimate:
    """What :func:`tune_by_spectrum` costs for several numbers of calls.

    Args:
        model: The model; it is called a few times unless ``each`` is given.
        calls, solver: As there.
        images: Of each held-out set.
        each: Seconds of a network evaluation of a single image; by default they are measured.
    """
    name, few = solvers.solver(solver).name, max(images // 4, LEAST)
    parts, drawn = {"validation": 0, "held out": 0}, 0
    for n in calls:
        plans = [plan for _, plan in _defaults(model, name, n)]
        cost = max(plan.network_calls(model) for plan in plans)
        parts["validation"] += (len(plans) + len(KINDS)) * few * cost
        parts["held out"] += 2 * images * cost
        drawn += (len(plans) + len(KINDS)) * few + 2 * images
    return estimate(model, parts, drawn, each)
