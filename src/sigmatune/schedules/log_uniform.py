r"""Log-uniform: every step divides the noise by the same factor; uniform in logSNR.

.. math:: \sigma_i = \sigma_{\max} (\sigma_{\min} / \sigma_{\max})^{i/(N-1)}, \quad i = 0, \dots, N - 1

Also called exponential. It spends the same number of steps on every octave of noise, which favours solvers whose error
is in log sigma (DPM-Solver), and makes large moves where the noise is large.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import INTERFACE_ENDS, Family


def log_uniform(steps: int, path: NoisePath) -> Array:
    r"""Spaces levels uniformly in log sigma.

    .. math:: \log \sigma_i = \log \sigma_{\max} + \tfrac{i}{N-1} (\log \sigma_{\min} - \log \sigma_{\max})

    References:
        | DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps (Lu et al., 2022)
        | https://arxiv.org/abs/2206.00927

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path, with a finite sigma_max.

    Returns:
        N noise levels (sigma), descending.
    """
    return np.exp(np.linspace(np.log(path.sigma_max), np.log(path.sigma_min), steps))


FAMILY = Family(
    "log-uniform", log_uniform, "uniform in log sigma (exponential)", finite=True, published=({}, *INTERFACE_ENDS)
)
