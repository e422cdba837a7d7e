"""What a process makes of a recipe: the network, what it minimises, what its folder says, and how it is looked at.

The rest of a training (data, averages, checkpoints, logs, files) is the same for all. A kind of process is one file with a
:class:`Task`, and an entry in ``TASKS`` of :mod:`sigmatune.training.run`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sigmatune.denoiser import Denoiser
from sigmatune.models.conditioning import Conditioned
from sigmatune.plan import Plan, sample
from sigmatune.spectra.spectrum import Spectrum
from sigmatune.training.data import Pictures
from sigmatune.training.objective import Objective
from sigmatune.training.recipe import Recipe

SEED = 0
"""Of the noise that previews start from."""

PROBE = 64
"""Images at which a task may look while it is made, to find the size of a loss."""


@dataclass(frozen=True, eq=False)
class Material:
    """What a task is made for.

    Attributes:
        data: The training images; for a cascade, what is to be learned and what is told, in the channels of one.
        learned: The images that are learned, without what is told.
        spectrum: Of what is learned.
    """

    data: Pictures
    learned: Callable[[torch.Tensor], torch.Tensor]
    spectrum: Spectrum

    @property
    def probe(self) -> torch.Tensor:
        """Some of what is learned, (at most PROBE, C, H, W)."""
        return self.learned(self.data.at(self.data.some(PROBE)))


class Task(ABC):
    """A network and what it learns.

    Attributes:
        objective: What is minimised.
        network: The network, with fresh weights.
        scheduler: What will stand in ``scheduler/`` of the model's folder, with diffusers' ``save_pretrained``.
    """

    objective: Objective
    network: Conditioned
    scheduler: Any

    @staticmethod
    @abstractmethod
    def check(recipe: Recipe) -> None:
        """Looks at what can be told from the recipe alone, before the data are read.

        Raises:
            SigmaTuneError: in one sentence, for sections that do not fit together.
        """

    @classmethod
    @abstractmethod
    def made(cls, recipe: Recipe, material: Material) -> Task:
        """Makes everything; the caller has seeded torch for the network's weights.

        Raises:
            SigmaTuneError: for options or sizes that do not fit the data.
        """

    @abstractmethod
    def denoiser(self, network: Conditioned) -> Denoiser:
        """The network, with averaged weights, as it will be once it is saved and opened."""

    @abstractmethod
    def preview(
        self, model: Denoiser, images: torch.Tensor, labels: list[str] | None, calls: int
    ) -> tuple[Denoiser, Plan]:
        """The denoiser, told what it has to be told, and the plan that previews are made with.

        Args:
            model: Of :meth:`denoiser`.
            images: Training images, as the data has them, (n, C, H, W).
            labels: Their classes, for a network that is told them.
            calls: Network calls.

        Raises:
            SigmaTuneError: if no such plan exists.
        """

    def pictures(self, model: Denoiser, images: torch.Tensor, labels: list[str] | None, calls: int) -> torch.Tensor:
        """Samples one preview per training image, from the same noises every time; the arguments of :meth:`preview`."""
        told, plan = self.preview(model, images, labels, calls)
        return sample(told, plan, len(images), seed=SEED).cpu()
