r"""Fine-tuning: the weights of a trained model are fitted on to the levels that a plan will ask it at.

.. math:: L = \sum_i w_i \, E \lVert D_\theta(x_0 + \sigma_i \epsilon; \sigma_i) - x_0 \rVert^2

Each level of the plan is drawn equally often and weighed by :math:`w_i`, which is by how much the result hears of an error
there (:func:`sigmatune.workflows.finetune.weights_of`). A small share of the images is taken anywhere in the model's range,
with the weight that is interpolated in log sigma, so that the model stays a model there and can be measured: after training
on a few levels alone, the old levels would look best just because the model is bad at all others.

The folder of the model is read and never written. What comes out is a copy of it with other weights, in the dtype of the old
ones, so everything else that the folder holds (scheduler, conditioning, spectra) stays.

Reference: Optimizing Few-Step Sampler for Diffusion Probabilistic Model (Huang, 2024),
https://arxiv.org/abs/2412.10786, phase 2
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

from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError
from sigmatune.folders import copy as copy_folder
from sigmatune.folders import recover, whole_folder
from sigmatune.models import load
from sigmatune.models.bundled import bundled_folder, bundled_names
from sigmatune.models.conditional import ConditionalDenoiser
from sigmatune.models.conditioning import Conditioned
from sigmatune.models.diffusers import DiffusersDenoiser
from sigmatune.models.source import WEIGHTS, layout, locate, needs_pipeline
from sigmatune.noise import Array
from sigmatune.pixels import unsound_weight
from sigmatune.plan import Plan
from sigmatune.reference import HIGHEST
from sigmatune.training.data import Pictures
from sigmatune.training.distillation import Following
from sigmatune.training.export import averaged, fitting, rehearsed
from sigmatune.training.laws.levels import Levels
from sigmatune.training.lora import adapt, merged, save_adapter
from sigmatune.training.objective import Denoising, Objective, scale_of
from sigmatune.training.recipe import AverageOf, Saving, Training
from sigmatune.training.trainer import Hooks, Report, Trainer
from sigmatune.training.weights.weight import Function

PROBE = 64
"""Images on which the size of the loss is found."""


@dataclass(frozen=True, eq=False)
class Trainable:
    """A model in a folder whose network can be trained on.

    Attributes:
        folder: The model's folder, which is only read.
        model: The denoiser, as it was found.
    """

    folder: Path
    model: DiffusersDenoiser

    @classmethod
    def of(cls, source: str | Path) -> Trainable:
        """Opens a model: a bundled name, a folder of diffusers, or a hub id.

        Raises:
            SigmaTuneError: if it is no network that this trainer knows.
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
            raise SigmaTuneError(f"{name} is no diffusers network of position, which is what is fine-tuned.")
        if (unsound := unsound_weight(model.network)) is not None:  # type: ignore[arg-type]
            raise SigmaTuneError(f"the weight {unsound} of {name} holds NaN or infinity; start from sound weights.")
        if model.integer_time:
            raise SigmaTuneError(
                f"the network of {name} knows whole timesteps only; fine-tuning needs levels in between."
            )
        if isinstance(model, ConditionalDenoiser) and model.conditioner is not None and model.conditioner.images:
            raise SigmaTuneError(f"{name} is a stage of a cascade, which is told an image; train it on by its recipe.")
        return cls(folder, model)

    def network(self) -> Conditioned:
        """A copy of the network whose parameters can be trained, in float32."""
        own = self.model.module if isinstance(self.model, ConditionalDenoiser) else None
        made = Conditioned(self.model.network, None) if own is None else own  # type: ignore[arg-type]
        return copy.deepcopy(made).float().cpu().train().requires_grad_(True)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the network is told."""
        return self.model.classes if isinstance(self.model, ConditionalDenoiser) else ()

    @property
    def ends(self) -> tuple[float, float]:
        """sigma_min and sigma_max of training, both finite."""
        path = self.model.path
        return path.sigma_min, min(path.sigma_max, HIGHEST)

    @property
    def told_ends(self) -> tuple[float, float] | None:
        """The ends of a schedule that the network is told while nothing else is said; None for one that is not told any."""
        conditioner = self.model.conditioner if isinstance(self.model, ConditionalDenoiser) else None
        return None if conditioner is None or not conditioner.ends else conditioner.default_ends or self.ends


@dataclass(frozen=True)
class Levelled:
    """The levels that are trained on.

    Attributes:
        sigmas: Where the plan asks the network, (N,), positive; an infinite one counts as the highest finite one.
        weights: w_i of each, (N,), positive.
        elsewhere: Share of the images that is taken anywhere in the model's range, in [0, 1).
    """

    sigmas: Array
    weights: Array
    elsewhere: float = 0.1

    def law(self, ends: tuple[float, float], told: tuple[float, float] | None) -> Levels:
        """The noise law; conditional networks are told the ends that they are told by default."""
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
    """The loss of landing on a plan where a teacher lands after many calls; see :mod:`sigmatune.training.distillation`.

    Args:
        start: The model that learns.
        teacher: The model that is learned from; with classes if the learner has some.
        plan: What the learner will run on.
        calls: Of the teacher, per image.
        drop: Share of noises without a class, of a network that knows none.

    Raises:
        SigmaTuneError: for a plan that cannot be followed.
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
        levels: Where it is trained.
        drop: Share of images whose class is left out, of a network that knows none.

    Raises:
        SigmaTuneError: if the images are of another shape, or of other classes.
    """
    model = start.model
    if data.shape != tuple(model.shape):
        raise SigmaTuneError(
            f"the images of {data.name} have the shape {data.shape}, the model makes {tuple(model.shape)}; give it images "
            "of its own shape."
        )
    conditioner = model.conditioner if isinstance(model, ConditionalDenoiser) else None
    if start.classes and tuple(data.classes) != start.classes:
        raise SigmaTuneError(
            f"the model knows the classes {', '.join(start.classes)}, the images of {data.name} have "
            f"{', '.join(data.classes) or 'none'}; label them as the model does."
        )
    told = start.told_ends
    law, weight, images = levels.law(start.ends, told), levels.weight(), data.at(data.some(PROBE))
    return Denoising(
        model.path, model.prediction, law, weight, drop=drop if conditioner is not None else 0.0,
        classes=len(start.classes), told_ends=told is not None,
        scale=scale_of(law, weight, images, float(images.std()), density=False),
    )  # fmt: skip


def fine_tune(  # noqa: PLR0913 (what a training is made of)
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
    """Trains a model on, or goes on with that, and writes it.

    Args:
        start: The model.
        objective: The loss.
        data: The images.
        settings: Batch, rate, precision, seed.
        folder: The run folder: checkpoint, log, and at the end ``model/``.
        flip: Mirror images by chance.
        average: The average of the weights that is kept.
        saving: When to write what.
        lora: Rank of adapters that are trained instead of the weights (:mod:`sigmatune.training.lora`); they are folded into
            the model, and kept beside it in ``adapter/``.
        identity: Names what else the training depends on; a checkpoint of another one is refused.
        device: "auto", or "cpu" to insist.
        log: Sees every line of the log.
        step: Called as step(done, of).

    Returns:
        The folder of the model.

    Raises:
        SigmaTuneError: if the loss is not finite any more, or something cannot be written; the last good checkpoint stays.
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
    if trainer.main:  # what could not be written at the end is said now
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
    """Writes a model folder that is a copy of another with other weights, in the dtype of the old ones; whole or not at all.

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
    torch.nn.Module.to(backbone, dtype)  # diffusers' own warns of modules that this network does not have
    backbone.save_pretrained(str(place), safe_serialization=True)
    shutil.copyfile(source / "config.json", place / "config.json")  # diffusers would write where it came from
    if network.conditioning is not None:
        copy.deepcopy(network.conditioning).to(dtype).save(new / "conditioning")


def _unneeded(_: str, names: Sequence[str]) -> set[str]:
    """Weights, which are written anew, and what was pickled, which is never opened."""
    return {
        name for name in names if name.startswith(WEIGHTS) or name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))
    }


def _dtype(network: Path) -> torch.dtype:
    """The dtype that a network's weights are stored in."""
    with safe_open(sorted(network.glob(f"{WEIGHTS}*.safetensors"))[0], framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - the file is no mapping
            found: torch.dtype = file.get_tensor(name).dtype
            if found.is_floating_point:
                return found
    return torch.float32


def digest_of(folder: Path) -> Mapping[str, str]:
    """A digest of every file of a folder, by which it is shown that nothing in it was touched."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


__all__ = ["Levelled", "Trainable", "digest_of", "fine_tune", "following", "objective_of", "save"]
