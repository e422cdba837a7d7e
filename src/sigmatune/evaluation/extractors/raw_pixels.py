"""The image itself, random directions of it, and its spectrum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from sigmatune.evaluation.extractors.base import Extractor, FeatureSpace
from sigmatune.noise import Array
from sigmatune.spectra.rapsd import rapsd
from sigmatune.statistics.pieces import pieces
from sigmatune.support.errors import SigmaTuneError

MOST_PIXELS = 4096

BLOCK, MOST_KEPT = 2**16, 2**19
"""Number of image values whose directions are drawn at once, and up to which they are kept for the next batch."""


class PixelValues(Extractor):
    """The values of all pixels and channels in [-1, 1], for small images."""

    name = "pixels"
    version = "1"
    normalisation = "to [-1, 1]"
    spaces: Mapping[str, FeatureSpace] = {"pixels": FeatureSpace(0, "pixels")}
    default = ("pixels", "pixels-pca64")

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device

    def features(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        if (width := int(np.prod(pictures.shape[1:]))) > MOST_PIXELS:
            raise SigmaTuneError(
                f"the extractor pixels is for images of up to {MOST_PIXELS} values, not {width}; take efficientnet-lite0."
            )
        return {"pixels": (pictures.to(self.device).float() / 127.5 - 1).flatten(1)}


class Projections(Extractor):
    """Random directions of the image in [-1, 1], for the sliced Wasserstein distance; unit vectors, fixed by a seed."""

    name = "projections"
    version = "1"
    normalisation = "to [-1, 1]"
    spaces: Mapping[str, FeatureSpace] = {"projections": FeatureSpace(128, "pixels")}
    default = ("projections",)

    def __init__(self) -> None:
        self._length, self._norm = 0, np.zeros(0)
        self._kept: list[torch.Tensor] = []

    def features(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        x = pictures.flatten(1)
        if self._length != x.shape[1]:
            self._length, self._kept = x.shape[1], []
            self._norm = np.sqrt(sum(np.square(drawn).sum(axis=0) for drawn in self._drawn()))
            if self._length <= MOST_KEPT:
                self._kept = [torch.cat(list(self._directions()))]
        first, projected = 0, torch.zeros(len(x), self.spaces["projections"].width)
        for directions in self._kept or self._directions():
            projected += (x[:, first : first + len(directions)].float() / 127.5 - 1) @ directions
            first += len(directions)
        return {"projections": projected}

    def _drawn(self) -> Iterator[Array]:
        """The rows of one random matrix, a block at a time, because it may not fit into memory."""
        rng, width = np.random.default_rng(0), self.spaces["projections"].width
        for first in range(0, self._length, BLOCK):
            yield rng.standard_normal((min(BLOCK, self._length - first), width))

    def _directions(self) -> Iterator[torch.Tensor]:
        for drawn in self._drawn():
            yield torch.from_numpy((drawn / self._norm).astype(np.float32))

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"directions": self.spaces["projections"].width, "seed": 0}


class Rings(Extractor):
    """The radially averaged power of the image in [-1, 1], one number per whole ring, mean over channels."""

    name = "rings"
    version = "1"
    normalisation = "to [-1, 1]"
    spaces: Mapping[str, FeatureSpace] = {"rings": FeatureSpace(0, "pixels")}
    default = ("rings",)

    def features(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"rings": torch.cat([rapsd(part.float() / 127.5 - 1) for part in pieces(pictures)])}
