r"""Mean and covariance of rows that arrive in pieces, in float64 and in one pass.

Two pieces of :math:`n_a` and :math:`n_b` rows with means :math:`\mu_a, \mu_b` and scatter matrices
:math:`S = \sum_i (x_i - \mu)(x_i - \mu)^T` join to

.. math:: \mu = \mu_a + \frac{n_b}{n} \delta, \qquad S = S_a + S_b + \frac{n_a n_b}{n} \delta \delta^T, \qquad
          \delta = \mu_b - \mu_a,

which never subtracts large sums, unlike the sum of squares. The same formula read backwards takes a piece out again.

Reference: Updating formulae and a pairwise algorithm for computing sample variances (Chan, Golub and LeVeque, 1982)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and scatter of n rows of d numbers; immutable values, not accumulators: joining returns a new object.

    Args:
        n: How many rows.
        mean: (d,), float64.
        scatter: Sum of the outer products of the centred rows, (d, d), float64.
    """

    n: int
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, rows: Array) -> Moments:
        """The moments of some rows, (n, d), n >= 1.

        Raises:
            SigmaTuneError: for another shape, or NaN or infinity.
        """
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or len(rows) < 1:
            raise SigmaTuneError(f"features are rows of numbers, (n, d), not of shape {rows.shape}.")
        if not np.isfinite(rows).all():
            raise SigmaTuneError("the features hold NaN or infinity; check the images or the extractor.")
        mean = rows.mean(axis=0)
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred)

    @property
    def covariance(self) -> Array:
        """The unbiased covariance, (d, d).

        Raises:
            SigmaTuneError: for fewer than two rows.
        """
        if self.n < 2:
            raise SigmaTuneError(f"a covariance needs at least two images, not {self.n}.")
        return self.scatter / (self.n - 1)

    def __add__(self, other: Moments) -> Moments:
        n = self.n + other.n
        gap = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(gap, gap) * (self.n * other.n / n)
        return Moments(n, self.mean + gap * (other.n / n), scatter)

    def __sub__(self, part: Moments) -> Moments:
        """The moments without a piece that is among the rows."""
        n = self.n - part.n
        mean = self.mean + (self.mean - part.mean) * (part.n / n)
        gap = part.mean - mean
        return Moments(n, mean, self.scatter - part.scatter - np.outer(gap, gap) * (n * part.n / self.n))

    def projected(self, basis: Array) -> Moments:
        """The moments of the rows times a basis, (d, k)."""
        return Moments(self.n, self.mean @ basis, basis.T @ self.scatter @ basis)
