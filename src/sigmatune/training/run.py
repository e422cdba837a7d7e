"""From a recipe to a trained model: data, spectrum, law, weight, network, trainer, model folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigmatune.errors import SigmaTuneError
from sigmatune.files import write_text
from sigmatune.models.conditional import ConditionalDenoiser
from sigmatune.models.conditioning import Conditioned
from sigmatune.models.diffusers import DiffusersDenoiser
from sigmatune.spectra.spectrum import Spectrum
from sigmatune.training import cascade, checkpoint, previews
from sigmatune.training.data import Pictures, Progress, load
from sigmatune.training.export import averaged, denoiser_of, save_model
from sigmatune.training.laws import LAWS, Domain, Law
from sigmatune.training.networks import build, parameters, process_of, scheduler_of
from sigmatune.training.objective import Denoising, scale_of
from sigmatune.training.recipe import Recipe
from sigmatune.training.recipe import write as recipe_text
from sigmatune.training.trainer import Hooks, Report, Trainer, lines
from sigmatune.training.weights import WEIGHTS, Data

PROBE = 64
"""Images on which the size of a loss is found, for laws that look at images."""


@dataclass(frozen=True, eq=False)
class Job:
    """All that a recipe stands for, before training.

    Attributes:
        recipe: The recipe.
        data: The training images; for a cascade, what is to be learned and what is told, in the channels of one.
        learned: The images that are learned, without what is told.
        spectrum: Of what is learned.
        law, objective, network, scheduler: What is trained, on what, and in which process.
    """

    recipe: Recipe
    data: Pictures
    learned: Callable[[torch.Tensor], torch.Tensor]
    spectrum: Spectrum
    law: Law
    objective: Denoising
    network: Conditioned
    scheduler: Any

    @property
    def identity(self) -> str:
        """A digest of the recipe and the data."""
        values = self.data.values
        digest = hashlib.sha256(self.recipe.identity().encode())
        digest.update(repr((tuple(values.shape), values.dtype, self.data.classes)).encode())
        digest.update(np.ascontiguousarray(values.numpy()).tobytes())
        digest.update(self.data.labels.numpy().tobytes())
        return digest.hexdigest()

    def model(self, average: Any) -> DiffusersDenoiser:
        """The denoiser with averaged weights."""
        return denoiser_of(averaged(self.network, average), self.scheduler)


def prepare(recipe: Recipe, source: Any = None, progress: Progress | None = None) -> Job:
    """Reads the data and makes everything that is trained, with fresh weights.

    Args:
        recipe: What to train.
        source: Data instead of the recipe's, as for :func:`sigmatune.spectra.sources.open_images`.
        progress: Sees the images read.

    Raises:
        SigmaTuneError: for bad data, or options that do not fit together.
    """
    where = recipe.data.source if source is None else source
    if isinstance(where, str) and not where:
        raise SigmaTuneError("the recipe names no data; set data.source, or pass --data.")
    LAWS[recipe.noise.law], WEIGHTS[recipe.loss.weight]  # before the data are read
    read = {name: getattr(recipe.data, name) for name in ("size", "key", "labels", "bits", "most")}
    data, learned = load(where, progress=progress, **read), _all
    if recipe.data.low is not None:
        data, learned = cascade.stacked(data, recipe.data.low), cascade.residual
    if recipe.model.classes and not data.classes:
        raise SigmaTuneError(
            f"model.classes is set but {data.name} has no class labels; sort the images into one folder per class, "
            "or name a file of labels."
        )
    spectrum = data.spectrum(progress, learned)
    probe = learned(data.at(slice(0, PROBE)))
    scheduler = scheduler_of(recipe.process, spectrum.deviation or 0.5)
    process = process_of(scheduler)
    law = LAWS[recipe.noise.law].made(Domain(process.path, tuple(probe.shape[1:]), spectrum), recipe.noise.options)
    about = Data(recipe.process.sigma_data or spectrum.deviation or 0.5, spectrum)
    weight = WEIGHTS[recipe.loss.weight].made(about, recipe.loss.options)
    classes = data.classes if recipe.model.classes else ()
    torch.manual_seed(recipe.training.seed)
    ends = law.ends(probe)
    network = build(
        recipe.model, tuple(probe.shape[1:]), classes=classes, images=probe.shape[1] if recipe.data.low else 0,
        default_ends=(float(np.exp(np.log(ends[:, 0]).mean())), float(np.exp(np.log(ends[:, 1]).mean()))), curve=law.curve,
    )  # fmt: skip
    objective = Denoising(
        process.path, process.prediction, law, weight, density=recipe.loss.density, drop=recipe.model.drop,
        classes=len(classes), told_ends=recipe.model.ends, told_images=recipe.data.low is not None,
        scale=scale_of(law, weight, probe, about.sigma_data, density=recipe.loss.density),
    )  # fmt: skip
    return Job(recipe, data, learned, spectrum, law, objective, network, scheduler)


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    source: Any = None,
    device: str = "auto",
    progress: Progress | None = None,
    log: Callable[[Report], None] | None = None,
) -> Path:
    """Trains what a recipe says, or goes on with it, and writes the model.

    Args:
        recipe: What to train; :func:`sigmatune.training.recipe.read` reads one.
        folder: The run folder: checkpoint, log, pictures, TensorBoard's files, and at the end ``model/``.
        source: Data instead of the recipe's.
        device: "auto", or "cpu" to insist.
        progress: Called as progress(what, done, total).
        log: Sees every line of the log: loss, images per second, time left.

    Returns:
        The model's folder, for ``st.load``.

    Raises:
        SigmaTuneError: for bad data or options, a loss that is not finite, or a disk that is full; one sentence says
            what to do, and the last good checkpoint stays.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise SigmaTuneError(f"{folder} is a file; give the run another folder.")
    job = prepare(recipe, source, progress)
    trainer = Trainer(
        job.network, job.objective, job.data, recipe.training, folder, averages=recipe.averages, saving=recipe.saving,
        flip=recipe.data.flip, identity=job.identity, device=device,
    )  # fmt: skip
    if trainer.main:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "recipe.yaml", recipe_text(recipe))

    def after(step: int) -> None:
        if progress is not None:
            progress("training", step, trainer.steps)
        seen = step * recipe.training.batch
        every = recipe.previews.every
        if every and (seen // every > (seen - recipe.training.batch) // every or step == trainer.steps):
            _preview(job, trainer, folder / "previews" / f"{seen:010d}.png")

    trainer.run(Hooks(log, after))
    if trainer.main:
        _finish(job, trainer, folder, progress)
    trainer.accelerator.wait_for_everyone()
    return folder / "model"


def _preview(job: Job, trainer: Trainer, file: Path) -> None:
    """Pictures with the classes and curves of the first training images; a cascade's second stage is told these images."""
    if job.learned(job.data.at(slice(0, 1))).shape[1] not in (1, 3):
        return
    model, n = job.model(trainer.averages[0]), min(job.recipe.previews.n, len(job.data))
    images, told = job.objective.split(job.data.at(slice(0, n)))
    if told is not None and isinstance(model, ConditionalDenoiser):
        model = model.given(images=told)
    labels = [job.data.classes[i] for i in job.data.labels[:n].tolist()] if job.recipe.model.classes else None
    made = previews.pictures(model, job.law, images, labels, job.recipe.previews.calls).cpu()
    previews.write(file, made if told is None else told + made, model.value_range)


def _finish(job: Job, trainer: Trainer, folder: Path, progress: Progress | None) -> None:
    from sigmatune.spectra.mixture_fit import fit

    spectra = None
    if job.recipe.saving.spectra and min(job.data.shape[-2:]) >= 4 and len(job.data) > 1:
        seen = (lambda done: progress("spectra", done, len(job.data))) if progress is not None else None
        spectra = fit(_labelled(job), progress=seen)
    save_model(
        folder / "model", averaged(job.network, trainer.averages[0]), job.scheduler, job.recipe, spectra=spectra,
        facts=facts(job, trainer),
    )  # fmt: skip
    for i, average in enumerate(trainer.averages[1:], start=1):
        name = folder / f"model-{i}-{average.name}"
        save_model(
            name, averaged(job.network, average), job.scheduler, job.recipe, spectra=spectra, facts=facts(job, trainer)
        )


def _labelled(job: Job) -> Any:
    """Batches of what is learned with the names of their classes."""
    for first in range(0, len(job.data), 1024):
        part = slice(first, first + 1024)
        names = [job.data.classes[i] for i in job.data.labels[part].tolist()] if job.data.classes else None
        images = job.learned(job.data.at(part))
        yield images if names is None else (images, names)


def facts(job: Job, trainer: Trainer) -> Mapping[str, Any]:
    """What a training took, for ``training.json``."""
    log = lines(trainer.folder)
    last = [loss for line in log[-10:] for loss in line["losses"]]
    return {
        "steps": trainer.step,
        "images": trainer.step * job.recipe.training.batch,
        "seconds": round(trainer.seconds, 1),
        "parameters": parameters(job.network),
        "loss": float(np.mean(last)) if last else None,
        "loss_scale": job.objective.scale,
        "data": {"name": job.data.name, "images": len(job.data), "shape": list(job.data.shape)},
        "device": str(trainer.accelerator.device),
        "processes": int(trainer.accelerator.num_processes),
        "torch": torch.__version__,
    }


def _all(images: torch.Tensor) -> torch.Tensor:
    return images


__all__ = ["Job", "checkpoint", "prepare", "train"]
