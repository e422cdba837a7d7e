"""The usual task: a network of images alone, in a process with a noise path (``edm``, ``vp``, ``flow``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.models.conditional import ConditionalDenoiser
from sigmatune.models.conditioning import Conditioned
from sigmatune.plan import Plan
from sigmatune.training import previews
from sigmatune.training.export import denoiser_of
from sigmatune.training.laws import LAWS, Domain, Law
from sigmatune.training.networks import build, process_of, scheduler_of
from sigmatune.training.objective import Denoising, scale_of
from sigmatune.training.recipe import Recipe
from sigmatune.training.training_task import Material, TrainingTask
from sigmatune.training.weights import WEIGHTS, DataFacts


@dataclass(frozen=True, eq=False)
class Position(TrainingTask):
    """Denoises images at the levels of a noise law.

    Attributes:
        law: The noise law.
        objective, network, scheduler: As for every task.
    """

    law: Law
    objective: Denoising
    network: Conditioned
    scheduler: Any

    @staticmethod
    def check(recipe: Recipe) -> None:
        LAWS[recipe.noise.law], WEIGHTS[recipe.loss.weight]

    @classmethod
    def of(cls, recipe: Recipe, material: Material) -> Position:
        spectrum, probe = material.spectrum, material.probe
        shape = tuple(probe.shape[1:])
        scheduler = scheduler_of(recipe.process, spectrum.deviation or 0.5)
        process = process_of(scheduler)
        law = LAWS[recipe.noise.law].with_options(Domain(process.path, shape, spectrum), recipe.noise.options)
        about = DataFacts(recipe.process.sigma_data or spectrum.deviation or 0.5, spectrum)
        weight = WEIGHTS[recipe.loss.weight].with_options(about, recipe.loss.options)
        classes = material.data.classes if recipe.model.classes else ()
        ends = law.ends(probe)
        network = build(
            recipe.model, shape, classes=classes, images=probe.shape[1] if recipe.data.low else 0,
            default_ends=(float(np.exp(np.log(ends[:, 0]).mean())), float(np.exp(np.log(ends[:, 1]).mean()))),
            curve=law.curve,
        )  # fmt: skip
        objective = Denoising(
            process.path, process.prediction, law, weight, density=recipe.loss.density, drop=recipe.model.drop,
            classes=len(classes), told_ends=recipe.model.ends, told_images=recipe.data.low is not None,
            scale=scale_of(law, weight, probe, about.sigma_data, density=recipe.loss.density),
        )  # fmt: skip
        return cls(law, objective, network, scheduler)

    def denoiser(self, network: Conditioned) -> Denoiser:
        return denoiser_of(network, self.scheduler)

    def preview(
        self, model: Denoiser, images: torch.Tensor, labels: list[str] | None, calls: int
    ) -> tuple[Denoiser, Plan]:
        """With the classes and curves of the training images; a cascade's second stage is conditioned on these images."""
        images, condition = self.objective.split(images)
        if condition is not None and isinstance(model, ConditionalDenoiser):
            model = model.given(images=condition)
        return previews.planned(model, self.law, images, labels, calls)

    def pictures(self, model: Denoiser, images: torch.Tensor, labels: list[str] | None, calls: int) -> torch.Tensor:
        """For a cascade's second stage, its residuals added to the enlarged images."""
        residuals, condition = super().pictures(model, images, labels, calls), self.objective.split(images)[1]
        return residuals if condition is None else condition + residuals
