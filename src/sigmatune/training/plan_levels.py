r"""Fine-tuning: continues training of a model at the levels of a plan.

.. math:: L = \sum_i w_i \, E \lVert D_\theta(x_0 + \sigma_i \epsilon; \sigma_i) - x_0 \rVert^2

Each level of the plan is drawn equally often and weighted by :math:`w_i`, the influence of an error there on the result
(:func:`sigmatune.workflows.finetune_round.weights_of`). A small share of the images gets levels from the whole range, with
weights interpolated in log sigma, so that the model does not forget the other levels and can be measured there: after
training on a few levels alone, the old levels would look best only because the model is bad at all others.

The folder of the model is only read. The result is a copy of it with new weights in the old dtype; everything else in
the folder (scheduler, conditioning, spectra) stays.

Reference: Optimizing Few-Step Sampler for Diffusion Probabilistic Model (Huang, 2024), https://arxiv.org/abs/2412.10786, phase
2
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sigmatune.core.denoiser import Denoiser
from sigmatune.models import load
from sigmatune.models.bundled import bundled_folder, bundled_names
from sigmatune.models.conditional import ConditionalDenoiser
from sigmatune.models.conditioning import Conditioned
from sigmatune.models.diffusers_denoiser import DiffusersDenoiser
from sigmatune.models.source import locate, needs_pipeline
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.plan.reference import HIGHEST
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.folders import recover
from sigmatune.support.pixels import unsound_weight
from sigmatune.training.data import Pictures
from sigmatune.training.distillation import Following, StudentConditions
from sigmatune.training.export import averaged, rehearsed
from sigmatune.training.laws.levels import Levels
from sigmatune.training.lora import adapt, merged, save_adapter
from sigmatune.training.model_copy import fill, save
from sigmatune.training.objective import Denoising, Objective, scale_of
from sigmatune.training.recipe import Saving, Training
from sigmatune.training.run_log import Report
from sigmatune.training.run_options import Hooks, RunOptions
from sigmatune.training.trainer import Trainer
from sigmatune.training.weights.base import Function

PROBE = 64
"""Images on which the scale of the loss is measured."""


@dataclass(frozen=True, eq=False)
class Trainable:
    """A model in a folder whose network can be trained on.

    Attributes:
        folder: The model's folder, which is only read.
        model: The original denoiser.
    """

    folder: Path
    model: DiffusersDenoiser

    @classmethod
    def of(cls, source: str | Path) -> Trainable:
        """Opens a model: a bundled name, a folder of diffusers, or a hub id.

        Raises:
            SigmaTuneError: if this trainer does not support the network.
        """
        name = str(source)
        if name not in bundled_names() and needs_pipeline(name):
            raise SigmaTuneError(
                f"{name} is a pipeline with more than a network; fine-tuning knows pixel networks only."
            )
        folder = bundled_folder(name) if name in bundled_names() else locate(name)
        if needs_pipeline(folder):
            raise SigmaTuneError(
                f"{name} is a pipeline with more than a network; fine-tuning knows pixel networks only."
            )
        model = load(name)
        if not isinstance(model, DiffusersDenoiser):
            raise SigmaTuneError(f"{name} is not a position-space diffusers network; fine-tuning needs one.")
        if (unsound := unsound_weight(model.network)) is not None:  # type: ignore[arg-type]
            raise SigmaTuneError(f"the weight {unsound} of {name} holds NaN or infinity; start from intact weights.")
        if model.integer_time:
            raise SigmaTuneError(
                f"the network of {name} accepts whole timesteps only; fine-tuning needs levels in between."
            )
        if isinstance(model, ConditionalDenoiser) and model.conditioner is not None and model.conditioner.images:
            raise SigmaTuneError(
                f"{name} is a stage of a cascade, which takes an image; continue its training with its recipe."
            )
        return cls(folder, model)

    def network(self) -> Conditioned:
        """A copy of the network whose parameters can be trained, in float32."""
        network: Any = self.model.network
        trained = self.model.module if isinstance(self.model, ConditionalDenoiser) else Conditioned(network, None)
        return copy.deepcopy(trained).float().cpu().train().requires_grad_(True)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the network's classes."""
        return self.model.classes if isinstance(self.model, ConditionalDenoiser) else ()

    @property
    def ends(self) -> tuple[float, float]:
        """sigma_min and sigma_max of training, both finite."""
        path = self.model.path
        return path.sigma_min, min(path.sigma_max, HIGHEST)

    @property
    def told_ends(self) -> tuple[float, float] | None:
        """The default ends with which the network is conditioned; None for a network without this condition."""
        conditioner = self.model.conditioner if isinstance(self.model, ConditionalDenoiser) else None
        return None if conditioner is None or not conditioner.ends else conditioner.default_ends or self.ends


@dataclass(frozen=True)
class Levelled:
    """The training levels.

    Attributes:
        sigmas: The plan's network levels, (N,), positive; an infinite one counts as the highest finite one.
        weights: w_i of each, (N,), positive.
        elsewhere: Share of the images with levels from the whole range, in [0, 1).
    """

    sigmas: Array
    weights: Array
    elsewhere: float = 0.1

    def law(self, ends: tuple[float, float], conditioned_ends: tuple[float, float] | None) -> Levels:
        """The noise law; conditional networks get their default ends."""
        points = np.clip(self.sigmas, *ends)
        shares = np.full(len(points), 1 / len(points))
        low, high = ends
        return Levels(
            points, shares, self.elsewhere, (-2 * float(np.log(low)), -2 * float(np.log(high))), conditioned_ends
        )

    def weight(self) -> Function:
        """w(sigma): that of the levels, linear in log sigma between them and constant beyond."""
        rising = np.argsort(self.sigmas)
        places, values = np.log(np.minimum(self.sigmas[rising], HIGHEST)), self.weights[rising]
        return lambda sigma: np.asarray(np.interp(np.log(sigma), places, values))


def following(start: Trainable, teacher: Denoiser, plan: Plan, calls: int, drop: float = 0.1) -> Following:
    """The loss of ending on a plan where a teacher ends after many calls; see :mod:`sigmatune.training.distillation`.

    Args:
        start: The student model.
        teacher: The teacher model; with classes if the student has some.
        plan: The student's plan.
        calls: Of the teacher, per image.
        drop: Share of noises without a class, for a network trained without classes, too.

    Raises:
        SigmaTuneError: for a plan that cannot be distilled.
    """
    conditioner = start.model.conditioner if isinstance(start.model, ConditionalDenoiser) else None
    addressed = plan.with_notes(fingerprint=teacher.fingerprint())
    return Following(
        teacher, addressed, start.model.prediction, fine=calls,
        conditions=StudentConditions(start.classes, drop if conditioner is not None else 0.0, start.told_ends),
    ).scaled()  # fmt: skip


def objective_of(start: Trainable, data: Pictures, levels: Levelled, drop: float = 0.1) -> Denoising:
    """The loss of a model on levels.

    Args:
        start: The model.
        data: The images; those of a conditional model with its classes.
        levels: The training levels.
        drop: Share of images whose class is dropped, for a network trained without classes, too.

    Raises:
        SigmaTuneError: if the images are of another shape, or of other classes.
    """
    model = start.model
    if data.shape != tuple(model.shape):
        raise SigmaTuneError(
            f"the {data.name} have the shape {data.shape}, the model's {tuple(model.shape)}; pass images "
            "of the model's shape."
        )
    conditioner = model.conditioner if isinstance(model, ConditionalDenoiser) else None
    if start.classes and tuple(data.classes) != start.classes:
        raise SigmaTuneError(
            f"the model has the classes {', '.join(start.classes)}, the images of {data.name} have "
            f"{', '.join(data.classes) or 'none'}; label them as in the model."
        )
    ends = start.told_ends
    law, weight, images = levels.law(start.ends, ends), levels.weight(), data.at(data.some(PROBE))
    return Denoising(
        model.path, model.prediction, law, weight, drop=drop if conditioner is not None else 0.0,
        classes=len(start.classes), told_ends=ends is not None,
        scale=scale_of(law, weight, images, float(images.std()), density=False),
    )  # fmt: skip


@dataclass(frozen=True)
class FineTuneOptions(RunOptions):
    """How a fine-tuning runs.

    Attributes:
        saving: When to write what; by default without trackers.
        lora: Rank of adapters to train instead of the weights (:mod:`sigmatune.training.lora`); they are merged into the
            model, and kept beside it in ``adapter/``.
        log: Sees every line of the log.
        step: Called as step(done, of).
    """

    saving: Saving = field(default_factory=lambda: Saving(trackers=[]))
    lora: int = 0
    log: Callable[[Report], None] | None = None
    step: Callable[[int, int], None] | None = None


def fine_tune(
    start: Trainable,
    objective: Objective,
    data: Pictures,
    settings: Training,
    folder: Path,
    options: FineTuneOptions | None = None,
) -> Path:
    """Continues the training of a model, or resumes it, and writes the model.

    Args:
        start: The model.
        objective: The loss.
        data: The images.
        settings: Batch, rate, precision, seed.
        folder: The run folder: checkpoint, log, and at the end ``model/``.
        options: Averages, checkpoints, adapters, callbacks.

    Returns:
        The folder of the model.

    Raises:
        SigmaTuneError: if the loss is no longer finite, or something cannot be written; the last good checkpoint stays.
    """
    target = folder / "model"
    recover(target)
    if target.is_dir():
        return target
    options = options or FineTuneOptions()
    lora, network = options.lora, start.network()
    if lora:
        adapt(network, lora, seed=settings.seed)
    said = (start.model.fingerprint(), settings.model_dump(mode="json"), options.flip, lora, options.identity)
    options = replace(options, identity=hashlib.sha256(repr(said).encode()).hexdigest())
    trainer = Trainer(network, objective, data, settings, folder, options)
    step = options.step
    after = None if step is None else lambda done: step(done, trainer.steps)
    if trainer.main:  # fail now instead of at the end
        folder.mkdir(parents=True, exist_ok=True)
        with rehearsed(folder) as place:
            fill(place, start.network(), start.folder)
    trainer.run(Hooks(options.log, after))
    if trainer.main:
        smoothed = averaged(network, trainer.averages[0])
        if lora:
            save_adapter(smoothed, folder / "adapter")
        save(merged(smoothed) if lora else smoothed, start.folder, target)
    trainer.accelerator.wait_for_everyone()
    return target


__all__ = ["FineTuneOptions", "Levelled", "Trainable", "fine_tune", "following", "objective_of"]
