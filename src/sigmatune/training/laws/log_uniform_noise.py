r"""Log-uniform: every octave of noise gets the same share. The baseline that ignores data and network.

.. math:: \lambda(u) = \lambda_{\max} + u \, (\lambda_{\min} - \lambda_{\max})
"""

from __future__ import annotations

import numpy as np

from sigmatune.training.laws.base import Domain, LawKind, Shared


def log_uniform(domain: Domain) -> Shared:
    """Draws the logSNR uniformly over the model's range.

    References:
        | Variational Diffusion Models (Kingma et al., 2021), where this is the starting point
        | https://arxiv.org/abs/2107.00630

    Args:
        domain: The model and data.
    """
    high, low = domain.logsnr
    return Shared(lambda u: np.asarray(high + u * (low - high)), lambda u: np.full_like(u, high - low))


KIND = LawKind("log-uniform", log_uniform, "logSNR uniform over the model's range")
