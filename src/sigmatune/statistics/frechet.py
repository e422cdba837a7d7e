r"""Frechet distance between two sets of features, each treated as a Gaussian.

.. math:: d^2 = \lVert \mu_x - \mu_y \rVert^2 + \operatorname{tr} \left( C_x + C_y - 2 (C_x C_y)^{1/2} \right)

With :math:`C_x = a^T a` and :math:`C_y = b^T b` the last trace is the sum of the singular values of :math:`a b^T`, which
has twice the correct digits of the root of a product and is never complex.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from sigmatune.noise import Array
from sigmatune.statistics.moments import Moments
from sigmatune.support.errors import SigmaTuneError


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian by its mean, (d,), and a root a of its covariance a'a, (k, d); computed once, compared often."""

    mean: Array
    root: Array

    @classmethod
    def of(cls, moments: Moments) -> Gaussian:
        """The Gaussian with some moments of at least two rows."""
        covariance = moments.covariance
        if moments.n > len(moments.mean):  # of full rank as a rule, and then this is half the work
            with suppress(np.linalg.LinAlgError):
                return cls(moments.mean, np.asarray(np.linalg.cholesky(covariance).T))
        values, vectors = np.linalg.eigh(covariance)
        # Rounding turns a zero eigenvalue into a small one, whose root would be 1e-8 of the largest: drop it.
        kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
        return cls(moments.mean, np.sqrt(values[kept])[:, None] * vectors[:, kept].T)

    @classmethod
    def sampled(cls, rows: Array) -> Gaussian:
        """The Gaussian of rows, (n, d), n >= 2, without their covariance: for fewer rows than numbers much less work."""
        mean = rows.mean(axis=0)
        return cls(mean, np.asarray(np.linalg.qr((rows - mean) / np.sqrt(len(rows) - 1), mode="r")))

    def distance(self, other: Gaussian) -> float:
        """The squared Frechet distance to another Gaussian."""
        cross = float(np.linalg.svd(self.root @ other.root.T, compute_uv=False).sum())
        gap = self.mean - other.mean
        return float(max(gap @ gap + np.square(self.root).sum() + np.square(other.root).sum() - 2 * cross, 0.0))


def frechet_distance(x: Array, y: Array) -> float:
    """The squared Frechet distance of two samples' Gaussians.

    References:
        | The Frechet distance between multivariate normal distributions (Dowson and Landau, 1982)
        | https://doi.org/10.1016/0047-259X(82)90077-X

    Args:
        x, y: Features, (n, d) and (m, d), n, m >= 2.

    Returns:
        The square of d, at least 0, in the features' squared unit; biased upwards, because two samples of one
        distribution differ.

    Raises:
        SigmaTuneError: if the shapes do not fit.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise SigmaTuneError(f"need two samples of features, (n, d) and (m, d), not {x.shape} and {y.shape}.")
    return Gaussian.sampled(x).distance(Gaussian.sampled(y))
