"""Extractors by name; the value of a figure depends on the extractor more than on the metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from sigmatune.evaluation.extractors.base import Extractor, Subspace
from sigmatune.evaluation.extractors.efficientnet import EfficientNetLite0
from sigmatune.evaluation.extractors.inception import Inception
from sigmatune.evaluation.extractors.own_function import FunctionExtractor, function_of
from sigmatune.evaluation.extractors.raw_pixels import PixelValues, Projections, Rings
from sigmatune.models.network import pick_device
from sigmatune.support.engine import Held, Loader
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.registry import Registry

EXTRACTORS: Registry[Callable[..., Extractor]] = Registry(
    "extractor",
    {
        "efficientnet-lite0": EfficientNetLite0,
        "efficientnet-lite0-224": partial(EfficientNetLite0, 224),
        "inception": Inception,
        "pixels": PixelValues,
    },
)
"""Builders of the extractors; ``device`` says where they run."""


def extractor(
    source: str | Extractor | Callable[[torch.Tensor], Any],
    shape: tuple[int, ...],
    *,
    device: torch.device | str = "cpu",
) -> Extractor:
    """Makes an extractor.

    Args:
        source: A name in :data:`EXTRACTORS`, ``module:function``, a function of uint8 images, or an extractor.
        shape: Shape of one image, (C, H, W).
        device: Where a network runs.

    Raises:
        SigmaTuneError: for an unknown name, or an extractor whose requirements are missing.
    """
    if isinstance(source, Extractor):
        return source
    if isinstance(source, str) and ":" not in source:
        return EXTRACTORS[source](device=device)
    return FunctionExtractor(function_of(source) if isinstance(source, str) else source, shape)


OF_PIXELS: dict[str, Callable[[], Extractor]] = {"projections": Projections, "rings": Rings}
"""Extractors that only metrics ask for."""


def held(extractors: Sequence[Extractor], shape: tuple[int, ...], device: str) -> Held:
    """Extractors as what the pieces of a job need; elsewhere they are made again by their names.

    Args:
        extractors: The extractors.
        shape: Shape of one image, (C, H, W).
        device: Where those of another process run.
    """
    specs = [extractor.spec() for extractor in extractors]
    name = f"extractors {specs} {shape} {device}"
    loader = Loader(name, made_again, (specs, shape, device), accelerated=device != "cpu")
    return Held(list(extractors), lambda: loader)


def made_again(specs: Sequence[dict[str, Any]], shape: tuple[int, ...], device: str) -> list[Extractor]:
    """The extractors of some specs in another process.

    Raises:
        SigmaTuneError: if one cannot be made there, or is another one there.
    """
    again: list[Extractor] = []
    for spec in specs:
        name = spec["name"]
        again.append(OF_PIXELS[name]() if name in OF_PIXELS else extractor(name, shape, device=pick_device(device)))
        if again[-1].spec() != spec:
            raise SigmaTuneError(
                f"the extractor {name} is another one there than here; install the same versions, or pass module:function."
            )
    return again


__all__ = ["EXTRACTORS", "Extractor", "Subspace", "extractor", "held"]
