r"""Weights and plan in turn: fine-tune on the plan's levels, measure the model again, choose the levels again.

A round is three steps, each kept on disk when it is done:

1. **train**: the network is fitted on to the levels at which the plan asks it, each weighed by what the result hears of an
   error there, and a small share elsewhere (:mod:`sigmatune.training.finetune`); or it learns to land where the old model
   lands after many steps (:mod:`sigmatune.training.distillation`);
2. **tabulate**: :math:`e(\sigma)` of the old and of the new weights, on and off the levels;
3. **solve**: the plan as it was, the optima of the discretisation loss for the new :math:`e`, and what the tuner finds for the
   new weights draw pictures of validation noises; the one nearest to the data goes on.

What an output is worth is read off the triangular form of the plan (:mod:`sigmatune.unrolled`): with the last network input
:math:`z_{K-1} = \rho \epsilon + \sum_j W_{K-1,j} D_j` at level :math:`q`,

.. math:: w_j = \sqrt{1 + q^2} \, \lvert W_{K-1,j} \rvert, \quad j < K - 1, \qquad w_{K-1} = 1

which for Euler's method is the weight of the discretisation loss, :math:`w_j = \sigma_{K-1} (1/\sigma_{j+1} - 1/\sigma_j)`.

At the end pictures of held-out noises decide, once (:mod:`sigmatune.workflows.judge`): new weights with the new plan against
old weights with the old plan. There is a new model only if they are better beyond noise; else the words are "no gain".

Reference: Optimizing Few-Step Sampler for Diffusion Probabilistic Model (Huang, 2024), https://arxiv.org/abs/2412.10786
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigmatune import schedules
from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError
from sigmatune.evaluation.generation import Progress
from sigmatune.files import make_folder, write_text
from sigmatune.folders import copy as copy_folder
from sigmatune.folders import whole_folder
from sigmatune.models import load
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.plan_file import dumps
from sigmatune.reading import text_of
from sigmatune.run_folder import held
from sigmatune.schedule import whole
from sigmatune.solvers import compile_plan, load_plan
from sigmatune.training import checkpoint
from sigmatune.training.data import Pictures
from sigmatune.training.finetune import Levelled, Trainable, fine_tune, following, objective_of
from sigmatune.training.objective import Objective
from sigmatune.training.recipe import AverageOf, Saving, Training
from sigmatune.training.teacher import followed
from sigmatune.training.trainer import Report
from sigmatune.training.trainer import lines as log_of
from sigmatune.tuning import Settings as Noises
from sigmatune.tuning import Workbench, discretisation, tune_on
from sigmatune.tuning.budget import Budget
from sigmatune.tuning.error_table import ErrorTable, evaluations, tabulate
from sigmatune.tuning.tuner import stages_of
from sigmatune.unrolled import unrolled
from sigmatune.workflows.judge import Data, Judge

logger = logging.getLogger(__name__)

KEEP = "keep"
"""The method that leaves the plan as it is."""

TABLE_IMAGES, TABLE_LEVELS = 64, 32
PASSES = 3
"""Network evaluations of an image in training: forward, and twice as much back."""

TRAINING = Training(images=32_000, batch=64, rate=2e-4, warmup=20, weight_decay=0.0)
NOISES = Noises(tuning=16, validation=24, held_out=32, evaluations=30)


@dataclass(frozen=True)
class Settings:
    """How a fine-tuning goes.

    Attributes:
        rounds: How often training and choosing take turns.
        training: Images of one round, batch, rate, precision, seed.
        elsewhere: Share of the images that is taken off the levels, in [0, 1).
        flip: Mirror images by chance.
        average: The average of the weights that is kept.
        method: How the plan is chosen again: "auto", a tuning stage by name, or "keep".
        budget: What one choice of the plan may spend, as for :func:`sigmatune.tuning.tune`.
        noises: The noises that the tuner sees.
        distil: Network calls of the teacher, which is the old model; 0 to learn from the images.
        lora: Rank of the adapters that are trained instead of the weights; 0 for the weights.
        dtype: Arithmetic of the network in pictures and tuning, "float32" or "bfloat16".
        save: Steps between checkpoints.
    """

    rounds: int = 2
    training: Training = field(default_factory=TRAINING.model_copy)
    elsewhere: float = 0.1
    flip: bool = False
    average: AverageOf = field(default_factory=AverageOf)
    method: str = "auto"
    budget: int | str | None = 20_000
    noises: Noises = NOISES
    distil: int = 0
    lora: int = 0
    dtype: str = "float32"
    save: int = 50

    def __post_init__(self) -> None:
        if whole(self.rounds, "rounds") < 1:
            raise SigmaTuneError("fine-tuning takes at least one round.")
        for name in ("distil", "lora"):
            if getattr(self, name) != 0:
                whole(getattr(self, name), name)
        if not 0 <= self.elsewhere < 1:
            raise SigmaTuneError(f"the share off the levels must lie in [0, 1), not {self.elsewhere!r}.")

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return asdict(self) | {
            "training": self.training.model_dump(mode="json"),
            "average": self.average.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class Result:
    """What a fine-tuning came to.

    Attributes:
        model: The new model's folder; None where there was no gain.
        plan: The plan, with evidence and cost: the new one for the new weights, or the one of the start.
        evidence: Verdict, comparisons and rounds.
    """

    model: Path | None
    plan: Plan
    evidence: dict[str, Any]


def weights_of(plan: Plan) -> Array:
    """What the result hears of an error in each output, (K,); at least a thousandth of the largest.

    Raises:
        SigmaTuneError: for a plan with noise, of phase space, or with a schedule of its own for every row.
    """
    form = unrolled(plan.coefficients)
    last = np.abs(form.W[-2].numpy()) * float(torch.hypot(form.q[-1], torch.ones(())))
    found = np.append(last[:-1], 1.0)
    return np.asarray(np.maximum(found, 1e-3 * found.max()))


def finetune(  # noqa: PLR0913 - the front door
    source: str | Path,
    plan: Plan | int,
    images: Pictures,
    folder: str | Path,
    *,
    data: Data,
    settings: Settings | None = None,
    solver: str = "dpmpp2m",
    labels: Sequence[str] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    log: Callable[[Report], None] | None = None,
) -> Result:
    """Makes weights good at the levels of a plan, and the plan good for the weights, and lets pictures judge.

    Args:
        source: The model: a bundled name, a folder, a hub id. Its files are only read.
        plan: A plan of this model, or a number of network calls for which one is tuned first.
        images: What it is trained on.
        folder: Everything goes there: ``round-1/``, ..., and at the end ``model/``, ``plan.json``, ``evidence.json``. A run
            that was stopped goes on.
        data: What pictures are compared with.
        settings: Rounds, images, rate and so on.
        solver: Where a number of calls is given.
        labels: A conditional model's classes, of which row i has number i; all of them by default.
        device: "auto", or "cpu" to insist.
        progress: Sees what is being done.
        log: Sees every line of the training's log.

    Raises:
        SigmaTuneError: for a plan of another model or one that cannot be fine-tuned for, images of another shape, a folder
            with another fine-tuning or in which another process works, or a loss that is not finite any more; one sentence,
            and what is done stays.
    """
    job = _Job(source, images, Path(folder), data, settings or Settings(), labels, device, progress, log)
    with held(job.folder):
        return job.run(plan, solver)


@dataclass(frozen=True)
class _Job:
    source: str | Path
    images: Pictures
    folder: Path
    data: Data
    settings: Settings
    labels: Sequence[str] | None
    device: str
    progress: Progress | None
    log: Callable[[Report], None] | None

    def run(self, plan: Plan | int, solver: str) -> Result:
        began, start = time.monotonic(), Trainable.of(self.source)
        model, judge = self.told(start.folder), Judge(self.data, tuple(start.model.shape), self.progress)
        self._check(start, plan, model)
        judge.check(model)
        self._claim(start, plan, solver)
        if isinstance(plan, int):
            calls, run = plan, self.folder / "start.run"
            plan = self._kept("start.json", lambda: self._tuned(model, calls, solver, run))
        now, chosen, rounds = start, plan, []
        for number in range(1, self.settings.rounds + 1):
            home = self.folder / f"round-{number}"
            now, chosen, told = self._round(number, home, now, chosen, judge)
            rounds.append(told)
        return self._judged((model, plan), (self.told(now.folder), chosen), now, rounds, judge, began)

    # ------------------------------------------------------------------------------------------------------------ a round

    def _round(
        self, number: int, home: Path, start: Trainable, plan: Plan, judge: Judge
    ) -> tuple[Trainable, Plan, dict[str, Any]]:
        levels = Levelled(plan.coefficients.q.numpy(), weights_of(plan), self.settings.elsewhere)
        logger.info("round %d of %d, in %s", number, self.settings.rounds, home)
        training = self.settings.training.model_copy(update={"seed": self.settings.training.seed + number - 1})

        def step(done: int, of: int) -> None:
            if self.progress is not None:
                self.progress(f"round {number}: training", done, of)

        settings, price = self.settings, PASSES * training.batch
        objective: Objective = objective_of(start, self.images, levels)
        if settings.distil:
            objective = teaching = following(start, self._teacher(), plan, settings.distil)
            price += teaching.evaluations(training.batch)
        made = fine_tune(
            start, objective, self.images, training, home / "training", flip=settings.flip, average=settings.average,
            lora=settings.lora, saving=Saving(every=settings.save, log=10, trackers=[]), device=self.device, log=self.log,
            identity=repr((levels.sigmas.tolist(), levels.weights.tolist(), levels.elsewhere, settings.distil)), step=step,
        )  # fmt: skip
        new = Trainable.of(made)
        tables = {name: self._table(home / f"errors-{name}.json", one) for name, one in (("old", start), ("new", new))}
        chosen, candidates = self._solved(home, new, plan, tables["new"], judge)
        losses = [loss for line in log_of(home / "training") for loss in line["losses"]]
        tenth = max(len(losses) // 10, 1)
        told = {
            "levels": levels.sigmas.tolist(),
            "weights": levels.weights.tolist(),
            "images": len(losses) * training.batch,
            "network_evaluations": {
                "training": len(losses) * price,
                "tables": sum(evaluations(self.told(one.folder), self._tabled, TABLE_LEVELS) for one in (start, new)),
                "tuning": _paid(home / "tuned.json"),
            },
            "seconds": round(state.seconds, 1) if (state := checkpoint.peek(home / "training")) is not None else 0.0,
            "loss": {"first": float(np.mean(losses[:tenth])), "last": float(np.mean(losses[-tenth:]))},
            "error": {
                "sigma": tables["old"].sigma.tolist(),
                **{name: table.error.tolist() for name, table in tables.items()},
                **{f"{name}_on_levels": table.at(levels.sigmas).tolist() for name, table in tables.items()},
            },
            "candidates": candidates,
            "plan": chosen.schedule.sigmas.tolist(),
        }
        return new, chosen, told

    @property
    def _tabled(self) -> int:
        """Images of a table."""
        return min(TABLE_IMAGES, len(self.images))

    def _table(self, file: Path, one: Trainable) -> ErrorTable:
        if not file.is_file():
            x_0 = self.images.at(self.images.some(self._tabled))
            tabulate(self.told(one.folder), x_0, levels=TABLE_LEVELS, seed=self.settings.noises.seed).save(file)
        return ErrorTable.load(file)

    def _solved(
        self, home: Path, new: Trainable, plan: Plan, table: ErrorTable, judge: Judge
    ) -> tuple[Plan, list[dict[str, Any]]]:
        """The best of the plan as it was and of those that are chosen anew."""
        model, solver = self.told(new.folder), solver_of(plan)
        kept = plan.with_notes(fingerprint=model.fingerprint(), evidence=None, cost=None)
        found = {"as it was": kept}
        if self.settings.method != KEEP:
            found |= _discretised(model, table, plan, solver)
            calls = (plan.tuned_for or {}).get("calls", plan.network_calls(model))
            found["tuned"] = self._kept(
                f"{home.name}/tuned.json", lambda: self._tuned(model, calls, solver, home / "tuned.run")
            )
        scores = (
            {name: judge.score(model, one) for name, one in found.items()} if len(found) > 1 else {"as it was": 0.0}
        )
        best = min(scores, key=lambda name: scores[name])
        told = [
            {"label": name, "mean_log_frechet_distance": score, "sigmas": found[name].schedule.sigmas.tolist()}
            for name, score in scores.items()
        ]
        write_text(home / "plan.json", dumps(found[best]))
        return found[best], told

    def _tuned(self, model: Denoiser, calls: int, solver: str, store: Path) -> Plan:
        bench = Workbench(model, self.settings.noises, store=store, progress=self.progress)
        method = "auto" if self.settings.method == KEEP else self.settings.method
        return tune_on(bench, calls, solver=solver, method=method, budget=self.settings.budget)

    def _kept(self, name: str, made: Callable[[], Plan]) -> Plan:
        """A plan that is in a file, or is made and written there."""
        file = self.folder / name
        if not file.is_file():
            write_text(file, dumps(made()))
        return load_plan(file)

    # ------------------------------------------------------------------------------------------------------------ the end

    def _judged(
        self,
        old: tuple[Denoiser, Plan],
        new: tuple[Denoiser, Plan],
        last: Trainable,
        rounds: list[dict[str, Any]],
        judge: Judge,
        began: float,
    ) -> Result:
        default, label = self._default(judge, old[0], old[1])
        judged = {
            "the start": judge.verdict(new, old),
            f"the best default, {label}": judge.verdict(new, (old[0], default)),
        }
        verdict = judged["the start"]
        said = (
            f"gain: on {verdict.n} held-out noises new weights and plan beat the old ones: {verdict.spans}."
            if verdict.gain
            else f"no gain: on {verdict.n} held-out noises new weights and plan are not beyond noise better than the old "
            f"ones, so there is no new model: {verdict.spans}."
        )
        evidence = {
            "verdict": said,
            "gain": verdict.gain,
            "against": {name: [d.to_dict() for d in one.differences] for name, one in judged.items()},
            "rounds": rounds,
            "settings": self.settings.to_dict(),
            "start": {
                "model": old[0].fingerprint(),
                "sigmas": old[1].schedule.sigmas.tolist(),
                "solver": old[1].solver,
            },
            "data": {
                **self.images.about,
                "name": self.images.name,
                "images": len(self.images),
                "shape": list(self.images.shape),
            },
            **judge.about(),
            "dtype": new[0].arithmetic(),
        }
        spent = {
            purpose: sum(one["network_evaluations"][purpose] for one in rounds)
            for purpose in ("training", "tables", "tuning")
        }
        spent["tuning"] += _paid(self.folder / "start.json")
        spent["pictures"] = judge.spent
        cost = {
            "images_seen": sum(one["images"] for one in rounds),
            "network_evaluations": {**spent, "total": sum(spent.values())},
            "seconds": time.monotonic() - began,
        }
        chosen = new[1] if verdict.gain else old[1]
        plan = chosen.with_notes(evidence={**evidence, "tuning": chosen.evidence}, cost=cost)
        if verdict.gain:
            with whole_folder(self.folder / "model") as new_folder:
                copy_folder(last.folder, new_folder)
        write_text(self.folder / "evidence.json", json.dumps(evidence | {"cost": cost}, indent=1) + "\n")
        write_text(self.folder / "plan.json", dumps(plan))
        return Result(self.folder / "model" if verdict.gain else None, plan, evidence)

    def _default(self, judge: Judge, model: Denoiser, plan: Plan) -> tuple[Plan, str]:
        """The best published default for the old weights, by pictures of validation noises."""
        found: dict[str, Plan] = {}
        for label, family, options in schedules.defaults(model.path, model.default_schedule):
            with suppress(SigmaTuneError):
                found[label] = compile_plan(
                    schedules.build(family, plan.steps, model.path, **options), solver_of(plan), model
                )
        scores = {label: judge.score(model, one) for label, one in found.items()}
        best = min(scores, key=lambda label: scores[label])
        return found[best], best

    # ---------------------------------------------------------------------------------------------------------- beginnings

    def told(self, folder: Path) -> Denoiser:
        """The model as pictures are made with it; a conditional one is told its classes in turn."""
        device = None if self.device == "cpu" else self.device
        model: Any = load(str(folder), dtype=getattr(torch, self.settings.dtype), device=device)
        classes = self.labels or getattr(model, "classes", ())
        return model.given(list(classes)) if classes else model  # type: ignore[no-any-return]

    def _teacher(self) -> Denoiser:
        """The old model, which is told its classes by whoever asks it."""
        device = None if self.device == "cpu" else self.device
        return load(str(self.source), dtype=getattr(torch, self.settings.dtype), device=device)

    def _check(self, start: Trainable, plan: Plan | int, model: Denoiser) -> None:
        """Refuses what cannot work, before anything is written."""
        if self.settings.method != KEEP:
            stages_of(self.settings.method, coefficients=False)
        Budget.of(self.settings.budget)
        if isinstance(plan, Plan):
            known = plan.fingerprint is None or any(one.is_model_of(plan.fingerprint) for one in (start.model, model))
            if not known:
                raise SigmaTuneError(
                    "the plan was tuned for another model; tune one for this model, or ask for a number of calls."
                )
            if self.settings.distil:
                followed(plan)
            levels = Levelled(plan.coefficients.q.numpy(), weights_of(plan))
        else:
            levels = Levelled(np.array(start.ends), np.ones(2))
        objective_of(start, self.images, levels)

    def _claim(self, start: Trainable, plan: Plan | int, solver: str) -> None:
        """Makes the folder this fine-tuning's own."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images.values.numpy()).tobytes()).hexdigest()
        settings = self.settings.to_dict()
        del settings["save"]
        about = {
            "model": start.model.fingerprint(),
            "plan": plan if isinstance(plan, int) else json.loads(dumps(plan.with_notes(evidence=None, cost=None))),
            "solver": solver if isinstance(plan, int) else solver_of(plan),
            "images": digest,
            "settings": settings,
            "pictures": [self.data.n, self.data.seed, self.data.reference.spec(), self.data.extractor.spec()],
        }
        file, text = self.folder / "finetune.json", json.dumps(about, indent=1) + "\n"
        if not file.is_file():
            make_folder(self.folder)
            write_text(file, text)
        elif text_of(file, kind="fine-tuning") != text:
            raise SigmaTuneError(f"{self.folder} holds another fine-tuning; choose another folder, or delete it.")


def _paid(file: Path) -> int:
    """The network evaluations of the tuning that a plan in a file came from; 0 where there was none."""
    cost: Any = load_plan(file).cost if file.is_file() else None
    return int(cost["network_evaluations"]["total"]) if cost else 0


def solver_of(plan: Plan) -> str:
    """The solver of a plan; of one with coefficients of its own, the one that they were tuned from."""
    return str((plan.tuned_for or {}).get("solver", "euler")) if plan.solver == "custom" else plan.solver


def _discretised(model: Denoiser, table: ErrorTable, plan: Plan, solver: str) -> dict[str, Plan]:
    """The optima of both discretisation losses between the plan's own ends."""
    sigmas = plan.schedule.sigmas
    ends = min(float(sigmas[0]), float(table.sigma[-1])), float(sigmas[-2])
    if plan.steps < 2 or ends[0] <= ends[1]:
        return {}
    found = {}
    for weighting in ("riemann", "kl"):
        with suppress(SigmaTuneError):
            grid = discretisation.schedules(table, model.path, plan.steps, ends=ends, weighting=weighting)[-1]
            found[f"discretisation loss, {weighting}"] = compile_plan(grid, solver, model)
    return found


__all__ = ["Data", "Result", "Settings", "finetune", "solver_of", "weights_of"]
