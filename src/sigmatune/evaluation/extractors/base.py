"""Extractors map images to features, in which metrics measure distances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError, unknown_name
from sigmatune.support.pixels import Pixels, first_unsound

CHUNK = 16
"""Images per call of an extractor, padded with zeros: then the features of an image do not depend on its neighbours."""

Features = npt.NDArray[np.float32]
Kind = Literal["texture", "semantic", "logits", "pixels", "other"]


@dataclass(frozen=True)
class FeatureSpace:
    """One of the outputs of an extractor.

    Attributes:
        width: Its numbers per image, 0 where that depends on the images.
        kind: What distances in it tell.
    """

    width: int
    kind: Kind


class Extractor(ABC):
    """Maps uint8 images to features in one or more spaces.

    Raise the version whenever the same image would get other numbers.

    Attributes:
        name, version: Stated with every figure.
        resize, normalisation: The preprocessing of an image, in words; every figure states it.
        spaces: The outputs by name.
        default: The spaces that are reported by default.
    """

    name: str
    version: str
    resize: str = "none"
    normalisation: str = "none"
    spaces: Mapping[str, FeatureSpace]
    default: tuple[str, ...]

    @abstractmethod
    def features(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """The features of a chunk.

        Args:
            pictures: uint8 images, (CHUNK, C, H, W), C of 1 or 3.

        Returns:
            For every space float numbers, (CHUNK, width).
        """

    def spec(self) -> dict[str, Any]:
        """The identity of the extractor, JSON-ready."""
        return {
            "name": self.name,
            "version": self.version,
            "resize": self.resize,
            "normalisation": self.normalisation,
            "dtype": "float32",
        }

    def __call__(self, pixels: Pixels) -> dict[str, Features]:
        """The features of uint8 images, (n, H, W, C), in every space, (n, width) of float32.

        Raises:
            SigmaTuneError: if the extractor cannot take such images, or returns NaN or infinity.
        """
        features: dict[str, list[Features]] = {name: [] for name in self.spaces}
        for first in range(0, len(pixels), CHUNK):
            part = pixels[first : first + CHUNK]
            chunk = np.zeros((CHUNK, *pixels.shape[1:]), np.uint8)
            chunk[: len(part)] = part
            with torch.no_grad():
                outputs = self.features(torch.from_numpy(chunk).permute(0, 3, 1, 2))
            for name, values in features.items():
                rows = outputs[name][: len(part)].float().cpu()
                if (bad := first_unsound(rows)) is not None:
                    raise SigmaTuneError(
                        f"the extractor {self.name} returned NaN or infinity for image {first + bad} in its space {name}; "
                        "fix it, or take another extractor."
                    )
                values.append(rows.numpy())
        return {name: np.concatenate(values) for name, values in features.items()}

    def resolve(self, names: tuple[str, ...]) -> list[Subspace]:
        """The spaces with some names, or the extractor's default ones for none.

        Raises:
            SigmaTuneError: for an unknown name or a projection that is wider than its space.
        """
        return [Subspace.named(name, self) for name in names or self.default]


@dataclass(frozen=True)
class Subspace:
    """A space, or the span of its first principal components in the reference: ``head`` or ``head-pca64``.

    Attributes:
        name: As requested.
        base: The extractor's space.
        components: How many principal components, None for all of the space.
        kind: What distances in it tell.
    """

    name: str
    base: str
    components: int | None
    kind: Kind

    @classmethod
    def named(cls, name: str, extractor: Extractor) -> Subspace:
        """Reads a name; see :meth:`Extractor.resolve`."""
        base, dash, components = name.partition("-pca")
        if base not in extractor.spaces:
            raise unknown_name(f"space of {extractor.name}", name, [*extractor.spaces, *extractor.default])
        space = extractor.spaces[base]
        if not dash:
            return cls(name, base, None, space.kind)
        if not components.isdigit() or not 0 < int(components) <= (space.width or np.inf):
            raise SigmaTuneError(f"a projection is written like {base}-pca64, of at most {space.width}, not {name!r}.")
        return cls(name, base, int(components), space.kind)


def rgb(pictures: torch.Tensor, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
    """uint8 images as float32 of three channels, grey ones repeated, between two values."""
    values = pictures.float() * ((high - low) / 255) + low
    return values.expand(-1, 3, -1, -1) if values.shape[1] == 1 else values


def principal(covariance: Array, components: int) -> Array:
    """The basis of the first principal components of a covariance, (d, components)."""
    return np.ascontiguousarray(np.linalg.eigh(covariance)[1][:, ::-1][:, :components])
