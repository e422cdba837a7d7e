r"""The guard for plans that add noise: no row has one correct image, so it compares sets of images.

Both plans sample the same (seed, index) range. The bootstrap draws blocks of rows with replacement, the same for both
plans, and centres the resampled differences on the difference itself:

.. math:: \Delta = d(x, y) - d(x', y), \qquad [\Delta + q_{.025}, \Delta + q_{.975}], \quad
          q \text{ of } \Delta^* - \overline{\Delta^*}

The centring removes a bias: resampled sets hold fewer distinct images, which enlarges every distance. There is a
gain only if the whole interval lies below zero.

Reference: Bootstrap Methods and Their Application (Davison and Hinkley, 1997), https://doi.org/10.1017/CBO9780511802843
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from sigmatune.evaluation.evaluate import Wanted
from sigmatune.evaluation.extractors.base import Features
from sigmatune.evaluation.metrics.kernel import MOST, kernel_sums
from sigmatune.evaluation.reference_set import Reference, Statistics
from sigmatune.evaluation.sample import Sample
from sigmatune.noise import Array
from sigmatune.statistics.bootstrap import CONFIDENCE, centred_interval
from sigmatune.statistics.frechet import Gaussian
from sigmatune.statistics.jackknife import Rows
from sigmatune.statistics.moments import Moments
from sigmatune.support.engine import LOCAL, Engine, Lazily, Tick
from sigmatune.support.errors import SigmaTuneError

BLOCKS, RESAMPLES = 100, 500
Distance = Literal["fd", "kid"]
DISTANCES: tuple[Distance, ...] = ("fd", "kid")


@dataclass(frozen=True)
class Difference:
    """A plan's distance to the data minus that of its baseline.

    Attributes:
        distance, space: Their names.
        value: The difference; negative where the plan is better.
        low, high: Its interval.
        plan, rival: The two distances.
        n: Images of each.
        blocks, resamples, confidence, seed: Of the bootstrap.
    """

    distance: str
    space: str
    value: float
    low: float
    high: float
    plan: float
    rival: float
    n: int
    blocks: int
    resamples: int
    confidence: float
    seed: int

    @property
    def gain(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0

    @property
    def _named(self) -> str:
        return f"{self.distance} {self.space}".rstrip()

    @property
    def verdict(self) -> str:
        """The verdict in one sentence."""
        span = f"{self.value:.3g} ({self.confidence:.0%} interval {self.low:.3g} to {self.high:.3g})"
        if self.gain:
            return f"gain: on the same {self.n} noises the plan's {self._named} differs from the baseline's by {span}."
        if self.low > 0:
            return f"no gain: the plan is worse; its {self._named} differs from the baseline's by {span}."
        return f"no gain: on the same {self.n} noises the two do not differ significantly; {self._named} differs by {span}."

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        return asdict(self) | {"gain": self.gain, "verdict": self.verdict}


def compare(
    plan: Features,
    rival: Features,
    reference: Statistics,
    distance: Distance = "fd",
    *,
    seed: int = 0,
    resamples: int | None = None,
) -> Difference:
    """Compares two sets of images with the data.

    Args:
        plan, rival: Features of the images of the same noises in the same order, (n, D).
        reference: The data's statistics in the same space.
        distance: ``"fd"`` or ``"kid"``.
        seed: Of the bootstrap.
        resamples: Of the bootstrap; ``RESAMPLES`` by default.

    Raises:
        SigmaTuneError: unless both have the same number of rows, at least four.

    Returns:
        The difference, of a space without a name.
    """
    if plan.shape != rival.shape or len(plan) < 4:
        raise SigmaTuneError(
            f"the guard compares images of the same noises, at least 4, not {len(plan)} with {len(rival)}."
        )
    make = {"fd": _frechet, "kid": _kernel}[distance]
    draws = RESAMPLES if resamples is None else resamples
    n = len(plan) if distance == "fd" else min(len(plan), MOST)
    parts = list(np.array_split(np.arange(n), min(BLOCKS, n // 2)))
    ours, theirs = (make(reference.seen(rows[:n]), parts, reference) for rows in (plan, rival))
    once = np.ones(len(parts))
    value = ours(once) - theirs(once)
    low, high = centred_interval(
        len(parts), lambda weights: ours(weights) - theirs(weights), seed=seed, resamples=draws
    )
    return Difference(
        distance,
        "",
        value,
        low,
        high,
        ours(once),
        theirs(once),
        n,
        len(parts),
        draws,
        CONFIDENCE,
        seed,
    )


def compare_all(
    sample: Sample, rival: Sample, wanted: Wanted, reference: Reference, *, seed: int = 0, engine: Engine = LOCAL
) -> list[Difference]:
    """Compares two sets of images with the data by every distance and in every space that is wanted.

    Args:
        sample, rival: The features of both.
        wanted: Its Frechet and kernel distances, and their spaces.
        reference: The data.
        seed: Of the bootstraps.
        engine: Where the bootstraps run, each a piece.
    """
    metrics = [(name, wanted.metrics[name]) for name in DISTANCES if name in wanted.metrics]
    places = [(distance, *place) for distance, metric in metrics for place in wanted.places(metric)]

    def piece(i: int) -> tuple[Features, Features, Statistics, Distance, str, int, int]:
        distance, name, space = places[i]
        ours, theirs = sample.rows(name, space.base), rival.rows(name, space.base)
        return ours, theirs, reference.space(name, space), distance, space.name, seed, RESAMPLES

    return list(engine.run(_difference, [], Lazily(len(places), piece)))


def _difference(piece: tuple[Features, Features, Statistics, Distance, str, int, int], tick: Tick) -> Difference:
    ours, theirs, known, distance, space, seed, resamples = piece
    difference = compare(ours, theirs, known, distance, seed=seed, resamples=resamples)
    tick(1)
    return replace(difference, space=space)


def _frechet(rows: Array, parts: list[Rows], reference: Statistics) -> Callable[[Array], float]:
    rows = rows - reference.moments.mean  # near zero, so that sums of squares keep their digits
    sizes = np.array([len(part) for part in parts], dtype=np.float64)
    sums = np.array([rows[part].sum(axis=0) for part in parts])
    squares = np.array([(rows[part].T @ rows[part]).ravel() for part in parts])
    theirs = Gaussian(np.zeros_like(reference.gaussian.mean), reference.gaussian.root)

    def distance(weights: Array) -> float:
        n = float(weights @ sizes)
        mean = weights @ sums / n
        scatter = (weights @ squares).reshape(len(mean), -1) - n * np.outer(mean, mean)
        return Gaussian.of(Moments(int(n), mean, scatter)).distance(theirs)

    return distance


def _kernel(rows: Array, parts: list[Rows], reference: Statistics) -> Callable[[Array], float]:
    sums = kernel_sums(rows, reference.rows.astype(np.float64), parts)
    return sums.distance
