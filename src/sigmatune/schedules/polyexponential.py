r"""Polyexponential: a power of the place in log sigma.

.. math:: \log \sigma_i = \log \sigma_{\min} + \left( 1 - \tfrac{i}{N-1} \right)^\rho
          (\log \sigma_{\max} - \log \sigma_{\min}), \quad i = 0, \dots, N - 1

:math:`\rho = 1` is :mod:`~sigmatune.schedules.log_uniform`; above 1 the steps are longer at the noisy end.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.options import positive


def polyexponential(steps: int, path: NoisePath, *, rho: float = 1.0) -> Array:
    r"""Spaces levels by a power in log sigma.

    Source: ``get_sigmas_polyexponential`` of k-diffusion, https://github.com/crowsonkb/k-diffusion.

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path, with a finite sigma_max.
        rho: The power, > 0.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: if rho is not positive.
    """
    positive(rho=rho)
    low, high = np.log([path.sigma_min, path.sigma_max])
    return np.asarray(np.exp(low + np.linspace(1, 0, steps) ** rho * (high - low)))


FAMILY = Family("polyexponential", polyexponential, "a power of the place in log sigma", finite=True)
