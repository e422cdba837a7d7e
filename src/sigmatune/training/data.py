r"""Training data in memory: images as 8-bit pixels, anything else as floating point.

They come from any source that :func:`sigmatune.spectra.sources.open_images` reads: folders, ``.npz``, ``.npy``,
tensors, data sets of the hub. Images keep their stored bits; resized images are rounded to 8 bits, like any saved
image. The batch of a step is a function of the step alone (:mod:`sigmatune.training.draws`): every epoch uses every
image once, in its own order, and mirroring depends on the image's place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.spectra import npz
from sigmatune.spectra.images import Images
from sigmatune.spectra.sources import open_images
from sigmatune.spectra.spectrum import Running, Spectrum
from sigmatune.spectra.subset import draw
from sigmatune.spectra.values import Values
from sigmatune.support import reading
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Progress
from sigmatune.training import draws

logger = logging.getLogger(__name__)


GRID = 1e-4
"""How far a value may lie from the grid of 8-bit pixels, in grid steps, and still count as a pixel."""


@dataclass(frozen=True)
class Batch:
    """The batch of a step.

    Attributes:
        images: Clean images, float32, (B, C, H, W).
        labels: Class indices, (B,); -1 for images without a class.
        indices: Their indices in the data.
        rows: Their places in the global batch.
        step: The step, from 0.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    rows: Sequence[int]
    step: int


class Pictures:
    """Images in memory, with labels.

    Args:
        values: uint8 or float32, (n, C, H, W).
        labels: Class index of each, (n,); None without classes.
        classes: Names of the classes.
        name: For messages.
        about: What was read and how (:meth:`sigmatune.spectra.images.Images.about`), for records.

    Raises:
        SigmaTuneError: if there is no image, or the labels do not fit.
    """

    def __init__(
        self,
        values: torch.Tensor,
        labels: torch.Tensor | None = None,
        classes: Sequence[str] = (),
        name: str = "data",
        about: Mapping[str, Any] | None = None,
    ) -> None:
        if values.ndim != 4 or not len(values):
            raise SigmaTuneError(f"{name} holds no image; training needs at least one.")
        if labels is not None and len(labels) != len(values):
            raise SigmaTuneError(f"{name} has {len(values)} images but {len(labels)} labels; give one for each.")
        self.values, self.classes, self.name, self.about = values, tuple(classes), name, dict(about or {})
        self.labels = torch.full((len(values),), -1) if labels is None else labels.long()
        self._order: tuple[tuple[int, int], npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W)."""
        return tuple(self.values.shape[1:])

    def some(self, n: int) -> torch.Tensor:
        """Indices of at most n images, rising, each class in proportion; the same every time."""
        labels = self.labels.tolist() if self.classes else None
        return torch.from_numpy(draw(min(n, len(self)), len(self), labels))

    def at(self, indices: torch.Tensor | slice) -> torch.Tensor:
        """Some images as float32, those of 8 bits in [-1, 1]."""
        values = self.values[indices]
        return values.float().div_(127.5).sub_(1) if values.dtype == torch.uint8 else values.clone()

    def batch(self, seed: int, step: int, rows: Sequence[int], size: int, *, flip: bool = False) -> Batch:
        """The images at some places of the global batch of a step.

        Args:
            seed, step: Of the training.
            rows: Places in the global batch.
            size: Size of the global batch.
            flip: Mirror images at random, with probability 1/2.
        """
        count = len(self.values)
        places = [step * size + row for row in rows]
        indices = torch.tensor([self._permuted(seed, place // count)[place % count] for place in places])
        images = self.at(indices)
        if flip:
            mirrored = torch.from_numpy(draws.uniforms(seed, step, rows, 3)[:, 2] < 0.5)
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        return Batch(images, self.labels[indices], indices, list(rows), step)

    def spectrum(
        self, progress: Progress | None = None, learned: Callable[[torch.Tensor], torch.Tensor] = lambda images: images
    ) -> Spectrum:
        """The spectrum of all images, or of their residuals."""
        running = Running()
        for first in range(0, len(self), 1024):
            running.add(learned(self.at(slice(first, first + 1024))))
            if progress is not None:
                progress("spectrum", min(first + 1024, len(self)), len(self))
        return running.spectrum()

    def _permuted(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        # A batch may span two epochs; the last one requested is kept.
        if self._order is None or self._order[0] != (seed, epoch):
            self._order = ((seed, epoch), draws.order(seed, epoch, len(self.values)))
        return self._order[1]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How training images are read.

    Attributes:
        size, key: As for :func:`sigmatune.spectra.sources.open_images`.
        labels: A file of class labels, ``.npy``, ``.json`` or ``.txt``, one for each image in the order of the source;
            by default the source's own, if any.
        bits: 8 for images, 32 for floating point such as latents.
        values: The stored range, as for ``open_images``; with 32 bits floating point is unchanged by default.
        most: Draw this many images, each class in proportion.
        seed: Of that draw.
    """

    size: int | None = None
    key: str | None = None
    labels: str | Path | None = None
    bits: int = 8
    values: Values = "auto"
    most: int | None = None
    seed: int = 0

    def images(self, source: Any) -> Images:
        """The chosen images of a source, not yet read."""
        as_is = self.bits == 32 and self.values == "auto"
        images = open_images(source, size=self.size, key=self.key, values="as-is" if as_is else self.values)
        if self.labels is not None:
            images = images.labelled(read_labels(self.labels, images.count))
        return images.drawn(self.most, self.seed) if self.most is not None and self.most < images.count else images


def load(source: Any, how: Reading | None = None, *, progress: Progress | None = None) -> Pictures:
    """Reads training images into memory.

    Args:
        source: As for :func:`sigmatune.spectra.sources.open_images`.
        how: Which images, and how they are stored.
        progress: Sees the images read.

    Raises:
        SigmaTuneError: for no image, images of several sizes, values that are not images, or labels that do not fit.
    """
    how = how or Reading()
    images = how.images(source)
    logger.info("reading %d images of %s", images.count, images.name)
    parts: list[torch.Tensor] = []
    named: list[str] = []
    done = 0
    for batch, names in images:
        if not parts:  # all of them, and a copy while they are joined
            needed = 2 * images.count * batch[0].numel() * (4 if how.bits == 32 else 1)
            reading.fits(
                needed, f"{images.name}, {images.count:,} images in memory,", "take fewer, or smaller ones with a size"
            )
        parts.append(_stored(batch, images.name, how.bits, resized=how.size is not None))
        named.extend(names or ())
        done += len(batch)
        if progress is not None:
            progress("images", done, images.count)
    if not images.labels:
        return Pictures(torch.cat(parts), name=images.name, about=images.about())
    classes = sorted(set(named), key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    place = {name: i for i, name in enumerate(classes)}
    where = torch.tensor([place[name] for name in named])
    return Pictures(torch.cat(parts), where, classes, images.name, images.about())


def read_labels(file: str | Path, count: int) -> list[str]:
    """Reads one class label per image.

    Raises:
        SigmaTuneError: if the file cannot be read, is of another kind, or holds another number of labels.
    """
    path = Path(file)
    if path.suffix.lower() == ".npy":
        labels = _listed(npz.small(path, most=reading.WORDS), path)
    elif path.suffix.lower() == ".json":
        labels = _listed(reading.json_of(path, kind="labels", most=reading.WORDS), path)
    elif path.suffix.lower() == ".txt":
        labels = reading.text_of(path, kind="labels", most=reading.WORDS).split("\n")
        labels = labels[:-1] if labels and not labels[-1] else labels
    else:
        raise SigmaTuneError(f"labels are read from .npy, .json or .txt, not from {path}.")
    if len(labels) != count:
        raise SigmaTuneError(f"{path} holds {len(labels)} labels but there are {count} images; give one for each.")
    return labels


def _listed(raw: Any, path: Path) -> list[str]:
    """Labels out of an array or a list, one whole number or text each."""
    values = raw.tolist() if isinstance(raw, np.ndarray) else raw
    if not isinstance(values, list) or not all(isinstance(label, int | str) for label in values):
        raise SigmaTuneError(f"the labels {path} must be one list of whole numbers or texts; write them so.")
    return [str(label) for label in values]


def _stored(values: torch.Tensor, name: str, bits: int, *, resized: bool) -> torch.Tensor:
    if bits == 32:
        return values.clone()
    if bits != 8:
        raise SigmaTuneError(f"bits must be 8 (images) or 32 (floating point), not {bits!r}.")
    steps = (values + 1) * 127.5
    pixels = steps.round().clamp(0, 255)
    if not resized and float((steps - pixels).abs().max()) > GRID * 127.5:
        raise SigmaTuneError(
            f"{name} holds floating-point values between the steps of 8-bit images; set bits to 32, or save them as uint8."
        )
    return pixels.to(torch.uint8)
