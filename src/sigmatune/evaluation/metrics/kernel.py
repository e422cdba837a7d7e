r"""Kernel distance (KID): the unbiased squared maximum mean discrepancy with a cubic kernel.

.. math:: k(x, y) = (x^T y / d + 1)^3, \qquad
          MMD^2 = \overline{k(x_i, x_j)}_{i \ne j} + \overline{k(y_i, y_j)}_{i \ne j} - 2 \, \overline{k(x_i, y_j)}

It is unbiased for every n, may therefore be negative, and is taken over all rows at once: the usual mean over random
subsets has the same expectation and a larger error. The kernel is torchmetrics'.

References:
    | Demystifying MMD GANs (Binkowski et al., 2018)
    | https://arxiv.org/abs/1801.01401
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sigmatune.evaluation.extractors.base import Features
from sigmatune.evaluation.metrics.base import Metric
from sigmatune.evaluation.reference_set import Statistics
from sigmatune.noise import Array
from sigmatune.statistics.jackknife import Estimate, Rows, folds
from sigmatune.support.errors import SigmaTuneError

MOST = 10_000
"""Rows of either side; the work grows with their product."""

BLOCK = 1000


@dataclass(frozen=True, eq=False)
class KernelSums:
    """Sums of the kernel over pairs, by parts of the rows of x.

    Attributes:
        sizes: Rows of each part, (G,).
        within: Over pairs of rows of two parts, a row with itself left out, (G, G).
        between: Over pairs of a part's rows and those of y, (G,).
        other: Mean over pairs of different rows of y.
        count: Rows of y.
    """

    sizes: Array
    within: Array
    between: Array
    other: float
    count: int

    def distance(self, weights: Array) -> float:
        """The kernel distance where each part counts with a weight, (G,): 0 leaves it out."""
        n = float(weights @ self.sizes)
        pairs = n * n - float(np.square(weights) @ self.sizes)
        within = float(weights @ self.within @ weights) / pairs
        return within + self.other - 2 * float(weights @ self.between) / (n * self.count)


def kernel_sums(x: Array, y: Array, parts: Sequence[Rows]) -> KernelSums:
    """Sums the kernel over all pairs of rows, (n, d) and (m, d), in blocks of the first."""
    owner = np.concatenate([np.full(len(part), j) for j, part in enumerate(parts)])
    rows = x[np.concatenate(parts)]
    member = np.zeros((len(rows), len(parts)))
    member[np.arange(len(rows)), owner] = 1
    within, between, other = np.zeros((len(parts), len(parts))), np.zeros(len(parts)), 0.0
    for first in range(0, len(rows), BLOCK):
        piece, membership = rows[first : first + BLOCK], member[first : first + BLOCK]
        kernel = _kernel(piece, rows)
        kernel[np.arange(len(piece)), first + np.arange(len(piece))] = 0
        within += membership.T @ (kernel @ member)
        between += membership.T @ _kernel(piece, y).sum(axis=1)
    for first in range(0, len(y), BLOCK):
        piece = y[first : first + BLOCK]
        kernel = _kernel(piece, y)
        kernel[np.arange(len(piece)), first + np.arange(len(piece))] = 0
        other += float(kernel.sum())
    sizes = np.array([len(part) for part in parts], dtype=np.float64)
    return KernelSums(sizes, within, between, other / (len(y) * (len(y) - 1)), len(y))


def _kernel(x: Array, y: Array) -> Array:
    try:
        from torchmetrics.image.kid import poly_kernel
    except ImportError:
        raise SigmaTuneError("KID needs torchmetrics; pip install 'sigmatune[eval]'.") from None
    return np.asarray(poly_kernel(torch.from_numpy(x), torch.from_numpy(y)).numpy())


def distance(features: Features, reference: Statistics | None) -> Mapping[str, Estimate]:
    """The kernel distance."""
    assert reference is not None
    x = reference.seen(features[:MOST])
    sums = kernel_sums(x, reference.rows[:MOST].astype(np.float64), folds(len(x)))
    once = np.ones(len(sums.sizes))
    left = tuple(sums.distance(1 - one) for one in np.eye(len(once)))
    return {"kid": Estimate(sums.distance(once), left)}


METRIC = Metric("Kernel distance", {"kid": "lower"}, distance)
