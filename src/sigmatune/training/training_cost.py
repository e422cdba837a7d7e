"""What a training will cost before it begins: a few steps are measured in a folder that is thrown away."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigmatune.support import card
from sigmatune.support.durations import about, rounded
from sigmatune.support.progress import Progress
from sigmatune.training import checkpoint
from sigmatune.training.networks import parameters
from sigmatune.training.recipe import Recipe
from sigmatune.training.run import Job, prepare
from sigmatune.training.run_options import Hooks, RunOptions
from sigmatune.training.trainer import Trainer

MEASURED, MOST = 1.0, 20
"""Seconds of steps after the first one, which warms up, and how many steps at most."""

SLOW = 5.0
"""Seconds from which on the first step is the measurement."""

PASSES = 3
"""A step takes as much for every image as this many calls of the network: one forward, two for the backward pass."""


class _EnoughError(Exception):
    """Ends the measurement before a checkpoint is written."""


@dataclass(frozen=True)
class TrainingCost:
    """What a training will cost.

    Attributes:
        steps: Steps that are left to do.
        batch: Images of a step.
        each: Seconds of a step.
        preview_calls: Network evaluations of single images for all previews.
        weights: The parameters of the network.
        where: The device.
        images: How many images the data hold.
        shape: Of one of them, (C, H, W).
    """

    steps: int
    batch: int
    each: float
    preview_calls: int
    weights: int
    where: str
    images: int
    shape: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """Seconds in all."""
        return self.each * (self.steps + self.preview_calls / (PASSES * self.batch))

    def lines(self) -> list[str]:
        """The estimate with its parts, a line each."""
        pace = f"{self.each:.2g} s per step, {rounded(self.batch / self.each)} images per second"
        return [
            f"about {about(self.seconds)} on {self.where} for {self.steps:,} steps of {self.batch} images",
            f"measured: {pace}; {self.weights:,} parameters",
            f"previews: {rounded(self.preview_calls)} network evaluations of single images",
            f"data: {card.count(self.images, 'image')} of {' x '.join(map(str, self.shape))}{self._few()}",
        ]

    def _few(self) -> str:
        """What to expect of data that fill no batch; "" for more."""
        if self.images >= self.batch:
            return ""
        return f", fewer than the {self.batch} of a batch: the network will learn these images by heart"

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        return {
            "steps": self.steps, "batch": self.batch, "seconds_per_step": self.each, "seconds": self.seconds,
            "preview_evaluations": self.preview_calls, "parameters": self.weights,
            "images": self.images, "shape": list(self.shape),
        }  # fmt: skip


def training_cost(
    recipe: Recipe, folder: str | Path, *, source: Any = None, device: str = "auto", progress: Progress | None = None
) -> TrainingCost:
    """Measures some steps and multiplies; the arguments are those of :func:`sigmatune.training.run.train`.

    The run folder is only read, for the steps that a stopped training has done.

    Raises:
        SigmaTuneError: for bad data or options.
    """
    job, state = prepare(recipe, source, progress), checkpoint.peek(Path(folder))
    each, where = _measured(job, device)
    left = recipe.steps - (0 if state is None else state.step)
    every, batch = recipe.previews.every, recipe.training.batch
    previews = left * batch // every + 1 if every and job.drawable else 0
    calls = previews * recipe.previews.n * recipe.previews.calls
    return TrainingCost(max(left, 0), batch, each, calls, parameters(job.network), where, len(job.data), job.data.shape)


def _measured(job: Job, device: str) -> tuple[float, str]:
    """Seconds of a step, and the device."""
    quiet = job.recipe.saving.model_copy(update={"trackers": []})
    clock = [time.monotonic()]

    def after(step: int) -> None:
        clock.append(time.monotonic())
        first, since = clock[1] - clock[0], clock[-1] - clock[1]
        if first > SLOW or since > MEASURED or step >= MOST:
            raise _EnoughError

    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(job.recipe.averages, quiet, job.recipe.data.flip, job.identity, device)
        trainer = Trainer(job.network, job.objective, job.data, job.recipe.training, Path(folder), options)
        clock[0] = time.monotonic()
        try:
            trainer.run(Hooks(step=after))
        except _EnoughError:
            pass
        finally:
            trainer.accelerator.free_memory()
    steps = clock[1:] if len(clock) > 2 else clock
    return (steps[-1] - steps[0]) / (len(steps) - 1), trainer.accelerator.device.type
