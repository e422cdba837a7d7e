r"""Karras: uniform in :math:`\sigma^{1/\rho}`.

.. math:: \sigma_i = \left( \sigma_{\max}^{1/\rho}
    + \tfrac{i}{N-1} (\sigma_{\min}^{1/\rho} - \sigma_{\max}^{1/\rho}) \right)^\rho, \quad i = 0, \dots, N - 1

rho = 1 is uniform in sigma; the larger rho, the more levels lie near the data, and rho to infinity is log-uniform.
rho = 3 nearly equalises the truncation error over the steps; its authors found that 7 looks better.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import INTERFACE_ENDS, Family
from sigmatune.support.options import positive


def karras(steps: int, path: NoisePath, *, rho: float = 7.0) -> Array:
    r"""Spaces levels uniformly in the rho-th root of sigma.

    .. math:: \sigma_i^{1/\rho} = \sigma_{\max}^{1/\rho}
        + \tfrac{i}{N-1} (\sigma_{\min}^{1/\rho} - \sigma_{\max}^{1/\rho})

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path, with a finite sigma_max.
        rho: The exponent, > 0, a pure number.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: if rho is not positive.
    """
    positive(rho=rho)
    return np.linspace(path.sigma_max ** (1 / rho), path.sigma_min ** (1 / rho), steps) ** rho


FAMILY = Family("karras", karras, "uniform in sigma^(1/rho); EDM's", finite=True, published=({}, *INTERFACE_ENDS))
