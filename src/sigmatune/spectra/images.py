"""Images as everything here reads them: batches in one shape and one range of values, with labels, and a record of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.core.schedule import whole
from sigmatune.spectra.listing import left_out_text
from sigmatune.spectra.subset import Indices, draw
from sigmatune.spectra.values import Scale, Values, far
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.pixels import first_unsound

Numbers = npt.NDArray[Any]
Batches = Callable[[Indices | None], Iterator[torch.Tensor]]
"""Reads the images with some indices, rising, or all of them."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one shape; every iteration reads from the start and yields (float32 (B, C, H, W), labels or None).

    Attributes:
        name: Where they come from, for messages.
        count: How many there are.
        classes: The class labels, sorted; none if the images have no labels.
        left_out: How many files of a folder were left out, by reason.
        empty: First-level subfolders of a folder in which there is no image.
    """

    name: str
    count: int
    classes: tuple[str, ...]
    _labels: list[str] | None
    _batches: Batches
    _scale: Scale
    left_out: Mapping[str, int] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    _about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> bool:
        """Whether the images have class labels."""
        return self._labels is not None

    @property
    def pictures(self) -> bool:
        """Whether the images are scaled to the value range; False for data that is taken as it is."""
        return self._scale.values != "as-is"

    def __iter__(self) -> Iterator[tuple[torch.Tensor, list[str] | None]]:
        done = 0
        for images in self._batches(None):
            yield images, None if self._labels is None else self._labels[done : done + len(images)]
            done += len(images)

    def labelled(self, labels: list[str]) -> Images:
        """The same images with other labels, one for each.

        Raises:
            SigmaTuneError: for another number of labels.
        """
        if len(labels) != self.count:
            raise SigmaTuneError(f"{self.name} holds {self.count} images, not {len(labels)}; give one label for each.")
        return replace(self, _labels=labels, classes=tuple(sorted(set(labels))))

    def some(self, n: int, seed: int = 0) -> Indices:
        """Indices of at most n of the images, drawn by a seed, rising; of each class as many as its share."""
        return draw(min(n, self.count), self.count, self._labels, seed)

    def drawn(self, n: int, seed: int = 0) -> Images:
        """Some of the images, drawn by a seed, in their order; of each class as many as its share.

        Raises:
            SigmaTuneError: if there are fewer than n.
        """
        if whole(n, "n") > self.count:
            raise SigmaTuneError(f"{self.name} holds {self.count} images, fewer than the {n} requested.")
        chosen, batches = self.some(n, seed), self._batches
        labels = None if self._labels is None else [self._labels[i] for i in chosen]
        about = {"n": n, "of": self.count, "seed": seed, "by_class": labels is not None}
        return replace(
            self, count=n, classes=tuple(sorted(set(labels or ()))), _labels=labels, _about={**self._about, "drawn": about},
            _batches=lambda some: batches(chosen if some is None else chosen[some]),
        )  # fmt: skip

    def about(self) -> dict[str, Any]:
        """What was read and how, JSON-ready; complete once the images were read."""
        known = {"name": self.name, "images": self.count, "values": self._scale.used, "left_out": dict(self.left_out)}
        return {**known, **({"empty_folders": list(self.empty)} if self.empty else {}), **self._about}


def left_out_told(about: Mapping[str, Any]) -> str:
    """What a record of :meth:`Images.about` says of what was left out, in words; empty if nothing was."""
    parts = [left_out_text(about.get("left_out", {}))]
    if empty := about.get("empty_folders"):
        parts.append(f"{len(empty)} folder(s) without an image, such as {empty[0]}")
    said = "; ".join(part for part in parts if part)
    return f"{about['images']:,} images of {about['name']}; {said}" if said else ""


@dataclass(frozen=True)
class ImageFormat:
    """What images are brought to.

    Attributes:
        low, high: What black and white become.
        size: Pixels of a side; None for as it is.
        values: What is said of the stored numbers.
    """

    low: float
    high: float
    size: int | None
    values: Values = "auto"

    def __call__(self, images: Numbers, names: Callable[[int], str], scale: Scale) -> torch.Tensor:
        """Converts images (B, C, H, W) to float32, scales, crops and resizes them; names(i) is for messages."""
        values, ends = sound(images, names), scale.of(images.dtype)
        if ends is not None:
            if scale.values != "auto" and (beyond := far(float(values.min()), float(values.max()), ends)) is not None:
                place = f"{names(0)} or one after it holds {beyond:.4g}"
                raise SigmaTuneError(f"{place}, far outside the stated range {scale.values}; pass another.")
            if ends != (self.low, self.high):
                if ends[0]:
                    values.sub_(ends[0])
                values.div_(ends[1] - ends[0]).mul_(self.high - self.low).add_(self.low)
        if self.size is None:
            return values
        height, width = values.shape[-2:]
        side = min(height, width)
        top_row, left = (height - side) // 2, (width - side) // 2
        square = values[..., top_row : top_row + side, left : left + side]
        if side == self.size:
            return square.contiguous()
        return torch.nn.functional.interpolate(square, (self.size, self.size), mode="bicubic", antialias=True)


def sound(images: Numbers, names: Callable[[int], str]) -> torch.Tensor:
    """Numbers of any kind as float32, all of them finite."""
    with np.errstate(over="ignore"):
        values = torch.from_numpy(images.astype(np.float32, order="C"))
    if images.dtype.kind == "f" and (bad := first_unsound(values)) is not None:
        raise SigmaTuneError(f"{names(bad)} holds NaN or an infinite value; leave it out or fix it.")
    return values
