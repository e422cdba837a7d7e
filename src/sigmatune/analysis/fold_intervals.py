r"""Intervals for any statistic of a stepwise analysis, by leaving out one fold of samples at a time.

The width of an interval is that of :mod:`sigmatune.statistics.jackknife`. The interval covers the variation over samples
(noises) of the same model on the same chain. It covers neither another chain nor the quality of a fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sigmatune.analysis.result import Stepwise
from sigmatune.statistics.jackknife import half_width


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
    half = half_width(left)
    ends = (back(value), back(value - half), back(value + half))
    return [JackknifeEstimate(*map(float, numbers)) for numbers in zip(*ends, strict=True)]
