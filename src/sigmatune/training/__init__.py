"""Training: one trainer, noise laws and loss weights by name, recipes, and models as diffusers folders."""

from __future__ import annotations

from sigmatune.training.laws import LAWS
from sigmatune.training.objective import Denoising, Objective
from sigmatune.training.recipe import Recipe
from sigmatune.training.run import prepare, train
from sigmatune.training.trainer import Trainer
from sigmatune.training.weights import WEIGHTS

__all__ = ["LAWS", "WEIGHTS", "Denoising", "Objective", "Recipe", "Trainer", "prepare", "train"]
