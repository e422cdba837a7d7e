r"""Features: images as a network trained on photographs sees them, image by image.

.. math:: e_i = \operatorname{RMS} \left( f(x_i) - f(x^*_i) \right) / \sqrt{\overline{\operatorname{var} f(x^*)}}

with f one layer of an extractor (:mod:`sigmatune.evaluation.extractors`) of the decoded image in 8 bits. An error of 1 is as
large as the features' own spread. It is no filter: stages that need a linear measure or a gradient cannot minimise it, and it
costs one call of the extractor per image. Needs the extra ``eval``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.measures.base import Fitted, Measure, Shape, frozen, size_of
from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError, unknown_name
from sigmatune.support.pixels import to_pixels


@dataclass(frozen=True, eq=False)
class Features(Fitted):
    """Distances in a layer of an extractor.

    Attributes:
        spread: Root mean square over features of their standard deviation among the end points, (1,).
        decode: From samples to images.
        value_range: Black and white of the images.
    """

    name = "features"
    linear = False
    ranks: ClassVar[Mapping[str, int]] = {"spread": 1}
    spread: Array
    decode: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        size_of(self.spread, "the spread")

    @cached_property
    def _extractor(self) -> Callable[[np.typing.NDArray[np.uint8]], dict[str, np.typing.NDArray[np.float32]]]:
        from sigmatune.evaluation.extractors import EXTRACTORS

        return EXTRACTORS[str(self.options["extractor"])]()

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        images = self.decode(x.detach())
        seen = self._extractor(to_pixels(images, self.value_range))[str(self.options["space"])]
        return torch.from_numpy(seen) / size_of(self.spread, "the spread")

    def rounding(self, relative: float) -> float:
        return relative  # images that differ by less than their 8 bits are equal, and features are of unit spread

    def bound(self, model: Denoiser) -> Features:
        return replace(self, decode=model.decode, value_range=model.value_range)


def fit(
    exact: torch.Tensor,
    model: Denoiser | None,
    *,
    extractor: str = "efficientnet-lite0",
    space: str = "block10",
) -> Features:
    """Measures how far apart the end points are themselves.

    Args:
        exact: Converged end points, (n, *shape), n >= 2.
        model: Decodes them and knows their range of values; None for images in [-1, 1].
        extractor: A name in :data:`sigmatune.evaluation.extractors.EXTRACTORS`.
        space: One of its spaces, whole.

    Raises:
        SigmaTuneError: if there is no such extractor or space, the samples are no images, or all of them look the same.
    """
    _check(extractor, space)
    plain = Features(tuple(exact.shape[1:]), {"extractor": extractor, "space": space}, frozen([1.0]))
    plain = plain if model is None else plain.bound(model)
    seen = plain.apply(exact).double()
    spread = float((seen - seen.mean(dim=0)).square().mean().sqrt())
    if not spread > 0:
        raise SigmaTuneError(
            f"the {len(exact)} end points look the same to {extractor}, so that nothing says how large an error is; "
            "fit it to more of them."
        )
    return replace(plain, spread=frozen([spread]))


def _check(extractor: str, space: str) -> None:
    """Refuses extractors and spaces that there are not, and those that are not installed."""
    from sigmatune.evaluation.extractors import EXTRACTORS

    spaces = EXTRACTORS[extractor]().spaces
    if space not in spaces:
        raise unknown_name(f"space of {extractor}", space, list(spaces))


def suits(shape: Shape) -> str | None:
    """Why samples of a shape cannot be seen, None if they are images or may become some."""
    if len(shape) == 3:
        return None
    return f"samples of shape {shape} are no images (C, H, W), so no image network sees them; take the measure rms."


MEASURE = Measure(
    fit, Features, "distance in a layer of an image network; for images, with the extra eval", suits, _check
)
