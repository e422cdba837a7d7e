r"""Frechet distance of two sets of features, each taken for a Gaussian.

.. math:: d^2 = \lVert \mu_x - \mu_y \rVert^2 + \operatorname{tr} \left( C_x + C_y - 2 (C_x C_y)^{1/2} \right)
"""

from __future__ import annotations

import numpy as np

from sigmatune.errors import SigmaTuneError
from sigmatune.noise import Array


def frechet_distance(x: Array, y: Array) -> float:
    """The squared Frechet distance of two samples' Gaussians.

    References:
        | The Frechet distance between multivariate normal distributions (Dowson and Landau, 1982)
        | https://doi.org/10.1016/0047-259X(82)90077-X

    Args:
        x, y: Features, (n, d) and (m, d), n, m >= 2.

    Returns:
        The square of d, at least 0, in the features' squared unit; biased upwards, for two samples of one distribution differ.

    Raises:
        SigmaTuneError: if the shapes do not fit.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise SigmaTuneError(f"need two samples of features, (n, d) and (m, d), not {x.shape} and {y.shape}.")
    # The eigenvalues of C_x C_y are the squared singular values of a b', for any a and b with a'a = C_x and b'b = C_y.
    a, b = _root(x), _root(y)
    cross = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    gap = x.mean(axis=0) - y.mean(axis=0)
    return float(max(gap @ gap + np.square(a).sum() + np.square(b).sum() - 2 * cross, 0.0))


def _root(x: Array) -> Array:
    """A small matrix a with a'a the covariance of the rows of x."""
    return np.asarray(np.linalg.qr((x - x.mean(axis=0)) / np.sqrt(len(x) - 1), mode="r"))
