r"""KL-optimal: uniform in the angle :math:`\theta = \arctan(\sigma / c)`.

.. math:: \sigma_i = c \tan\theta_i, \quad
    \theta_i \text{ linear from } \arctan(\sigma_{\max}/c) \text{ to } \arctan(\sigma_{\min}/c)

For Gaussian data of standard deviation c in every direction an Euler step from :math:`\theta_t` to :math:`\theta_s` is
short of the exact one by the factor :math:`\cos(\theta_t - \theta_s)`; the product of these factors is largest for
equal angles, so with both ends fixed this curve is the exact optimum. sigma_max = inf is the ordinary angle pi/2.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.options import positive


def kl_optimal(steps: int, path: NoisePath, *, c: float = 1.0) -> Array:
    r"""Spaces levels uniformly in the arc tangent of sigma.

    .. math:: \sigma_i = c \tan\left( \theta_{\max} + \tfrac{i}{N-1} (\theta_{\min} - \theta_{\max}) \right),
        \quad \theta = \arctan(\sigma / c)

    References:
        | Align Your Steps: Optimizing Sampling Schedules in Diffusion Models (Sabour et al., 2024)
        | https://arxiv.org/abs/2404.14507

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path; sigma_max may be infinite.
        c: Standard deviation of the data, in units of sigma, > 0.

    Returns:
        N noise levels (sigma), descending; an infinite first level is finite here up to roundoff of pi/2.

    Raises:
        SigmaTuneError: if c is not positive.
    """
    positive(c=c)
    return c * np.tan(np.linspace(np.arctan(path.sigma_max / c), np.arctan(path.sigma_min / c), steps))


FAMILY = Family("kl-optimal", kl_optimal, "uniform in atan(sigma/c); Euler's optimum on white data", published=({},))
