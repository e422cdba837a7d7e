"""A subset of a data set's images, drawn by a seed, with each class in proportion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sigmatune.core.schedule import whole
from sigmatune.support.errors import SigmaTuneError

Indices = npt.NDArray[np.int64]


def draw(n: int, count: int, labels: Sequence[object] | None, seed: int = 0) -> Indices:
    """Draws n of count images without replacement; with labels each class gets its share of n, to within one image.

    >>> draw(2, 4, ["a", "a", "b", "b"]).tolist()  # one of each
    [1, 3]

    Args:
        n: How many.
        count: Of how many.
        labels: The class of each image; None for images without classes.
        seed: In [0, 2^64).

    Returns:
        Their indices, rising, (n,).

    Raises:
        SigmaTuneError: if there are fewer than n, or the seed is invalid.
    """
    if whole(n, "n") > count:
        raise SigmaTuneError(f"there are {count} images, fewer than the {n} requested.")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise SigmaTuneError(f"the seed must be a whole number in [0, 2^64), not {seed!r}.")
    generator = np.random.Generator(np.random.Philox(key=np.uint64(seed)))
    if labels is None:
        return np.sort(generator.permutation(count)[:n])
    _, member = np.unique(np.array([str(label) for label in labels]), return_inverse=True)
    groups = [np.flatnonzero(member == j) for j in range(int(member.max()) + 1)]
    exact = np.array([len(group) for group in groups]) * n / count
    quota = np.floor(exact).astype(int)
    chance = generator.permutation(len(groups))  # equal remainders are served at random, not in alphabetical order
    first = np.lexsort((chance, -(exact - quota)))[: n - int(quota.sum())]
    quota[first] += 1
    chosen = [generator.permutation(group)[:take] for group, take in zip(groups, quota, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
