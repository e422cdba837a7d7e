"""A process's part of a recipe: the network, its objective, its scheduler, and its previews.

The rest of a training (data, averages, checkpoints, logs, files) is the same for all. A kind of process is one file with a
:class:`TrainingTask`, and an entry in ``TASKS`` of :mod:`sigmatune.training.run`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.models.conditioning import Conditioned
from sigmatune.plan import Plan, sample
from sigmatune.spectra.spectrum import Spectrum
from sigmatune.training.data import Pictures
from sigmatune.training.objective import Objective
from sigmatune.training.recipe import Recipe

SEED = 0
"""Seed of the previews' start noise."""

PROBE = 64
"""Images that a task may use while it is built, to measure the scale of its loss."""


@dataclass(frozen=True, eq=False)
class Material:
    """The data of a task.

    Attributes:
        data: The training images; for a cascade, the residuals and the conditions, in the channels of one image.
        learned: The learned images, without conditions.
        spectrum: Of the learned images.
    """

    data: Pictures
    learned: Callable[[torch.Tensor], torch.Tensor]
    spectrum: Spectrum

    @property
    def probe(self) -> torch.Tensor:
        """Some of the learned images, (at most PROBE, C, H, W)."""
        return self.learned(self.data.at(self.data.some(PROBE)))


class TrainingTask(ABC):
    """A network and its learning task.

    Attributes:
        objective: What is minimised.
        network: The network, with fresh weights.
        scheduler: The object for ``scheduler/`` of the model's folder, with diffusers' ``save_pretrained``.
    """

    objective: Objective
    network: Conditioned
    scheduler: Any

    @staticmethod
    @abstractmethod
    def check(recipe: Recipe) -> None:
        """Checks everything that the recipe alone determines, before the data are read.

        Raises:
            SigmaTuneError: in one sentence, for sections that do not fit together.
        """

    @classmethod
    @abstractmethod
    def of(cls, recipe: Recipe, material: Material) -> TrainingTask:
        """Builds the task; the caller has seeded torch for the network's weights.

        Raises:
            SigmaTuneError: for options or sizes that do not fit the data.
        """

    @abstractmethod
    def denoiser(self, network: Conditioned) -> Denoiser:
        """The network with averaged weights, as the denoiser that opening its saved folder returns."""

    @abstractmethod
    def preview(
        self, model: Denoiser, images: torch.Tensor, labels: list[str] | None, calls: int
    ) -> tuple[Denoiser, Plan]:
        """The denoiser with its conditions, and the plan of the previews.

        Args:
            model: Of :meth:`denoiser`.
            images: Training images, as stored in the data, (n, C, H, W).
            labels: Their classes, for a class-conditional network.
            calls: Network calls.

        Raises:
            SigmaTuneError: if no such plan exists.
        """

    def pictures(self, model: Denoiser, images: torch.Tensor, labels: list[str] | None, calls: int) -> torch.Tensor:
        """Samples one preview per training image, from the same noises every time; the arguments of :meth:`preview`."""
        conditioned, plan = self.preview(model, images, labels, calls)
        return sample(conditioned, plan, len(images), seed=SEED).cpu()
