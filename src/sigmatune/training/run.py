"""From a recipe to a trained model: data, spectrum, task, trainer, model folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.models.conditioning import Conditioned
from sigmatune.spectra import mixture_fit
from sigmatune.spectra.spectrum import Spectrum
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import make_folder, write_text
from sigmatune.support.progress import Parts, Progress, Shown, say, shown
from sigmatune.support.run_folder import held
from sigmatune.training import cascade, checkpoint, previews
from sigmatune.training.averages import Average
from sigmatune.training.data import Pictures, Reading, load
from sigmatune.training.export import averaged, rehearse, save_model
from sigmatune.training.networks import parameters
from sigmatune.training.objective import Objective
from sigmatune.training.pace import TrainingPace, headline
from sigmatune.training.position import Position
from sigmatune.training.recipe import Recipe
from sigmatune.training.recipe import write as recipe_text
from sigmatune.training.run_log import Report, lines
from sigmatune.training.run_options import Hooks, RunOptions
from sigmatune.training.score_matching import PhaseSpace
from sigmatune.training.trainer import Trainer
from sigmatune.training.training_task import Material, TrainingTask

RECIPE = "recipe.yaml"
SHARES = (0.01, 0.98, 0.01)
"""The work of reading the data, of training and of writing the model, as shares of the whole."""

SMALLEST = 4
"""Smallest side in pixels for which spectra are fitted."""

TASKS: Mapping[str, type[TrainingTask]] = {"edm": Position, "vp": Position, "flow": Position, "psld": PhaseSpace}
"""The task of every kind of process."""


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that a recipe defines, before training.

    Attributes:
        recipe: The recipe.
        material: The data, the learned images, and their spectrum.
        task: The network, objective and process.
    """

    recipe: Recipe
    material: Material
    task: TrainingTask

    @property
    def data(self) -> Pictures:
        """The training images."""
        return self.material.data

    @property
    def spectrum(self) -> Spectrum:
        """Of the learned images."""
        return self.material.spectrum

    @property
    def objective(self) -> Objective:
        """The objective."""
        return self.task.objective

    @property
    def network(self) -> Conditioned:
        """The network."""
        return self.task.network

    @property
    def scheduler(self) -> Any:
        """The scheduler of the model's folder."""
        return self.task.scheduler

    @property
    def identity(self) -> str:
        """A digest of the recipe and the data."""
        values = self.data.values
        digest = hashlib.sha256(self.recipe.identity().encode())
        digest.update(repr((tuple(values.shape), values.dtype, self.data.classes)).encode())
        digest.update(np.ascontiguousarray(values.numpy()).tobytes())
        digest.update(self.data.labels.numpy().tobytes())
        return digest.hexdigest()

    @property
    def drawable(self) -> bool:
        """Whether the model learns images."""
        return self.material.probe.shape[1] in (1, 3)

    @property
    def shown(self) -> tuple[torch.Tensor, list[str] | None]:
        """The training images behind previews, and their classes for a class-conditional network."""
        some = self.data.some(self.recipe.previews.n)
        classes = [self.data.classes[i] for i in self.data.labels[some].tolist()] if self.recipe.model.classes else None
        return self.data.at(some), classes

    def model(self, average: Average) -> Denoiser:
        """The denoiser with averaged weights."""
        return self.task.denoiser(averaged(self.network, average))


def prepare(recipe: Recipe, source: Any = None, progress: Progress | None = None) -> Job:
    """Reads the data and builds the task, with fresh weights.

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
    task = TASKS[recipe.process.kind]
    task.check(recipe)
    stated = {name: getattr(recipe.data, name) for name in ("size", "key", "labels", "bits", "values", "most")}
    data, learned = load(where, Reading(**stated, seed=recipe.training.seed), progress=progress), _all
    if recipe.data.low is not None:
        data, learned = cascade.stacked(data, recipe.data.low), cascade.residual
    if recipe.model.classes and not data.classes:
        raise SigmaTuneError(
            f"model.classes is set but {data.name} has no class labels; sort the images into one folder per class, "
            "or name a file of labels."
        )
    _check_classes(recipe, data)
    material = Material(data, learned, data.spectrum(progress, learned))
    torch.manual_seed(recipe.training.seed)
    return Job(recipe, material, task.of(recipe, material))


def _check_classes(recipe: Recipe, data: Pictures) -> None:
    """Refuses classes that the network could not learn, or that the spectra at the end could not be fitted to."""
    if recipe.model.classes and (empty := data.about.get("empty_folders")):
        raise SigmaTuneError(f"the class {empty[0]} of {data.name} holds no image; add some, or delete the folder.")
    if not _fits_spectra(recipe, data):
        return
    names = [data.classes[i] for i in data.labels.tolist()] if data.classes else [None] * len(data)
    try:
        mixture_fit.check(names, (data.shape[-2], data.shape[-1]))
    except SigmaTuneError as error:
        raise SigmaTuneError(f"{str(error).rstrip('.')}, or set saving.spectra to false.") from None


def _fits_spectra(recipe: Recipe, data: Pictures) -> bool:
    return recipe.saving.spectra and min(data.shape[-2:]) >= SMALLEST and len(data) > 1


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    source: Any = None,
    device: str = "auto",
    progress: Shown = True,
    log: Callable[[Report], None] | None = None,
) -> Path:
    """Trains what a recipe says, or goes on with it, and writes the model.

    Args:
        recipe: What to train; :func:`sigmatune.training.recipe.read` reads one.
        folder: The run folder: checkpoint, log, images, TensorBoard's files, and at the end ``model/``.
        source: Data instead of the recipe's.
        device: "auto", or "cpu" to insist.
        progress: True for a bar on a terminal and lines on stderr elsewhere; False for nothing; or a function (what, done,
            total) that receives the present stage, with images per second and loss, and the work of the whole.
        log: Sees every line of the log: loss, images per second, time left.

    Returns:
        The model's folder, for ``st.load``.

    Raises:
        SigmaTuneError: for bad data or options, a folder that another process trains in, a loss that is not finite, or a
            disk that is full; one sentence says what to do, and the last good checkpoint stays.
    """
    main = int(os.environ.get("RANK", "0")) == 0
    with held(Path(folder)), shown(progress if main else False, "training") as report:
        parts = Parts(report, SHARES)
        job = prepare(recipe, source, parts.take())
        return _trained(job, Path(folder), device, parts, log, aloud=progress is True and main)


def _trained(
    job: Job, folder: Path, device: str, parts: Parts, log: Callable[[Report], None] | None, *, aloud: bool
) -> Path:
    """Trains the prepared network and writes the model."""
    recipe = job.recipe
    trainer = Trainer(
        job.network, job.objective, job.data, recipe.training, folder,
        RunOptions(recipe.averages, recipe.saving, recipe.data.flip, job.identity, device),
    )  # fmt: skip
    if trainer.main:
        make_folder(folder)
        if not is_copy(folder / RECIPE, recipe, folder):
            write_text(folder / RECIPE, recipe_text(recipe))
        _rehearse(job, trainer, folder)

    pace = TrainingPace(parts.take(), trainer, log)
    if aloud:
        say(headline(job, trainer))

    def after(step: int) -> None:
        pace.after(step)
        seen = step * recipe.training.batch
        every = recipe.previews.every
        if every and (seen // every > (seen - recipe.training.batch) // every or step == trainer.steps):
            _preview(job, trainer, folder / "previews" / f"{seen:010d}.png")

    trainer.run(Hooks(pace.log, after))
    if trainer.main:
        _finish(job, trainer, folder, parts.take())
    trainer.accelerator.wait_for_everyone()
    return folder / "model"


def _rehearse(job: Job, trainer: Trainer, folder: Path) -> None:
    """Does what comes after the last step, and at the previews between, with the weights as they are, and throws it away.

    Raises:
        SigmaTuneError: now, rather than after days, if a preview has no plan or the model's folder cannot be written.
    """
    if job.recipe.previews.every and job.drawable:
        try:
            job.task.preview(job.model(trainer.averages[0]), *job.shown, job.recipe.previews.calls)
        except SigmaTuneError as error:
            raise SigmaTuneError(
                f"previews of {job.recipe.previews.calls} calls cannot be made: {str(error).rstrip('.')}; choose another "
                "previews.calls, or previews.every=0."
            ) from None
    rehearse(folder, averaged(job.network, trainer.averages[0]), job.scheduler, job.recipe)


def is_copy(file: Path, recipe: Recipe, folder: Path) -> bool:
    """Whether a file is a run folder's copy of a recipe, which a run that goes on leaves as it is."""
    try:
        same = file.samefile(folder / RECIPE) and file.read_text(encoding="utf-8") == recipe_text(recipe)
    except (OSError, UnicodeDecodeError):
        return False
    return bool(same)


def _preview(job: Job, trainer: Trainer, file: Path) -> None:
    """Previews with the classes and curves of some training images."""
    if not job.drawable:
        return
    model, (images, labels) = job.model(trainer.averages[0]), job.shown
    try:
        samples = job.task.pictures(model, images, labels, job.recipe.previews.calls)
    except SigmaTuneError as error:
        raise SigmaTuneError(
            f"a preview failed: {str(error).rstrip('.')}; previews.every=0 trains without previews."
        ) from None
    previews.write(file, samples, model.value_range)


def _finish(job: Job, trainer: Trainer, folder: Path, progress: Progress) -> None:
    spectra, count = None, len(job.data)
    if _fits_spectra(job.recipe, job.data):
        spectra = mixture_fit.fit(_labelled(job), progress=lambda done: progress("spectra", done, count))
    for i, average in enumerate(trainer.averages):
        save_model(
            folder / (f"model-{i}-{average.name}" if i else "model"), averaged(job.network, average), job.scheduler,
            job.recipe, spectra=spectra, facts=facts(job, trainer),
        )  # fmt: skip


def _labelled(job: Job) -> Any:
    """Batches of the learned images with the names of their classes."""
    for first in range(0, len(job.data), 1024):
        part = slice(first, first + 1024)
        names = [job.data.classes[i] for i in job.data.labels[part].tolist()] if job.data.classes else None
        images = job.material.learned(job.data.at(part))
        yield images if names is None else (images, names)


def facts(job: Job, trainer: Trainer) -> Mapping[str, Any]:
    """What a training took, for ``training.json``."""
    losses = [loss for line in lines(trainer.folder) for loss in line["losses"]]
    # Of steps, not lines, whose lengths depend on where a run was stopped; of a short run an eighth, as its loss still falls.
    last = losses[-min(10 * job.recipe.saving.log, max(len(losses) // 8, 1)) :]
    return {
        "steps": trainer.step,
        "images": trainer.step * job.recipe.training.batch,
        "seconds": round(trainer.seconds, 1),
        "parameters": parameters(job.network),
        "loss": float(np.mean(last)) if last else None,
        "loss_steps": len(last),
        "loss_scale": job.objective.scale,
        "data": {**job.data.about, "name": job.data.name, "images": len(job.data), "shape": list(job.data.shape)},
        "device": str(trainer.accelerator.device),
        "processes": int(trainer.accelerator.num_processes),
        "torch": torch.__version__,
    }


def _all(images: torch.Tensor) -> torch.Tensor:
    return images


__all__ = ["Job", "checkpoint", "prepare", "train"]
