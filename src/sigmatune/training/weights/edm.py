r"""EDM's weight: the inverse of the error for white data of the same variance.

.. math:: w(\sigma) = \frac{\sigma^2 + \sigma_d^2}{(\sigma \sigma_d)^2}
          = \Big( \frac{\sigma_d^2 \, \sigma^2}{\sigma_d^2 + \sigma^2} \Big)^{-1}
"""

from __future__ import annotations

import numpy as np

from sigmatune.support.options import positive
from sigmatune.training.weights.base import DataFacts, Function, Weight


def edm(data: DataFacts, *, sigma_data: float | None = None) -> Function:
    """Weights every level so that an untrained preconditioned network has the same loss at all of them.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364

    Args:
        data: Its standard deviation is used.
        sigma_data: Another standard deviation, > 0.

    Raises:
        SigmaTuneError: if sigma_data is not positive.
    """
    sigma_d = data.sigma_data if sigma_data is None else sigma_data
    positive(sigma_data=sigma_d)
    return lambda sigma: np.asarray((sigma**2 + sigma_d**2) / (sigma * sigma_d) ** 2)


WEIGHT = Weight("edm", edm, "inverse error of white data")
