"""The end of a fine-tuning: images from held-out noises decide once, and evidence, cost, plan and model are written."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigmatune import schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan.file import dumps
from sigmatune.plan.tuned_for import solver_of
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_text
from sigmatune.support.folders import copy as copy_folder
from sigmatune.support.folders import whole_folder
from sigmatune.workflows.finetune_job import FinetuneJob, paid
from sigmatune.workflows.judge import ImageVerdict, Judge


@dataclass(frozen=True)
class Result:
    """The result of a fine-tuning.

    Attributes:
        model: The new model's folder; None where there was no gain.
        plan: The plan, with evidence and cost: the new plan for the new weights, or the starting plan.
        evidence: Verdict, comparisons and rounds.
    """

    model: Path | None
    plan: Plan
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What the rounds have led to.

    Attributes:
        old, new: The models with their plans.
        weights: The folder of the new weights.
        rounds: The records of the rounds.
    """

    old: tuple[Denoiser, Plan]
    new: tuple[Denoiser, Plan]
    weights: Path
    rounds: list[dict[str, Any]]


def judged(job: FinetuneJob, outcome: Outcome, judge: Judge) -> dict[str, Any]:
    """Compares new weights and plan with the old ones, and with the best default for the old weights: the evidence."""
    old, new = outcome.old, outcome.new
    default, label = _best_default(judge, *old)
    verdicts = {
        "the start": judge.verdict(new, old),
        f"the best default, {label}": judge.verdict(new, (old[0], default)),
    }
    verdict = verdicts["the start"]
    return {
        "verdict": _sentence(verdict),
        "gain": verdict.gain,
        "against": {name: [d.to_dict() for d in one.differences] for name, one in verdicts.items()},
        "rounds": outcome.rounds,
        "settings": job.settings.to_dict(),
        "start": {"model": old[0].fingerprint(), "sigmas": old[1].schedule.sigmas.tolist(), "solver": old[1].solver},
        "data": {
            **job.images.about,
            "name": job.images.name,
            "images": len(job.images),
            "shape": list(job.images.shape),
        },
        **judge.about(),
        "dtype": new[0].arithmetic(),
    }


def cost(job: FinetuneJob, outcome: Outcome, judge: Judge, seconds: float) -> dict[str, Any]:
    """The cost of a fine-tuning, JSON-ready."""
    rounds = outcome.rounds
    spent = {
        purpose: sum(one["network_evaluations"][purpose] for one in rounds)
        for purpose in ("training", "tables", "tuning")
    }
    spent["tuning"] += paid(job.folder / "start.json")
    spent["pictures"] = judge.spent
    return {
        "images_seen": sum(one["images"] for one in rounds),
        "network_evaluations": {**spent, "total": sum(spent.values())},
        "seconds": seconds,
    }


def written(job: FinetuneJob, outcome: Outcome, evidence: dict[str, Any], spent: dict[str, Any]) -> Result:
    """Writes model (only with a gain), evidence and plan."""
    gain = evidence["gain"]
    chosen = outcome.new[1] if gain else outcome.old[1]
    plan = chosen.with_notes(evidence={**evidence, "tuning": chosen.evidence}, cost=spent)
    if gain:
        with whole_folder(job.folder / "model") as folder:
            copy_folder(outcome.weights, folder)
    write_text(job.folder / "evidence.json", json.dumps(evidence | {"cost": spent}, indent=1) + "\n")
    write_text(job.folder / "plan.json", dumps(plan))
    return Result(job.folder / "model" if gain else None, plan, evidence)


def _sentence(verdict: ImageVerdict) -> str:
    if verdict.gain:
        return f"gain: on {verdict.n} held-out noises new weights and plan beat the old ones: {verdict.spans}."
    return (
        f"no gain: on {verdict.n} held-out noises new weights and plan are not significantly better than the "
        f"old ones, so there is no new model: {verdict.spans}."
    )


def _best_default(judge: Judge, model: Denoiser, plan: Plan) -> tuple[Plan, str]:
    """The best published default for the old weights, by images of validation noises."""
    plans: dict[str, Plan] = {}
    for rival in schedules.rivals(plan.steps, model.path, model.default_schedule):
        with suppress(SigmaTuneError):  # rounds onto the same whole timestep
            plans[rival.label] = compile_plan(rival.schedule, solver_of(plan), model)
    judge.expect([judge.few] * len(plans) + [judge.data.n] * 4)  # the defaults, and two verdicts of two sets each
    scores = {label: judge.score(model, one) for label, one in plans.items()}
    best = min(scores, key=lambda label: scores[label])
    return plans[best], best
