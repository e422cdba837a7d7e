r"""Shifted cosine: the cosine noise schedule, moved in logSNR for the resolution.

.. math:: \lambda(v) = -2 \log \tan\theta(v) + 2 \log m, \quad \text{so} \quad \sigma = \tan\theta / m

with v in [0, 1] from clean to noisy and :math:`\theta` linear in v, its ends chosen so that sigma(0) = sigma_min and
sigma(1) = sigma_max. Simple diffusion takes m = 64 / d for images of side d: twice the resolution needs twice the
sigma.

The curve is the KL-optimal one with c = 1 / m. The grids differ at the clean end: samplers of these models stop at
:math:`v_i = 1 - i/N`, so the last positive level is **not** sigma_min; from there they jump to 0. N steps here are the
first N of N + 1 KL-optimal ones.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.options import positive


def shifted_cosine(steps: int, path: NoisePath, *, shift: float = 1.0) -> Array:
    r"""Reads the shifted-cosine curve at :math:`v_i = 1 - i/N`.

    .. math:: \sigma_i = \tan\left( \theta_0 + v_i (\theta_1 - \theta_0) \right) / m, \quad
        \theta_0 = \arctan(m \sigma_{\min}), \quad \theta_1 = \arctan(m \sigma_{\max})

    References:
        | Simple Diffusion: End-to-End Diffusion for High Resolution Images (Hoogeboom et al., 2023)
        | https://arxiv.org/abs/2301.11093

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path; sigma_max may be infinite.
        shift: m > 0, a pure number; below 1 moves the levels towards noise.

    Returns:
        N noise levels (sigma), descending; an infinite first level is finite here up to roundoff of pi/2.

    Raises:
        SigmaTuneError: if shift is not positive.
    """
    positive(shift=shift)
    v = 1 - np.arange(steps) / steps
    clean, noisy = np.arctan(shift * np.array([path.sigma_min, path.sigma_max]))
    return np.asarray(np.tan((1 - v) * clean + v * noisy) / shift)


FAMILY = Family("shifted-cosine", shifted_cosine, "cosine logSNR + 2 log shift, stops before sigma_min", ends=False)
