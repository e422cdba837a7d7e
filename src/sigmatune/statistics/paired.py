r"""Paired comparison of two plans on the same noises.

Row i of both plans starts from the same noise and is compared with the same converged solution, so the ratio of the two
errors is free of the spread between rows. The statistic is the trimmed mean over rows of

.. math:: \ell_i = \log \frac{e_i^{plan}}{e_i^{default}},

negative when the plan is better; exp of it is the typical ratio of the errors. Trimming keeps single rows that fall
into another basin from deciding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from sigmatune.noise import Array
from sigmatune.statistics.bootstrap import CONFIDENCE, RESAMPLES, percentile_interval
from sigmatune.support.errors import SigmaTuneError

TRIM = 0.1


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of errors.

    Attributes:
        statistic: Trimmed mean of the log ratios.
        low, high: Bootstrap interval of the statistic.
        confidence: Its confidence level.
        rows: How many pairs.
        median: Median of the log ratios.
        worse: Share of rows in which the plan's error is the larger one.
        much_worse: Share of rows in which it is more than twice as large.
        trim: Share of rows that was cut at each end.
        resamples: Bootstrap resamples.
    """

    statistic: float
    low: float
    high: float
    confidence: float
    rows: int
    median: float
    worse: float
    much_worse: float
    trim: float
    resamples: int

    @property
    def gain(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        return asdict(self)


def compare(plan: Array, default: Array, *, seed: int = 0) -> Comparison:
    """Compares the errors of two plans row by row.

    Args:
        plan: Errors of the plan, (n,), positive.
        default: Errors of the default on the same rows, (n,), positive.
        seed: Seed of the bootstrap.

    Returns:
        The statistic with a percentile bootstrap interval, for which whole rows (pairs) are drawn with replacement.

    Raises:
        SigmaTuneError: if the errors are not positive and finite or the numbers of rows differ or are below 2.
    """
    plan, default = np.asarray(plan, dtype=np.float64), np.asarray(default, dtype=np.float64)
    if plan.shape != default.shape or plan.ndim != 1 or len(plan) < 2:
        raise SigmaTuneError(f"need two equally long lists of errors, not shapes {plan.shape} and {default.shape}.")
    if not (np.all(np.isfinite(plan) & (plan > 0)) and np.all(np.isfinite(default) & (default > 0))):
        raise SigmaTuneError(
            "errors must be positive and finite; a model that returns NaN cannot be tuned, nor data so large or small "
            "that their squares leave float32: scale them to about 1."
        )
    ratios = np.log(plan) - np.log(default)
    low, high = percentile_interval(
        ratios, partial(trim_mean, proportiontocut=TRIM, axis=1), seed=seed, resamples=RESAMPLES
    )
    return Comparison(
        statistic=float(trim_mean(ratios, TRIM)),
        low=low,
        high=high,
        confidence=CONFIDENCE,
        rows=len(ratios),
        median=float(np.median(ratios)),
        worse=float(np.mean(ratios > 0)),
        much_worse=float(np.mean(ratios > np.log(2))),
        trim=TRIM,
        resamples=RESAMPLES,
    )
