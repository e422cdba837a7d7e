"""The spectrum of a data set and of each of its classes, in one pass over it."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.spectra.images import Images
from sigmatune.spectra.sources import open_images
from sigmatune.spectra.spectrum import Running, Spectrum, parts_of
from sigmatune.support.engine import LOCAL, Engine
from sigmatune.support.errors import SigmaTuneError, unknown_name
from sigmatune.support.options import known_options
from sigmatune.support.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured.

    Attributes:
        all: The spectrum of all images.
        classes: The spectrum of each class, by label; empty unless requested.
        about: What was read and how (:meth:`sigmatune.spectra.images.Images.about`).
    """

    all: Spectrum
    classes: dict[str, Spectrum] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def measure(
    source: str | Path | torch.Tensor | npt.NDArray[Any],
    *,
    by_class: bool = False,
    progress: Progress | None = None,
    engine: Engine = LOCAL,
    **how: Any,
) -> Measured:
    """Measures spectra; memory is one batch, and the mean image of each class.

    >>> measure(np.full((2, 8, 8), 255, dtype=np.uint8)).all.power.tolist()
    [64.0, 0.0, 0.0, 0.0, 0.0]

    Args:
        source: As for :func:`sigmatune.spectra.sources.open_images`.
        by_class: Measure every class as well.
        progress: Called as progress("spectrum", images done, images in total) after every batch.
        engine: Where the power of the batches is taken; the images are read here, and the spectrum has the same bits.
        how: Options of ``open_images`` (value_range, values, size, layout, key, batch) and of
            :class:`sigmatune.spectra.Running` (corners, window, transform, per_channel).

    Raises:
        SigmaTuneError: for an option that neither has, for classes of images without labels, and as both do.
    """
    images, options = opened(source, by_class=by_class, how=how)
    logger.info("measuring the spectrum of %d images of %s", images.count, images.name)
    sums, labels = defaultdict[str | None, Running](lambda: Running(**options)), deque[list[str | None]]()

    def batches() -> Iterator[list[torch.Tensor]]:
        for batch, said in images:
            where = np.array(said if by_class else [])
            present = [str(label) for label in np.unique(where)] if by_class else []
            labels.append([None, *present])
            yield [batch, *(batch[torch.from_numpy(where == label)] for label in present)]

    for parts in parts_of(batches(), engine, options):
        for label, part in zip(labels.popleft(), parts, strict=True):
            sums[label].merge(part)
        if progress is not None:
            progress("spectrum", sums[None].images, images.count)
    spectra = {label: sums[label].spectrum() for label in images.classes if by_class}
    return Measured(sums[None].spectrum(), spectra, images.about())


def opened(source: Any, *, by_class: bool, how: Mapping[str, Any]) -> tuple[Images, dict[str, Any]]:
    """The images, and the options of :class:`sigmatune.spectra.Running`.

    Args:
        source, by_class, how: As for :func:`measure`.

    Raises:
        SigmaTuneError: as it does, before the spectrum of any image is measured.
    """
    reading, measuring = known_options(open_images), known_options(Running)
    for name in how:
        if name not in reading and name not in measuring:
            raise unknown_name("option of a spectrum", name, [*reading, *measuring])
    options = {name: value for name, value in how.items() if name in measuring}
    Running(**options)  # refuses wrong ones before an image is read
    images = open_images(source, **{name: value for name, value in how.items() if name in reading})
    if by_class and not images.labels:
        raise SigmaTuneError(
            f"{images.name} has no class labels; sort the images into one subfolder per class, "
            "or add an array 'labels' to the .npz file."
        )
    return images, options
