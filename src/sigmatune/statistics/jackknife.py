r"""The jackknife: a number with its interval, by leaving out one fold of the rows at a time.

.. math:: se^2 = \frac{G - 1}{G} \sum_j (\theta_{(j)} - \bar\theta)^2, \qquad \theta \pm t_{G - 1} \, se

with :math:`\theta_{(j)}` computed without fold j of G. The interval covers other rows of the same kind: for a figure of
generated images, other seeds of the same model and plan against the same reference. For two sets of images from the same
noises, the jackknife of their difference cancels what they share.

In 2,000 simulated sets of 60 rows the 95% interval covered the truth in 95.7% for a mean and in 95.6% for the typical error
(exp of a trimmed mean). Two statistics miss that. A median is not smooth: 87%, so do not jackknife one. A difference of two
Frechet distances is almost quadratic where both are nearly 0 (0.02, of sets of 200): 98.6%, wider than it need be; at a
distance of 1.3 it is 94.9%. ``tests/test_interval_laws.py`` repeats the simulation.

Reference: The Jackknife, the Bootstrap and Other Resampling Plans (Efron, 1982), https://doi.org/10.1137/1.9781611970319
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError

Rows = npt.NDArray[np.int64]
"""Numbers of rows, (k,)."""

FOLDS = 20
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number, and its value without each fold.

    Attributes:
        value: From all rows.
        left: Without fold j, one for every fold.
        bounds: The smallest and the largest value that the number can have; its interval ends there.
    """

    value: float
    left: tuple[float, ...]
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @property
    def error(self) -> float:
        """The standard error."""
        return float(standard_error(np.array(self.left)))

    @property
    def half(self) -> float:
        """Half the width of the 95% interval."""
        return float(half_width(np.array(self.left)))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval, inside the bounds."""
        lowest, highest = self.bounds
        return max(self.value - self.half, lowest), min(self.value + self.half, highest)

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference of two figures of the same rows."""
        if len(self.left) != len(other.left):
            raise SigmaTuneError("only figures that leave out the same folds can be compared.")
        pairs = zip(self.left, other.left, strict=True)
        return Estimate(self.value - other.value, tuple(a - b for a, b in pairs))

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        low, high = self.interval
        return {
            "value": self.value,
            "low": low,
            "high": high,
            "standard_error": self.error,
            "confidence": CONFIDENCE,
            "without_fold": list(self.left),
        }


def standard_error(left: Array) -> Array:
    """The standard error of one or more numbers from their values without each fold, (G, ...) to (...)."""
    return np.asarray(np.sqrt((len(left) - 1) * np.var(left, axis=0)))


def half_width(left: Array) -> Array:
    """Half the width of the 95% interval of one or more numbers, (G, ...) to (...): t with G - 1 degrees of freedom."""
    return np.asarray(stdtrit(len(left) - 1, (1 + CONFIDENCE) / 2) * standard_error(left))


def folds(n: int) -> list[Rows]:
    """The rows of each fold, in order: at most :data:`FOLDS`, and never fewer than two rows in any of them.

    Raises:
        SigmaTuneError: for fewer than four rows, which do not fill two folds.
    """
    if n < 4:
        raise SigmaTuneError(f"a figure with an interval needs at least 4 images, not {n}.")
    return list(np.array_split(np.arange(n), min(FOLDS, n // 2)))


def jackknife(rows: int, statistic: Callable[[Rows], float | Sequence[float]]) -> list[Estimate]:
    """Estimates one or more numbers.

    Args:
        rows: How many rows there are.
        statistic: Computes them from the rows with these numbers.
    """
    everything = np.arange(rows)
    values = np.atleast_1d(statistic(everything))
    left = [np.atleast_1d(statistic(np.delete(everything, fold))) for fold in folds(rows)]
    return [Estimate(float(value), tuple(map(float, column))) for value, *column in zip(values, *left, strict=True)]
