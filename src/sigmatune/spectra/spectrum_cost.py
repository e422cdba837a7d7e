"""What measuring the spectrum of a data set will take, from a few of its images."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sigmatune.spectra.measured_spectra import opened
from sigmatune.spectra.spectrum import Running
from sigmatune.support import card
from sigmatune.support.durations import about

PROBE = 64
"""The first images, which are measured to tell how long all of them take."""


@dataclass(frozen=True)
class SpectrumCost:
    """What it takes.

    Attributes:
        images: How many there are.
        shape: Of one, (C, H, W).
        each: Seconds of one image, reading included.
    """

    images: int
    shape: tuple[int, ...]
    each: float

    @property
    def seconds(self) -> float:
        """Of all images, in this process."""
        return self.images * self.each

    def lines(self) -> list[str]:
        """The estimate in words."""
        shape = " x ".join(map(str, self.shape))
        return [
            f"about {about(self.seconds)} for {card.count(self.images, 'image')} of {shape}; no network evaluations"
        ]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        return {
            "images": self.images,
            "shape": list(self.shape),
            "seconds_per_image": self.each,
            "seconds": self.seconds,
        }


def spectrum_cost(source: Any, *, by_class: bool = False, **how: Any) -> SpectrumCost:
    """Measures the spectrum of a few images and scales the time; nothing is kept.

    Args:
        source, by_class, how: As for :func:`sigmatune.spectra.measured_spectra.measure`.

    Raises:
        SigmaTuneError: as it does.
    """
    images, options = opened(source, by_class=by_class, how={**how, "batch": PROBE})
    each, shape = 0.0, tuple[int, ...]()
    for _ in range(2):  # the first time imports what reads images, too
        began, sums = time.perf_counter(), Running(**options)
        batch, _labels = next(iter(images))
        sums.merge(sums.part(batch))
        each, shape = (time.perf_counter() - began) / len(batch), tuple(batch.shape[1:])
    return SpectrumCost(images.count, shape, each)
