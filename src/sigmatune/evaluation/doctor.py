"""A test of metrics: does a metric in a space order damaged images correctly?

Two disjoint halves of the data have the same distribution: their distance is the metric's floor. Then one half is
damaged with increasing strength. A metric is sound if the floor lies below the distance of every damaged half and each
kind of damage is ordered by its strength. The test also mirrors the images: the figures should hardly change for
photographs, but should for digits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.generation import pictures
from sigmatune.evaluation.record import Figure
from sigmatune.evaluation.reference_set import measure
from sigmatune.spectra.sources import open_images
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.pixels import Pixels
from sigmatune.support.progress import Progress

Spoil = Callable[[Pixels], Pixels]


def blurred(sigma: float) -> Spoil:
    """Blurs by a Gaussian of some pixels."""
    return lambda pixels: gaussian_filter(pixels, (0, sigma, sigma, 0))


def noised(sigma: float) -> Spoil:
    """Adds white noise of some grey levels of 255."""

    def spoil(pixels: Pixels) -> Pixels:
        rng, noisy = np.random.default_rng(0), np.empty_like(pixels)
        for place, picture in enumerate(pixels):  # one by one: noise takes eight times the memory of pixels
            noisy[place] = (picture + rng.standard_normal(picture.shape) * sigma).round().clip(0, 255)
        return noisy

    return spoil


def mirrored(pixels: Pixels) -> Pixels:
    """Swaps left and right."""
    return np.ascontiguousarray(pixels[:, :, ::-1])


SERIES: dict[str, dict[str, Spoil]] = {
    "noise": {f"noise {sigma:g}": noised(sigma) for sigma in (4, 10, 25)},
    "blur": {f"blur {sigma:g}": blurred(sigma) for sigma in (0.4, 0.7, 1.2)},
}
"""Kinds of damage, each from weak to strong."""

NOT_ASKED = {"precision": ("classes",), "density": ("classes",)}
"""Damage that a figure does not measure: these two measure how realistic images are, not missing classes."""

CLASSES = (0.5, 0.2)
"""Shares of the remaining classes, from many to few."""


@dataclass(frozen=True)
class Finding:
    """A metric's figure for one set of images.

    Attributes:
        what: The damage; ``"other half"`` for none.
        figure: The figure.
    """

    what: str
    figure: Figure


@dataclass(frozen=True)
class Diagnosis:
    """A metric in a space.

    Attributes:
        metric, space: Their names.
        findings: Its figures, in order.
        complaints: The kinds of damage that it orders wrongly; empty if it is sound.
    """

    metric: str
    space: str
    findings: list[Finding]
    complaints: dict[str, list[str]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        said = [{"what": one.what, **one.figure.to_dict()} for one in self.findings]
        return {"metric": self.metric, "space": self.space, "healthy": not self.complaints,
                "complaints": self.complaints, "findings": said}  # fmt: skip


def examine(
    pixels: Pixels, wanted: Wanted, *, classes: Sequence[str] | None = None, progress: Progress | None = None
) -> list[Diagnosis]:
    """Examines metrics on a data set.

    Args:
        pixels: Images in random order, uint8 (n, H, W, C); one half is the reference.
        wanted: The metrics to test.
        classes: The class of each image, to test whether missing classes are detected.
        progress: Sees the sets done.

    Raises:
        SigmaTuneError: for fewer than 40 images, or another number of classes.
    """
    half = len(pixels) // 2
    if half < 20 or (classes is not None and len(classes) != len(pixels)):
        raise SigmaTuneError(f"this test needs at least 40 images and a class for each, not {len(pixels)}.")
    known = measure(open_images(pixels[:half], layout="NHWC"), wanted.extractors, name="one half")
    other = pixels[half : 2 * half]
    sets = {"other half": other, "mirrored": mirrored(other)}
    series = {kind: list(levels) for kind, levels in SERIES.items()}
    for levels in SERIES.values():
        sets |= {name: spoil(other) for name, spoil in levels.items()}
    if classes is not None:
        few = _few(other, list(classes[half : 2 * half]))
        sets |= few
        series["classes"] = list(few)
    findings_of: dict[tuple[str, str], list[Finding]] = {}
    for done, (what, some) in enumerate(sets.items()):
        if progress is not None:
            progress("sets", done, len(sets))
        for figure in figures(pictures(open_images(some, layout="NHWC"), wanted.extractors), wanted, known):
            findings_of.setdefault((figure.name, figure.settings.space), []).append(Finding(what, figure))
    return [Diagnosis(*key, findings, _complaints(findings, series)) for key, findings in findings_of.items()]


def _few(pixels: Pixels, classes: list[str]) -> dict[str, Pixels]:
    """Draws the same number of images from a part of the classes."""
    names = sorted(set(classes))
    labels, rng = np.array(classes), np.random.default_rng(0)
    sets = {}
    for share in CLASSES:
        kept = names[: max(1, round(share * len(names)))]
        places = np.flatnonzero(np.isin(labels, kept))
        sets[f"{len(kept)} of {len(names)} classes"] = pixels[rng.choice(places, len(pixels))]
    return sets


def _complaints(findings: Sequence[Finding], series: dict[str, list[str]]) -> dict[str, list[str]]:
    sign = 1 if findings[0].figure.better == "lower" else -1
    cost = {one.what: sign * one.figure.estimate.value for one in findings}
    said: dict[str, list[str]] = {}
    for kind, names in series.items():
        if kind in NOT_ASKED.get(findings[0].figure.name, ()):
            continue
        for less, more in itertools.pairwise(["other half", *names]):
            if not cost[less] < cost[more]:
                said.setdefault(kind, []).append(f"does not find {more} worse than {less}")
    return said
