r"""Images decide: if no row has one correct image, sets of images are compared with data.

Two disjoint ranges of noise: **validation** (seed), on which candidates and defaults are ranked by the mean log Frechet
distance over the extractor's spaces, and **held out** (seed + 1), used once, on which a bootstrap of pairs compares two of them
(:mod:`sigmatune.evaluation.stochastic_guard`). There is a gain only if the interval lies below zero in one space and above zero
in none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sigmatune.core import soundness
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import whole
from sigmatune.evaluation.evaluate import Wanted, check
from sigmatune.evaluation.extractors import Extractor
from sigmatune.evaluation.generation import digest, evaluations, generate
from sigmatune.evaluation.reference_set import Reference
from sigmatune.evaluation.sample import Sample
from sigmatune.evaluation.stochastic_guard import Difference, compare_all
from sigmatune.plan import Plan
from sigmatune.statistics.frechet import Gaussian
from sigmatune.statistics.moments import Moments
from sigmatune.support.engine import LOCAL, Engine
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Parts, Progress

LEAST = 64
"""Fewest images for a comparison."""


def check_enough(n: int) -> None:
    """Refuses a number of images that is too small for a comparison.

    Raises:
        SigmaTuneError: below :data:`LEAST`.
    """
    if whole(n, "the number of images") < LEAST:
        raise SigmaTuneError(f"sets of fewer than {LEAST} images cannot be compared; use 1000 or more.")


@dataclass(frozen=True)
class ReferenceData:
    """The data to compare images with.

    Attributes:
        reference: The data's statistics.
        extractor: The extractor of features; distances are measured in its default spaces.
        n: Images of each held-out set; a quarter of it, at least 64, of each validation set.
        seed: Of the validation noise; the held-out noise has the next one.
        folder: Keeps features, so that a stopped run resumes where it was.
        engine: Where images are sampled and their features taken, and where fine-tuning tunes and tabulates.
    """

    reference: Reference
    extractor: Extractor
    n: int = 1000
    seed: int = 0
    folder: Path | None = None
    engine: Engine = LOCAL


@dataclass(frozen=True)
class ImageVerdict:
    """The comparison of a candidate with a baseline on the held-out images.

    Attributes:
        differences: The candidate's distance minus the baseline's, one for each space.
    """

    differences: Sequence[Difference]

    @property
    def gain(self) -> bool:
        """Significantly better in one space, and significantly worse in none."""
        return any(d.gain for d in self.differences) and not any(d.low > 0 for d in self.differences)

    @property
    def spans(self) -> str:
        """The distances and their differences, for people."""
        return "; ".join(
            f"{d.space} {d.plan:.3g} against {d.rival:.3g}, differs by {d.value:.3g} "
            f"({d.confidence:.0%} interval {d.low:.3g} to {d.high:.3g})"
            for d in self.differences
        )

    @property
    def n(self) -> int:
        """Images of each."""
        return self.differences[0].n


class Judge:
    """Draws images and compares them.

    Args:
        data: The data to compare with.
        shape: Of one image.
        progress: Sees the images done.

    Attributes:
        spent: Network evaluations of single images so far, padding included; including results found in the folder, each once.

    Raises:
        SigmaTuneError: if there are fewer than 64 images, or the data do not fit the model.
    """

    def __init__(self, data: ReferenceData, shape: tuple[int, ...], progress: Progress | None = None) -> None:
        check_enough(data.n)
        self.data, self.progress, self.wanted, self.spent = data, progress, Wanted.of(["fd"], data.extractor), 0
        self._checked: set[str] = set()
        self._drawn: set[str] = set()
        self._parts: Parts | None = None
        self.few = max(data.n // 4, LEAST)
        check(self.wanted, data.reference, tuple(shape))

    def expect(self, images: Sequence[int]) -> None:
        """States how many images are going to be drawn, set by set, so that the progress is that of all of them."""
        self._parts = Parts(self.progress, images)

    def watch(self, progress: Progress) -> None:
        """Reports the sets that are drawn from now on to another progress, none of which runs backwards."""
        self.progress, self._parts = progress, None

    def check(self, model: Denoiser) -> None:
        """Refuses a model whose images would depend on more than their noise; see :mod:`sigmatune.core.soundness`."""
        price, name = soundness.check(model), model.fingerprint()
        self.spent += 0 if name in self._checked else price
        self._checked.add(name)

    def score(self, model: Denoiser, plan: Plan) -> float:
        """Mean over the spaces of the log Frechet distance on the validation noises."""
        sample, logs = self._sample(model, plan, self.few, self.data.seed), []
        for name, space in self._places:
            known = self.data.reference.space(name, space)
            rows = known.seen(sample.rows(name, space.base))
            logs.append(np.log(max(Gaussian.of(Moments.of(rows)).distance(known.gaussian), 1e-12)))
        return float(np.mean(logs))

    def verdict(self, ours: tuple[Denoiser, Plan], rival: tuple[Denoiser, Plan]) -> ImageVerdict:
        """Compares a candidate with a baseline on the held-out noises."""
        mine, theirs = (self._sample(*one, self.data.n, self.data.seed + 1) for one in (ours, rival))
        about, seed, engine = self.data.reference, self.data.seed, self.data.engine
        return ImageVerdict(compare_all(mine, theirs, self.wanted, about, seed=seed, engine=engine))

    def about(self) -> dict[str, Any]:
        """The settings of the comparison, JSON-ready."""
        return {
            "rows": {"validation": [self.data.seed, 0, self.few], "held_out": [self.data.seed + 1, 0, self.data.n]},
            "reference": self.data.reference.spec(),
            "extractor": self.data.extractor.spec(),
        }

    def _sample(self, model: Denoiser, plan: Plan, n: int, seed: int) -> Sample:
        self.check(model)
        self._pay(model, plan, n, seed)
        return generate(
            model,
            plan,
            n,
            self.wanted.extractors,
            seed=seed,
            folder=self.data.folder,
            keep=False,
            engine=self.data.engine,
            progress=self.progress if self._parts is None or self._parts.over else self._parts.take(),
        )

    def _pay(self, model: Denoiser, plan: Plan, n: int, seed: int) -> None:
        """Counts a set of images; one that the folder keeps is sampled once, however often it is compared."""
        name = f"{n} images of seed {seed}: {digest(model, plan, seed, self.data.folder)}"
        if self.data.folder is None or name not in self._drawn:
            self.spent += evaluations(model, plan, n)
            self._drawn.add(name)

    @property
    def _places(self) -> list[tuple[str, Any]]:
        return self.wanted.places(self.wanted.metrics["fd"])
