r"""Plain weights: the mean squared error of the image, of the noise, or of the velocity.

.. math:: w_{x} = 1, \qquad w_{\epsilon} = \sigma^{-2}, \qquad w_{v} = 1 + \sigma^{-2}
"""

from __future__ import annotations

import numpy as np

from sigmatune.training.weights.base import DataFacts, Function, Weight


def image(data: DataFacts) -> Function:  # noqa: ARG001 - all have one signature
    """Weights the error of the clean image equally at all levels."""
    return np.ones_like


def epsilon(data: DataFacts) -> Function:  # noqa: ARG001
    """Weights the error of the predicted noise equally.

    References:
        | Denoising Diffusion Probabilistic Models (Ho et al., 2020), the simple loss
        | https://arxiv.org/abs/2006.11239
    """
    return lambda sigma: np.asarray(sigma**-2)


def velocity(data: DataFacts) -> Function:  # noqa: ARG001
    """Weights the error of the predicted velocity equally.

    References:
        | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022), "SNR + 1"
        | https://arxiv.org/abs/2202.00512
    """
    return lambda sigma: np.asarray(1 + sigma**-2)


IMAGE = Weight("x0", image, "error of the image")
EPSILON = Weight("epsilon", epsilon, "error of the noise")
VELOCITY = Weight("velocity", velocity, "error of the velocity, SNR + 1")
