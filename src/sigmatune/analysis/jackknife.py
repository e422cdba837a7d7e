r"""Intervals for any statistic of a stepwise analysis, by leaving out one fold of samples at a time.

.. math:: se^2 = \frac{G - 1}{G} \sum_j (\theta_{(j)} - \bar\theta)^2, \qquad
          \theta \pm t_{G - 1} \, se

with :math:`\theta_{(j)}` computed without fold j. The interval covers the variation over samples (noises) of the same
model on the same chain. It covers neither another chain nor the quality of a fit.

Reference: The Jackknife, the Bootstrap and Other Resampling Plans (Efron, 1982), https://doi.org/10.1137/1.9781611970319
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from sigmatune.analysis.result import Stepwise

CONFIDENCE = 0.95


@dataclass(frozen=True)
class JackknifeEstimate:
    """A number with its interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The three numbers, JSON-ready."""
        return {"value": self.value, "low": self.low, "high": self.high}


def jackknife(
    analysis: Stepwise, statistic: Callable[[Stepwise], Sequence[float]], *, log: bool = False
) -> list[JackknifeEstimate]:
    """Estimates several numbers with 95% intervals.

    Args:
        analysis: An analysis of at least two folds.
        statistic: Computes the numbers from an analysis.
        log: Take the intervals in the logarithm, for positive numbers.

    Raises:
        SigmaTuneError: as ``statistic`` does.
    """
    there, back = (np.log, np.exp) if log else (np.asarray, np.asarray)
    value = there(np.asarray(statistic(analysis), dtype=np.float64))
    left = there(np.array([statistic(analysis.without(fold)) for fold in range(analysis.folds)], dtype=np.float64))
    error = np.sqrt((analysis.folds - 1) * left.var(axis=0))
    half = stdtrit(analysis.folds - 1, (1 + CONFIDENCE) / 2) * error
    ends = (back(value), back(value - half), back(value + half))
    return [JackknifeEstimate(*map(float, numbers)) for numbers in zip(*ends, strict=True)]
