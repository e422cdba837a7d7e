r"""Laplace: levels at the quantiles of a Laplace distribution over log sigma.

.. math:: \log \sigma_i = \mu - b \, \mathrm{sgn}(u_i - \tfrac{1}{2}) \log \frac{1}{1 - 2 |u_i - 1/2|} , \qquad
          u_i = \frac{i}{N - 1}, \quad i = 0, \dots, N - 1,

cut to the model's range, which puts both ends at its ends. Where more than the ends would lie outside, u is even between the
places at which the curve enters and leaves the range. The steps crowd around :math:`\sigma = e^\mu`.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.options import positive


def laplace(steps: int, path: NoisePath, *, mu: float = 0.0, b: float = 0.5) -> Array:
    r"""Places levels at Laplace quantiles in log sigma.

    References:
        | Improved Noise Schedule for Diffusion Training (Hang et al., 2024)
        | https://arxiv.org/abs/2407.03297
        | ``get_sigmas_laplace`` of ComfyUI, which adds 1e-5 to the logarithm's argument

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path.
        mu: The log sigma around which the levels crowd.
        b: The distribution's scale, > 0.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: if b is not positive.
    """
    positive(b=b)
    enters, leaves = (_place(np.log(end), mu, b) for end in (path.sigma_max, path.sigma_min))
    step = 1 / max(steps - 1, 1)
    u = np.linspace(0.0 if enters < step else enters, 1.0 if leaves > 1 - step else leaves, steps) - 0.5
    with np.errstate(divide="ignore"):
        sigma = np.exp(mu + b * np.sign(u) * np.log(1 - 2 * np.abs(u)))
    return np.asarray(np.clip(sigma, path.sigma_min, path.sigma_max))


def _place(log_sigma: float, mu: float, b: float) -> float:
    """The u of a level: 1 minus the distribution function."""
    tail = float(np.exp(-abs(log_sigma - mu) / b)) / 2
    return tail if log_sigma > mu else 1 - tail


FAMILY = Family("laplace", laplace, "Laplace quantiles over log sigma")
