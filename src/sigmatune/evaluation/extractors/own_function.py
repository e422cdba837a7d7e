"""Any function of images as an extractor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from sigmatune.evaluation.extractors.base import CHUNK, Extractor, FeatureSpace
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.imports import imported


class FunctionExtractor(Extractor):
    """Wraps a function from uint8 images (B, C, H, W) to float features (B, d), or to several by name.

    Its name is the function's; its version is the attribute ``version`` of the function, if it has one.

    Args:
        function: The function, or a torch module.
        shape: Shape of one image, (C, H, W); it is called once to inspect its output.

    Raises:
        SigmaTuneError: if it does not return such features.
    """

    default: tuple[str, ...] = ()

    def __init__(self, function: Callable[[torch.Tensor], Any], shape: tuple[int, ...]) -> None:
        kind = function if hasattr(function, "__qualname__") else type(function)
        self.name = f"{kind.__module__}:{kind.__qualname__}"
        self.version = str(getattr(function, "version", "not stated"))
        self.resize = self.normalisation = "the function's own"
        self.function = function
        self.spaces: Mapping[str, FeatureSpace] = {}
        with torch.no_grad():
            outputs = self._called(torch.zeros(CHUNK, *shape, dtype=torch.uint8))
        for values in outputs.values():
            if not isinstance(values, torch.Tensor) or values.ndim != 2 or len(values) != CHUNK:
                raise SigmaTuneError(f"{self.name} must return float features (B, d) for B images, one row for each.")
        self.spaces = {
            name: FeatureSpace(values.shape[1], "logits" if name == "logits" else "other")
            for name, values in outputs.items()
        }
        self.default = tuple(name for name in self.spaces if name != "logits") or tuple(self.spaces)

    def features(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        return self._called(pictures)

    def _called(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = self.function(pictures)
        return dict(outputs) if isinstance(outputs, Mapping) else {"features": outputs}


def function_of(text: str) -> Callable[[torch.Tensor], Any]:
    """The function that ``module:name`` names.

    Raises:
        SigmaTuneError: if it does not exist.
    """
    function: Callable[[torch.Tensor], Any] = imported(text)
    if not callable(function):
        raise SigmaTuneError(f"{text} is not a function of images.")
    return function
