"""The picture itself, random directions of it, and its spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sigmatune.errors import SigmaTuneError
from sigmatune.evaluation.extractors.extractor import Extractor, Space
from sigmatune.spectra.rapsd import rapsd

MOST_PIXELS = 4096


class PixelValues(Extractor):
    """The values of all pixels and channels in [-1, 1], for small pictures."""

    name = "pixels"
    version = "1"
    normalisation = "to [-1, 1]"
    spaces: Mapping[str, Space] = {"pixels": Space(0, "pixels")}
    default = ("pixels", "pixels-pca64")

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device

    def features(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        if (width := int(np.prod(pictures.shape[1:]))) > MOST_PIXELS:
            raise SigmaTuneError(
                f"the extractor pixels is for pictures of up to {MOST_PIXELS} values, not {width}; take efficientnet-lite0."
            )
        return {"pixels": (pictures.to(self.device).float() / 127.5 - 1).flatten(1)}


class Projections(Extractor):
    """Random directions of the picture in [-1, 1], for the sliced Wasserstein distance; unit vectors, fixed by a seed."""

    name = "projections"
    version = "1"
    normalisation = "to [-1, 1]"
    spaces: Mapping[str, Space] = {"projections": Space(128, "pixels")}
    default = ("projections",)

    def __init__(self) -> None:
        self._directions: torch.Tensor | None = None

    def features(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        x = (pictures.float() / 127.5 - 1).flatten(1)
        if self._directions is None or len(self._directions) != x.shape[1]:
            drawn = np.random.default_rng(0).standard_normal((x.shape[1], self.spaces["projections"].width))
            self._directions = torch.from_numpy((drawn / np.linalg.norm(drawn, axis=0)).astype(np.float32))
        return {"projections": x @ self._directions}

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"directions": self.spaces["projections"].width, "seed": 0}


class Rings(Extractor):
    """The radially averaged power of the picture in [-1, 1], one number per whole ring, mean over channels."""

    name = "rings"
    version = "1"
    normalisation = "to [-1, 1]"
    spaces: Mapping[str, Space] = {"rings": Space(0, "pixels")}
    default = ("rings",)

    def features(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"rings": rapsd(pictures.float() / 127.5 - 1)}
