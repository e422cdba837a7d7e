"""A round of fine-tuning: train at the plan's levels, tabulate the errors of old and new weights, solve for a new plan."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.unrolled import unrolled
from sigmatune.noise import Array
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan.file import dumps
from sigmatune.plan.tuned_for import solver_of
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_text
from sigmatune.support.progress import Parts, Progress, stage
from sigmatune.training import checkpoint
from sigmatune.training.objective import Objective
from sigmatune.training.plan_levels import FineTuneOptions, Levelled, Trainable, fine_tune, following, objective_of
from sigmatune.training.recipe import Saving, Training
from sigmatune.training.run_log import lines as log_of
from sigmatune.tuning import discretisation
from sigmatune.tuning.error_table import ErrorTable, TableSize, evaluations, tabulate
from sigmatune.workflows.finetune_job import FinetuneJob, paid
from sigmatune.workflows.finetune_settings import KEEP
from sigmatune.workflows.judge import Judge

logger = logging.getLogger(__name__)

TABLE_IMAGES, TABLE_LEVELS = 64, 32
PASSES = 3
"""Network evaluations per training image: one forward, two for the backward pass."""


def weights_of(plan: Plan) -> Array:
    """The influence of an error in each output on the result, (K,); at least a thousandth of the largest.

    Raises:
        SigmaTuneError: for a plan with noise, of phase space, or with a separate schedule for every row.
    """
    form = unrolled(plan.coefficients)
    last = np.abs(form.W[-2].numpy()) * float(torch.hypot(form.q[-1], torch.ones(())))
    weights = np.append(last[:-1], 1.0)
    return np.asarray(np.maximum(weights, 1e-3 * weights.max()))


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        job: The fine-tuning.
        number: From 1.
        start: The weights to train.
        plan: At whose levels.
        judge: Ranks the candidates for the next plan.
        parts: The progress, of which a round takes four parts: training, tables, tuning, ranking.
    """

    job: FinetuneJob
    number: int
    start: Trainable
    plan: Plan
    judge: Judge
    parts: Parts

    @property
    def home(self) -> Path:
        """The folder of its results."""
        return self.job.folder / f"round-{self.number}"

    def run(self) -> tuple[Trainable, Plan, dict[str, Any]]:
        """Trains, tabulates and solves.

        Returns:
            The new weights, the new plan, and a record of the round, JSON-ready.
        """
        logger.info("round %d of %d, in %s", self.number, self.job.settings.rounds, self.home)
        new, price = self._trained(self.parts.take())
        self.parts.take()  # the tables report nothing
        tables = {name: self._table(name, one) for name, one in (("old", self.start), ("new", new))}
        plan, candidates = self._solved(new, tables["new"], self.parts.take(), self.parts.take())
        levels = self._levels
        record = {
            "levels": levels.sigmas.tolist(),
            "weights": levels.weights.tolist(),
            **self._paid(new, price),
            "error": {
                "sigma": tables["old"].sigma.tolist(),
                **{name: table.error.tolist() for name, table in tables.items()},
                **{f"{name}_on_levels": table.at(levels.sigmas).tolist() for name, table in tables.items()},
            },
            "candidates": candidates,
            "plan": plan.schedule.sigmas.tolist(),
        }
        return new, plan, record

    # ------------------------------------------------------------------------------------------------------------- train

    @cached_property
    def _levels(self) -> Levelled:
        return Levelled(self.plan.coefficients.q.numpy(), weights_of(self.plan), self.job.settings.elsewhere)

    @property
    def _training(self) -> Training:
        training = self.job.settings.training
        return training.model_copy(update={"seed": training.seed + self.number - 1})

    def _trained(self, progress: Progress) -> tuple[Trainable, Callable[[int], int]]:
        """The new weights, and the network evaluations of some steps."""
        job, settings, levels, training = self.job, self.job.settings, self._levels, self._training

        def step(done: int, of: int) -> None:
            progress(stage(f"round {self.number}: training", done, of), done, of)

        price, once = PASSES * training.batch, 0
        objective: Objective = objective_of(self.start, job.images, levels)
        if settings.distil:
            objective = teaching = following(self.start, job.teacher(), self.plan, settings.distil)
            price, once = price + teaching.evaluations(training.batch), teaching.scaling_evaluations()
        folder = fine_tune(
            self.start, objective, job.images, training, self.home / "training",
            FineTuneOptions(
                averages=[settings.average], flip=settings.flip, lora=settings.lora,
                saving=Saving(every=settings.save, log=10, trackers=[]), device=job.device, log=job.log, step=step,
                identity=repr((levels.sigmas.tolist(), levels.weights.tolist(), levels.elsewhere, settings.distil)),
            ),
        )  # fmt: skip
        return Trainable.of(folder), lambda steps: once + steps * price

    def _paid(self, new: Trainable, price: Callable[[int], int]) -> dict[str, Any]:
        """The part of the record on work and loss."""
        losses = [loss for line in log_of(self.home / "training") for loss in line["losses"]]
        tenth, state = max(len(losses) // 10, 1), checkpoint.peek(self.home / "training")
        size = TableSize(TABLE_LEVELS)
        tables = (evaluations(self.job.conditioned(one.folder), self._rows, size) for one in (self.start, new))
        return {
            "images": len(losses) * self._training.batch,
            "network_evaluations": {
                "training": price(len(losses)),
                "tables": sum(tables),
                "tuning": paid(self.home / "tuned.json"),
            },
            "seconds": round(state.seconds, 1) if state is not None else 0.0,
            "loss": {"first": float(np.mean(losses[:tenth])), "last": float(np.mean(losses[-tenth:]))},
        }

    # ---------------------------------------------------------------------------------------------------------- tabulate

    @property
    def _rows(self) -> int:
        """Number of images for an error table."""
        return min(TABLE_IMAGES, len(self.job.images))

    def _table(self, name: str, weights: Trainable) -> ErrorTable:
        file, images = self.home / f"errors-{name}.json", self.job.images
        if not file.is_file():
            x_0 = images.at(images.some(self._rows))
            model, seed = self.job.conditioned(weights.folder), self.job.settings.noises.seed
            tabulate(model, x_0, TableSize(TABLE_LEVELS, seed), engine=self.job.data.engine).save(file)
        return ErrorTable.load(file)

    # ------------------------------------------------------------------------------------------------------------- solve

    def _solved(
        self, new: Trainable, table: ErrorTable, tuning: Progress, ranking: Progress
    ) -> tuple[Plan, list[dict[str, Any]]]:
        """The best of the current plan and the new candidates."""
        model = self.job.conditioned(new.folder)
        plans = self._candidates(model, table, tuning)
        self.judge.watch(ranking)
        self.judge.expect([self.judge.few] * len(plans))
        scores = (
            {name: self.judge.score(model, plan) for name, plan in plans.items()}
            if len(plans) > 1
            else dict.fromkeys(plans, 0.0)
        )
        best = min(scores, key=lambda name: scores[name])
        ranked = [
            {"label": name, "mean_log_frechet_distance": score, "sigmas": plans[name].schedule.sigmas.tolist()}
            for name, score in scores.items()
        ]
        write_text(self.home / "plan.json", dumps(plans[best]))
        return plans[best], ranked

    def _candidates(self, model: Denoiser, table: ErrorTable, progress: Progress) -> dict[str, Plan]:
        job, solver, store = replace(self.job, progress=progress), solver_of(self.plan), self.home / "tuned.run"
        plans = {"as it was": self.plan.with_notes(fingerprint=model.fingerprint(), evidence=None, cost=None)}
        if job.settings.method == KEEP:
            return plans
        calls = (self.plan.tuned_for or {}).get("calls", self.plan.network_calls(model))
        plans |= _discretised(model, table, self.plan, solver)
        plans["tuned"] = job.kept(
            f"{self.home.name}/tuned.json", lambda: job.tuned(model, calls, solver, store, like=self.plan)
        )
        return plans


def _discretised(model: Denoiser, table: ErrorTable, plan: Plan, solver: str) -> dict[str, Plan]:
    """The optima of both discretisation losses between the plan's own ends."""
    sigmas = plan.schedule.sigmas
    ends = min(float(sigmas[0]), float(table.sigma[-1])), float(sigmas[-2])
    if plan.steps < 2 or ends[0] <= ends[1]:
        return {}
    plans = {}
    for weighting in ("riemann", "kl"):
        with suppress(SigmaTuneError):
            grid = discretisation.schedules(table, model.path, plan.steps, ends=ends, weighting=weighting)[-1]
            plans[f"discretisation loss, {weighting}"] = compile_plan(grid, solver, model)
    return plans
