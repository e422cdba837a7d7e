r"""EDM's log-normal law, cut to the model's range.

.. math:: \log \sigma \sim N(P_{mean}, P_{std}^2), \qquad
          \log \sigma(u) = P_{mean} + P_{std} \, \Phi^{-1}(\Phi_0 + u (\Phi_1 - \Phi_0))

with :math:`\Phi_0, \Phi_1` the shares of the law below sigma_min and sigma_max. The logit-normal law of flow models is the
same thing: :math:`\operatorname{logit} \tau = \log \sigma`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import positive
from sigmatune.training.laws.base import Domain, LawKind, Shared


def log_normal(domain: Domain, *, P_mean: float = -1.2, P_std: float = 1.2) -> Shared:
    """Draws log sigma from a normal distribution.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364

    Args:
        domain: The model and data.
        P_mean, P_std: Mean and standard deviation of log sigma, P_std > 0.

    Raises:
        SigmaTuneError: if P_std is not positive or less than one part in a million of the law lies in the model's range.
    """
    positive(P_std=P_std)
    ends = (np.log(np.array([domain.path.sigma_min, domain.path.sigma_max])) - P_mean) / P_std
    below, above = ndtr(ends)
    if not above - below > 1e-6:
        raise SigmaTuneError(f"a log-normal law with P_mean {P_mean} and P_std {P_std} misses the model's range.")

    def place(u: Array) -> Array:
        return np.asarray(np.clip(ndtri(below + u * (above - below)), *ends))

    def logsnr(u: Array) -> Array:
        return np.asarray(-2 * (P_mean + P_std * place(u)))

    def slope(u: Array) -> Array:
        density = np.exp(-0.5 * place(u) ** 2) / np.sqrt(2 * np.pi)
        return np.asarray(2 * P_std * (above - below) / density)

    return Shared(logsnr, slope)


KIND = LawKind("log-normal", log_normal, "EDM: log sigma normal, P_mean and P_std")
