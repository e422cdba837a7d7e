r"""Root mean square: the samples as they are.

.. math:: e_i = \lVert x_i - x^*_i \rVert_2 / \sqrt d

Every mode counts by its size, so that of images the coarsest few decide, and what an image loses in fine detail hardly shows.
It is the measure of data without a grid, where there are no modes to tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.measures.base import Fitted, Measure, frozen, size_of
from sigmatune.noise import Array
from sigmatune.statistics.pieces import pieces


@dataclass(frozen=True, eq=False)
class RootMeanSquare(Fitted):
    """The identity.

    Attributes:
        power: The mean square of the samples it was fitted to, (1,).
    """

    name = "rms"
    linear = True
    ranks: ClassVar[Mapping[str, int]] = {"power": 1}
    power: Array

    def __post_init__(self) -> None:
        size_of(self.power, "the power")

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def rounding(self, relative: float) -> float:
        return relative * math.sqrt(size_of(self.power, "the power"))


def fit(exact: torch.Tensor, _: Denoiser | None) -> RootMeanSquare:
    """Notes how large the samples are, (n, *shape); there is nothing else to fit."""
    power = sum(float(part.double().square().mean()) * (len(part) / len(exact)) for part in pieces(exact))
    return RootMeanSquare(tuple(exact.shape[1:]), {}, frozen([power]))


MEASURE = Measure(fit, RootMeanSquare, "root mean square of the samples as they are; for data without a grid")
