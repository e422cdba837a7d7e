"""Images and features that several test files measure."""

from __future__ import annotations

import numpy as np

from sigmatune.evaluation.reference_set import Statistics
from sigmatune.statistics.moments import Moments


def drawn(n, d, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) / np.sqrt(d) + shift


def statistics(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return Statistics(Moments.of(rows), rows.astype(np.float32))


def noise_pictures(n, seed=0, shape=(16, 16, 3)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def statistics_of(rows):
    """Statistics whose rows keep float64, for comparisons to many digits."""
    return Statistics(Moments.of(rows), rows)


def drawn_same(n, seed):
    return np.random.default_rng(seed).standard_normal((n, 4))
