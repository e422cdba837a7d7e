r"""Frechet distance, and its extrapolation to infinitely many images.

The distance of n images is biased upwards by about c / n, where c depends on the plan. So only distances of equal n are
comparable, and the extrapolation fits :math:`d^2(n) = d^2_\infty + c / n` to subsets.

References:
    | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017)
    | https://arxiv.org/abs/1706.08500
    | Effectively Unbiased FID and Inception Score and where to find them (Chong and Forsyth, 2020)
    | https://arxiv.org/abs/1911.07023
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import reduce
from operator import add

import numpy as np

from sigmatune.evaluation.extractors.base import Features
from sigmatune.evaluation.metrics.base import Metric
from sigmatune.evaluation.reference_set import Statistics
from sigmatune.noise import Array
from sigmatune.statistics.frechet import Gaussian
from sigmatune.statistics.jackknife import Estimate, folds
from sigmatune.statistics.moments import Moments
from sigmatune.support.errors import SigmaTuneError

SHARES = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
"""Parts of the images that the extrapolation uses."""


def distance(features: Features, reference: Statistics | None) -> Mapping[str, Estimate]:
    """The squared Frechet distance; warns where there are fewer images than features."""
    rows, theirs = _rows(features, reference)
    n, width = rows.shape
    if n < width:
        warnings.warn(
            f"{n} images cannot fill {width} dimensions, so this Frechet distance is mostly bias; take more, or a projection "
            "by --spaces or spaces=, such as head-pca64.",
            stacklevel=2,
        )
    if n <= width:  # their covariance would be larger than they are
        gaussians = [Gaussian.sampled(np.delete(rows, fold, axis=0)) for fold in (np.arange(0), *folds(n))]
    else:
        parts = [Moments.of(rows[fold]) for fold in folds(n)]
        total = reduce(add, parts)
        gaussians = [Gaussian.of(some) for some in (total, *(total - part for part in parts))]
    value, *left = (gaussian.distance(theirs) for gaussian in gaussians)
    return {"fd": Estimate(value, tuple(left))}


def extrapolated(features: Features, reference: Statistics | None) -> Mapping[str, Estimate]:
    """The squared Frechet distance for infinitely many images."""
    rows, theirs = _rows(features, reference)
    parts = [Moments.of(rows[fold]) for fold in folds(len(rows))]
    everything = _limit(parts, theirs)
    left = tuple(_limit(parts[:j] + parts[j + 1 :], theirs) for j in range(len(parts)))
    return {"fd-infinite": Estimate(everything, left)}


def _rows(features: Features, reference: Statistics | None) -> tuple[Array, Gaussian]:
    assert reference is not None
    if len(features) < 4:
        raise SigmaTuneError(f"a Frechet distance with an interval needs at least 4 images, not {len(features)}.")
    return reference.seen(features), reference.gaussian


def _limit(parts: list[Moments], theirs: Gaussian) -> float:
    """The intercept of the distances of the first few folds, of more, and of all, over 1 / n; averaged over rotations."""
    count = len(parts)
    sizes = sorted({max(2, round(share * count)) for share in SHARES})
    inverse, distances = [], []
    for size in sizes:
        starts = range(0, count, max(1, count // 4)) if size < count else [0]
        for start in starts:
            some = reduce(add, [parts[(start + i) % count] for i in range(size)])
            inverse.append(1 / some.n)
            distances.append(Gaussian.of(some).distance(theirs))
    slope_intercept = np.polyfit(inverse, distances, 1)
    return float(slope_intercept[1])


METRIC = Metric("Frechet distance", {"fd": "lower"}, distance, bounds={"fd": (0.0, np.inf)})
INFINITE = Metric("Frechet distance at infinite n", {"fd-infinite": "lower"}, extrapolated, default=False)
