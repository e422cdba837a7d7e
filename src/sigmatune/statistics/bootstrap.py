r"""The bootstrap: the interval of a statistic, by drawing rows with replacement.

.. math:: [q_{.025}, q_{.975}] \text{ of } \theta^*_1, \dots, \theta^*_B

with :math:`\theta^*_b` the statistic of the b-th resample. What is a row decides what the interval covers: pairs of errors
on the same noise keep what the two plans share. A statistic with a bias in the number of distinct rows is centred,

.. math:: [\theta + q_{.025}, \theta + q_{.975}], \quad q \text{ of } \theta^*_b - \overline{\theta^*}.

In 2,000 simulated sets the 95% interval of the guard's trimmed mean covered the truth in 94.9% with 64 normal rows and in
93.9% with 64 of Student's t with 3 degrees of freedom; that of a mean in 94.5% and 93.3%. Few rows are too few: of 8 rows it
covered 88.5%, of 16 rows 94.1%. ``tests/test_interval_laws.py`` repeats the simulation.

References:
    | An Introduction to the Bootstrap (Efron and Tibshirani, 1993), https://doi.org/10.1201/9780429246593
    | Bootstrap Methods and Their Application (Davison and Hinkley, 1997), https://doi.org/10.1017/CBO9780511802843
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sigmatune.noise import Array

CONFIDENCE = 0.95
RESAMPLES = 10_000


def percentile_interval(
    values: Array, statistic: Callable[[Array], Array], *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The percentile interval of a statistic of single numbers.

    Args:
        values: One number of each row, (n,).
        statistic: Of many resamples at once, (resamples, n) to (resamples,).
        seed: Seed of the draws.
        resamples: How many.
    """
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = tails(statistic(values[draws]))
    return low, high


def centred_interval(
    blocks: int, statistic: Callable[[Array], float], *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The interval of a statistic of blocks of rows, which says its value if each block counts some number of times.

    Args:
        blocks: How many blocks of rows there are.
        statistic: From the count of each block, (blocks,), all 1 for the data themselves.
        seed: Seed of the draws.
        resamples: How many.
    """
    once = np.ones(blocks)
    counts = np.random.default_rng(seed).multinomial(blocks, once / blocks, size=resamples).astype(np.float64)
    resampled = np.array([statistic(weights) for weights in counts])
    low, high = tails(resampled - resampled.mean())
    value = statistic(once)
    return value + low, value + high


def tails(resampled: Array) -> tuple[float, float]:
    """The two quantiles between which ``CONFIDENCE`` of the resamples lie."""
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
