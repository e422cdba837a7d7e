r"""Weights and plan in turn: fine-tune on the plan's levels, measure the model again, choose the levels again.

A round has three steps; each result is saved when its step finishes:

1. **train**: the network is trained at the plan's levels, each weighted by the influence of an error there on the
   result, and a small share elsewhere (:mod:`sigmatune.training.plan_levels`); or it learns to end where the old model
   ends after many steps (:mod:`sigmatune.training.distillation`);
2. **tabulate**: :math:`e(\sigma)` of the old and of the new weights, on and off the levels;
3. **solve**: the current plan, the optima of the discretisation loss for the new :math:`e`, and the tuner's plan for
   the new weights draw images from validation noises; the plan nearest to the data continues.

The influence of an output follows from the triangular form of the plan (:mod:`sigmatune.core.unrolled`): with the last
network input :math:`z_{K-1} = \rho \epsilon + \sum_j W_{K-1,j} D_j` at level :math:`q`,

.. math:: w_j = \sqrt{1 + q^2} \, \lvert W_{K-1,j} \rvert, \quad j < K - 1, \qquad w_{K-1} = 1

which for Euler's method is the weight of the discretisation loss, :math:`w_j = \sigma_{K-1} (1/\sigma_{j+1} -
1/\sigma_j)`.

At the end images from held-out noises decide once (:mod:`sigmatune.workflows.judge`): new weights with the new plan
against old weights with the old plan. There is a new model only if they are significantly better; otherwise the verdict
is "no gain".

Reference: Optimizing Few-Step Sampler for Diffusion Probabilistic Model (Huang, 2024), https://arxiv.org/abs/2412.10786
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from sigmatune.core.denoiser import Denoiser
from sigmatune.plan import Plan
from sigmatune.plan.file import dumps
from sigmatune.plan.tuned_for import solver_of
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import make_folder, write_text
from sigmatune.support.progress import Parts
from sigmatune.support.reading import text_of
from sigmatune.support.run_folder import held
from sigmatune.training.plan_levels import Levelled, Trainable, objective_of
from sigmatune.training.teacher import followed
from sigmatune.tuning.measure_choice import MeasureChoice
from sigmatune.workflows.finetune_cost import ImageNumbers, finetune_estimate, work_of
from sigmatune.workflows.finetune_job import FinetuneJob
from sigmatune.workflows.finetune_round import Round, weights_of
from sigmatune.workflows.finetune_settings import KEEP, TRAINING, FinetuneSettings
from sigmatune.workflows.finetune_verdict import Outcome, Result, cost, judged, written
from sigmatune.workflows.judge import Judge, ReferenceData

FILE = "finetune.json"
"""What a fine-tuning is of, in its folder."""


def finetune(job: FinetuneJob, plan: Plan | int, *, solver: str = "dpmpp2m") -> Result:
    """Trains weights at the levels of a plan, tunes the plan for the weights, and lets images decide.

    Args:
        job: The model, the images, the folder, and how to work.
        plan: A plan of this model, or a number of network calls for which to tune one first.
        solver: The solver, if ``plan`` is a number of calls.

    Raises:
        SigmaTuneError: for a plan of another model or one that cannot be fine-tuned for, images of another shape, a
            folder with another fine-tuning or in which another process works, or a loss that is no longer finite;
            finished work stays.
    """
    check_folder(job.folder)
    with held(job.folder):
        return _run(job, plan, solver)


def check_folder(folder: Path) -> None:
    """Refuses a folder with a model that no fine-tuning put there, such as a training's, which a new model would replace.

    Raises:
        SigmaTuneError: naming a free folder.
    """
    if (folder / "model").exists() and not (folder / FILE).is_file():
        other = folder.with_name(f"{folder.stem}-finetuned")
        raise SigmaTuneError(
            f"{folder} holds a trained model, which fine-tuning never replaces; pass another folder, such as {other}."
        )


def _run(job: FinetuneJob, plan: Plan | int, solver: str) -> Result:
    began, start = time.monotonic(), Trainable.of(job.source)
    model, judge = job.conditioned(start.folder), Judge(job.data, tuple(start.model.shape), job.progress)
    _check(job, start, plan, model)
    judge.check(model)
    _claim(job, start, plan, solver)
    parts = _parts(job, plan, model, solver, judge)
    first = replace(job, progress=parts.take())
    if isinstance(plan, int):
        calls, store = plan, job.folder / "start.run"
        plan = job.kept("start.json", lambda: first.tuned(model, calls, solver, store))
    weights, chosen, rounds = start, plan, []
    for number in range(1, job.settings.rounds + 1):
        weights, chosen, record = Round(job, number, weights, chosen, judge, parts).run()
        rounds.append(record)
    outcome = Outcome((model, plan), (job.conditioned(weights.folder), chosen), weights.folder, rounds)
    judge.watch(parts.take())
    evidence = judged(job, outcome, judge)
    return written(job, outcome, evidence, cost(job, outcome, judge, time.monotonic() - began))


def _parts(job: FinetuneJob, plan: Plan | int, model: Denoiser, solver: str, judge: Judge) -> Parts:
    """The job's one progress, divided among its stages by their network evaluations."""
    numbers = ImageNumbers(len(job.images), judge.few, job.data.n)
    whole = finetune_estimate(model, plan, job.settings, numbers, solver=solver, each=1.0)
    return Parts(job.progress, work_of(whole, job.settings.rounds))


def _check(job: FinetuneJob, start: Trainable, plan: Plan | int, model: Denoiser) -> None:
    """Refuses what cannot work, before anything is written."""
    MeasureChoice.of(start.model.shape, job.settings.measure, job.settings.measure_options)
    if isinstance(plan, Plan):
        known = plan.fingerprint is None or any(one.is_model_of(plan.fingerprint) for one in (start.model, model))
        if not known:
            raise SigmaTuneError(
                "the plan was tuned for another model; tune one for this model, or ask for a number of calls."
            )
        if job.settings.distil:
            followed(plan)
        levels = Levelled(plan.coefficients.q.numpy(), weights_of(plan))
    else:
        levels = Levelled(np.array(start.ends), np.ones(2))
    objective_of(start, job.images, levels)


def _claim(job: FinetuneJob, start: Trainable, plan: Plan | int, solver: str) -> None:
    """Claims the folder for this fine-tuning."""
    digest = hashlib.sha256(np.ascontiguousarray(job.images.values.numpy()).tobytes()).hexdigest()
    settings = job.settings.to_dict()
    del settings["save"]
    about = {
        "model": start.model.fingerprint(),
        "plan": plan if isinstance(plan, int) else json.loads(dumps(plan.with_notes(evidence=None, cost=None))),
        "solver": solver if isinstance(plan, int) else solver_of(plan),
        "images": digest,
        "settings": settings,
        "pictures": [job.data.n, job.data.seed, job.data.reference.spec(), job.data.extractor.spec()],
    }
    file, text = job.folder / FILE, json.dumps(about, indent=1) + "\n"
    if not file.is_file():
        make_folder(job.folder)
        write_text(file, text)
    elif text_of(file, kind="fine-tuning") != text:
        raise SigmaTuneError(f"{job.folder} holds another fine-tuning; choose another folder, or delete it.")


__all__ = [
    "KEEP", "TRAINING", "FinetuneJob", "FinetuneSettings", "ReferenceData", "Result", "check_folder", "finetune", "solver_of",
    "weights_of",
]  # fmt: skip
