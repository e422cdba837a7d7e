r"""Sliced Wasserstein distance: the distance of two sets of images as distributions, not row by row.

.. math:: SW_2^2 = E_{\theta} \, W_2^2(\theta^T X, \theta^T Y), \quad
          W_2^2 \text{ of two sorted samples} = \frac{1}{n} \sum_i (x_{(i)} - y_{(i)})^2
"""

from __future__ import annotations

import numpy as np
import torch

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
    a, b = (v.detach().cpu().flatten(1) for v in (x, y))
    seen_a, seen_b, squares = np.zeros((len(a), projections)), np.zeros((len(a), projections)), np.zeros(projections)
    rng = np.random.default_rng(seed)
    for first in range(0, a.shape[1], BLOCK):
        of_a, of_b = (v[:, first : first + BLOCK].double().numpy() for v in (a, b))
        directions = rng.standard_normal((of_a.shape[1], projections))  # the next rows of one and the same matrix
        seen_a += of_a @ directions
        seen_b += of_b @ directions
        squares += np.square(directions).sum(axis=0)
    gap = (np.sort(seen_a, axis=0) - np.sort(seen_b, axis=0)) / np.sqrt(squares)
    return float(np.sqrt(np.mean(gap**2)))
