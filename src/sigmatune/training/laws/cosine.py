r"""Shifted cosine: the law of simple diffusion and of SiD2.

.. math:: \lambda(u) = -2 \log \tan \theta(u) + 2 \log m, \qquad \theta \text{ linear in } u

with the ends of theta at the model's range. For images of side d, m = base / d moves the law towards noise as d grows.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array
from sigmatune.support.options import positive
from sigmatune.training.laws.base import Domain, LawKind, Shared


def cosine(domain: Domain, *, base: float = 32.0) -> Shared:
    r"""Draws the angle uniformly.

    .. math:: -\frac{d\lambda}{du} = \frac{2 (\theta_1 - \theta_0)}{\sin\theta \cos\theta}

    References:
        | Simple Diffusion: End-to-End Diffusion for High Resolution Images (Hoogeboom et al., 2023)
        | https://arxiv.org/abs/2301.11093
        | Simpler Diffusion (SiD2): 1.5 FID on ImageNet512 with Pixel-space Diffusion (Hoogeboom et al., 2024)
        | https://arxiv.org/abs/2410.19324

    Args:
        domain: The model and data.
        base: The side in pixels at which nothing is shifted, > 0.

    Raises:
        SigmaTuneError: if base is not positive.
    """
    positive(base=base)
    m = base / min(domain.shape[-2:])
    clean, noisy = np.arctan(m * np.array([domain.path.sigma_min, domain.path.sigma_max]))

    def angle(u: Array) -> Array:
        return np.asarray(clean + u * (noisy - clean))

    def slope(u: Array) -> Array:
        return np.asarray(4 * (noisy - clean) / np.sin(2 * angle(u)))

    return Shared(lambda u: np.asarray(2 * np.log(m) - 2 * np.log(np.tan(angle(u)))), slope)


KIND = LawKind("cosine", cosine, "SiD2: cosine logSNR, shifted with the resolution")
