r"""Energy distance: the distance of two sets of samples as distributions, without directions or bandwidths.

.. math:: D^2 = 2 \, E \lVert x - y' \rVert - E \lVert x - x' \rVert - E \lVert y - y' \rVert \ge 0

with a dash for an independent draw; 0 only for equal distributions. With row i of both sets from the same noise the mean over
pairs of **different** rows is unbiased for it although the rows of a pair are coupled, and what both sets share cancels. It may
then be a little below 0.

Reference: Energy statistics: A class of statistics based on distances (Szekely and Rizzo, 2013),
https://doi.org/10.1016/j.jspi.2013.03.018
"""

from __future__ import annotations

import numpy as np
import torch

from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError

BLOCK = 8192
"""Numbers of a sample that are multiplied at a time: float64 copies of large images would not fit into memory."""


def pair_terms(x: torch.Tensor, y: torch.Tensor) -> Array:
    r"""The term of every pair of rows in the squared energy distance.

    .. math:: h_{ij} = \lVert x_i - y_j \rVert + \lVert x_j - y_i \rVert - \lVert x_i - x_j \rVert - \lVert y_i - y_j \rVert

    Args:
        x, y: Samples from the same noises, (n, ...), n >= 2, of equal shape.

    Returns:
        h, (n, n), symmetric, 0 on the diagonal, in the samples' unit per number: lengths are root mean squares.

    Raises:
        SigmaTuneError: if the shapes differ, or there are fewer than two rows.
    """
    if x.shape != y.shape or len(x) < 2:
        raise SigmaTuneError(
            f"need two samples of equal shape and at least 2 rows, not {tuple(x.shape)} and {tuple(y.shape)}."
        )
    a, b = (v.detach().cpu().flatten(1) for v in (x, y))
    cross = distances(a, b)
    terms = cross + cross.T - distances(a, a) - distances(b, b)
    np.fill_diagonal(terms, 0.0)
    return np.asarray(terms)


def distances(a: torch.Tensor, b: torch.Tensor) -> Array:
    """The root mean square difference of every row of one sample from every row of the other, (n, d) and (m, d) to (n, m)."""
    squares, d = np.zeros((len(a), len(b))), a.shape[1]
    for first in range(0, d, BLOCK):
        of_a, of_b = (v[:, first : first + BLOCK].double().numpy() for v in (a, b))
        centre = of_b.mean(axis=0)
        of_a, of_b = of_a - centre, of_b - centre
        squares += np.square(of_a).sum(axis=1)[:, None] + np.square(of_b).sum(axis=1) - 2 * of_a @ of_b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0) / d))


def mean_of_pairs(terms: Array, rows: np.typing.NDArray[np.int64]) -> float:
    """The squared energy distance of some rows, from the terms of all, (n, n)."""
    m = len(rows)
    return float(terms[np.ix_(rows, rows)].sum() / (m * (m - 1)))
