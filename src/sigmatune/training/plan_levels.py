r"""Fine-tuning: continues training of a model at the levels of a plan.

.. math:: L = \sum_i w_i \, E \lVert D_\theta(x_0 + \sigma_i \epsilon; \sigma_i) - x_0 \rVert^2

Each level of the plan is drawn equally often and weighted by :math:`w_i`, the influence of an error there on the result
(:func:`sigmatune.workflows.finetune_round.weights_of`). A small share of the images gets levels from the whole range, with
weights interpolated in log sigma, so that the model does not forget the other levels and can be measured there: after
training on a few levels alone, the old levels would look best only because the model is bad at all others.

The folder of the model is only read. The result is a copy of it with new weights in the old dtype; everything else in
the folder (scheduler, conditioning, spectra) stays.

Reference: Optimizing Few-Step Sampler for Diffusion Models (Huang, 2024), https://arxiv.org/abs/2412.10786, phase 2
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from sigmatune.core.denoiser import Denoiser
from sigmatune.models import load
from sigmatune.models.bundled import bundled_folder, bundled_names
from sigmatune.models.conditional import ConditionalDenoiser
from sigmatune.models.conditioning import Conditioned
from sigmatune.models.diffusers_denoiser import DiffusersDenoiser
from sigmatune.models.source import WEIGHTS, layout, locate, needs_pipeline
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.plan.reference import HIGHEST
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.folders import copy as copy_folder
from sigmatune.support.folders import recover, whole_folder
from sigmatune.support.pixels import unsound_weight
from sigmatune.training.data import Pictures
from sigmatune.training.distillation import Following
from sigmatune.training.export import averaged, fitting, rehearsed
from sigmatune.training.laws.levels import Levels
from sigmatune.training.lora import adapt, merged, save_adapter
from sigmatune.training.objective import Denoising, Objective, scale_of
from sigmatune.training.recipe import AverageOf, Saving, Training
from sigmatune.training.trainer import Hooks, Report, Trainer
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
        own = self.model.module if isinstance(self.model, ConditionalDenoiser) else None
        made = Conditioned(self.model.network, None) if own is None else own  # type: ignore[arg-type]
        return copy.deepcopy(made).float().cpu().train().requires_grad_(True)

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

    def law(self, ends: tuple[float, float], told: tuple[float, float] | None) -> Levels:
        """The noise law; conditional networks get their default ends."""
        points = np.clip(self.sigmas, *ends)
        shares = np.full(len(points), 1 / len(points))
        low, high = ends
        return Levels(points, shares, self.elsewhere, (-2 * float(np.log(low)), -2 * float(np.log(high))), told)

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
    own = plan.with_notes(fingerprint=teacher.fingerprint())
    return Following(
        teacher, own, start.model.prediction, fine=calls, classes=start.classes, ends=start.told_ends,
        drop=drop if conditioner is not None else 0.0,
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
            f"the images of {data.name} have the shape {data.shape}, the model's {tuple(model.shape)}; pass images "
            "of the model's shape."
        )
    conditioner = model.conditioner if isinstance(model, ConditionalDenoiser) else None
    if start.classes and tuple(data.classes) != start.classes:
        raise SigmaTuneError(
            f"the model has the classes {', '.join(start.classes)}, the images of {data.name} have "
            f"{', '.join(data.classes) or 'none'}; label them as in the model."
        )
    told = start.told_ends
    law, weight, images = levels.law(start.ends, told), levels.weight(), data.at(data.some(PROBE))
    return Denoising(
        model.path, model.prediction, law, weight, drop=drop if conditioner is not None else 0.0,
        classes=len(start.classes), told_ends=told is not None,
        scale=scale_of(law, weight, images, float(images.std()), density=False),
    )  # fmt: skip


def fine_tune(  # noqa: PLR0913 (the parts of a training)
    start: Trainable,
    objective: Objective,
    data: Pictures,
    settings: Training,
    folder: Path,
    *,
    flip: bool = False,
    average: AverageOf | None = None,
    saving: Saving | None = None,
    lora: int = 0,
    identity: str = "",
    device: str = "auto",
    log: Callable[[Report], None] | None = None,
    step: Callable[[int, int], None] | None = None,
) -> Path:
    """Continues the training of a model, or resumes it, and writes the model.

    Args:
        start: The model.
        objective: The loss.
        data: The images.
        settings: Batch, rate, precision, seed.
        folder: The run folder: checkpoint, log, and at the end ``model/``.
        flip: Mirror images at random.
        average: The average of the weights to keep.
        saving: When to write what.
        lora: Rank of adapters to train instead of the weights (:mod:`sigmatune.training.lora`); they are merged into
            the model, and kept beside it in ``adapter/``.
        identity: Names everything else that the training depends on; a checkpoint with another identity is refused.
        device: "auto", or "cpu" to force the CPU.
        log: Sees every line of the log.
        step: Called as step(done, of).

    Returns:
        The folder of the model.

    Raises:
        SigmaTuneError: if the loss is no longer finite, or something cannot be written; the last good checkpoint stays.
    """
    target = folder / "model"
    recover(target)
    if target.is_dir():
        return target
    network = start.network()
    if lora:
        adapt(network, lora, seed=settings.seed)
    said = (start.model.fingerprint(), settings.model_dump(mode="json"), flip, lora, identity)
    trainer = Trainer(
        network, objective, data, settings, folder, averages=[average or AverageOf()], saving=saving or Saving(trackers=[]),
        flip=flip, identity=hashlib.sha256(repr(said).encode()).hexdigest(), device=device,
    )  # fmt: skip
    after = None if step is None else lambda done: step(done, trainer.steps)
    if trainer.main:  # fail now instead of at the end
        folder.mkdir(parents=True, exist_ok=True)
        with rehearsed(folder) as place:
            _fill(place, start.network(), start.folder)
    trainer.run(Hooks(log, after))
    if trainer.main:
        made = averaged(network, trainer.averages[0])
        if lora:
            save_adapter(made, folder / "adapter")
        save(merged(made) if lora else made, start.folder, target)
    trainer.accelerator.wait_for_everyone()
    return target


def save(network: Conditioned, like: Path, target: Path) -> None:
    """Writes a copy of a model folder with new weights in the old dtype, whole or not at all.

    Args:
        network: The new weights.
        like: The folder that is copied.
        target: The new folder.

    Raises:
        SigmaTuneError: if it cannot be written.
    """
    with whole_folder(target) as new:
        _fill(new, network, like)


def _fill(new: Path, network: Conditioned, like: Path) -> None:
    copy_folder(like, new, ignore=_unneeded)
    place, source = layout(new)[0], layout(like)[0]
    dtype = _dtype(source)
    fitting(network, dtype, f"store the model of {like} in float32 first; the checkpoint is kept")
    backbone: Any = copy.deepcopy(network.backbone)
    torch.nn.Module.to(backbone, dtype)  # diffusers' own warns about modules that this network lacks
    backbone.save_pretrained(str(place), safe_serialization=True)
    shutil.copyfile(source / "config.json", place / "config.json")  # diffusers would write the source folder
    if network.conditioning is not None:
        copy.deepcopy(network.conditioning).to(dtype).save(new / "conditioning")


def _unneeded(_: str, names: Sequence[str]) -> set[str]:
    """Weights, which are rewritten, and pickled files, which are never opened."""
    return {
        name for name in names if name.startswith(WEIGHTS) or name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))
    }


def _dtype(network: Path) -> torch.dtype:
    """The dtype that a network's weights are stored in."""
    with safe_open(sorted(network.glob(f"{WEIGHTS}*.safetensors"))[0], framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - the file is not a mapping
            found: torch.dtype = file.get_tensor(name).dtype
            if found.is_floating_point:
                return found
    return torch.float32


def digest_of(folder: Path) -> Mapping[str, str]:
    """A digest of every file of a folder, which proves that nothing in it changed."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


__all__ = ["Levelled", "Trainable", "digest_of", "fine_tune", "following", "objective_of", "save"]
