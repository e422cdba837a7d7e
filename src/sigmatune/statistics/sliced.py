r"""Sliced Wasserstein distance: how far two sets of images are apart as distributions, not row by row.

.. math:: SW_2^2 = E_{\theta} \, W_2^2(\theta^T X, \theta^T Y), \quad
          W_2^2 \text{ of two sorted samples} = \frac{1}{n} \sum_i (x_{(i)} - y_{(i)})^2
"""

from __future__ import annotations

import numpy as np
import torch

from sigmatune.errors import SigmaTuneError


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
    a, b = (v.detach().cpu().double().flatten(1).numpy() for v in (x, y))
    directions = np.random.default_rng(seed).standard_normal((a.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    gap = np.sort(a @ directions, axis=0) - np.sort(b @ directions, axis=0)
    return float(np.sqrt(np.mean(gap**2)))
