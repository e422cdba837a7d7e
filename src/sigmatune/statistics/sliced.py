r"""Sliced Wasserstein distance: the distance of two sets of images as distributions, not row by row.

.. math:: SW_2^2 = E_{\theta} \, W_2^2(\theta^T X, \theta^T Y), \quad
          W_2^2 \text{ of two sorted samples} = \frac{1}{n} \sum_i (x_{(i)} - y_{(i)})^2
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError

BLOCK = 8192
"""Numbers of a sample that are projected at a time: the directions of a whole large image would not fit into memory."""


def sliced_wasserstein(x: torch.Tensor, y: torch.Tensor, *, projections: int = 256, seed: int = 0) -> float:
    """Estimates the sliced 2-Wasserstein distance of two equally large samples.

    References:
        | Sliced and Radon Wasserstein Barycenters of Measures (Bonneel et al., 2015)
        | https://doi.org/10.1007/s10851-014-0506-3

    Args:
        x, y: Samples, (n, ...), of equal shape.
        projections: Random directions on the unit sphere.
        seed: Seed of the directions.

    Returns:
        The distance in the data's own unit, per direction (0 for equal sets).

    Raises:
        SigmaTuneError: if the shapes differ.
    """
    if x.shape != y.shape or len(x) < 1:
        raise SigmaTuneError(f"need two samples of equal shape, not {tuple(x.shape)} and {tuple(y.shape)}.")
    return float(np.sqrt(squared(*projected([x, y], projections=projections, seed=seed))))


def projected(samples: Sequence[torch.Tensor], *, projections: int = 256, seed: int = 0) -> list[Array]:
    """Several samples along the same random directions.

    Args:
        samples: Samples, (n, ...) each, with rows of one size.
        projections: Random directions on the unit sphere.
        seed: Seed of the directions.

    Returns:
        For every sample (n, projections), float64.
    """
    rows = [v.detach().cpu().flatten(1) for v in samples]
    seen, squares = [np.zeros((len(v), projections)) for v in rows], np.zeros(projections)
    rng = np.random.default_rng(seed)
    for first in range(0, rows[0].shape[1], BLOCK):
        blocks = [v[:, first : first + BLOCK].double().numpy() for v in rows]
        directions = rng.standard_normal((blocks[0].shape[1], projections))  # the next rows of one and the same matrix
        seen = [sums + block @ directions for sums, block in zip(seen, blocks, strict=True)]
        squares += np.square(directions).sum(axis=0)
    return [sums / np.sqrt(squares) for sums in seen]


def squared(x: Array, y: Array) -> float:
    """The squared sliced distance of two samples by their projections, (n, projections) each."""
    return float(np.square(np.sort(x, axis=0) - np.sort(y, axis=0)).mean())
