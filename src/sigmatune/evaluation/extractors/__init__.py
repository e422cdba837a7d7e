"""Extractors by name; the value of a figure depends on the extractor more than on the metric."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from sigmatune.evaluation.extractors.base import Extractor, Subspace
from sigmatune.evaluation.extractors.efficientnet import EfficientNetLite0
from sigmatune.evaluation.extractors.inception import Inception
from sigmatune.evaluation.extractors.own_function import FunctionExtractor, imported
from sigmatune.evaluation.extractors.raw_pixels import PixelValues
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
    return FunctionExtractor(imported(source) if isinstance(source, str) else source, shape)


__all__ = ["EXTRACTORS", "Extractor", "Subspace", "extractor"]
