r"""What stochastic solvers share: how much of a step is noise.

There are two ways to say it. A solver of the reverse-time SDE with the amount :math:`\eta` keeps less of its state and adds
noise in exchange,

.. math:: x_s = \frac{\sigma_s}{\sigma_t} e^{-\eta h} x_t + (1 - e^{-(1 + \eta) h}) \bar D
          + \sigma_s \sqrt{1 - e^{-2 \eta h}} \, \epsilon, \qquad h = \log \frac{\sigma_t}{\sigma_s};

an ancestral solver steps to a lower level :math:`\sigma_{down}` and comes back up,

.. math:: \sigma_{up} = \eta \, \sigma_s \sqrt{1 - \sigma_s^2 / \sigma_t^2}, \quad
          \sigma_{down}^2 = \sigma_s^2 - \sigma_{up}^2.

Both are the same step for :math:`\eta = 1`, and neither adds noise for :math:`\eta = 0` or in a step to 0.
"""

from __future__ import annotations

import torch

from sigmatune.solvers.base import scales
from sigmatune.support.elementwise import power
from sigmatune.support.errors import SigmaTuneError


def fade(sigma_t: torch.Tensor, sigma_s: torch.Tensor, eta: float) -> torch.Tensor:
    r""":math:`e^{-\eta h} = (\sigma_s / \sigma_t)^\eta`: 0 from inf and to 0, unless eta is 0.

    Raises:
        SigmaTuneError: if eta is negative or not finite.
    """
    if not 0 <= eta < float("inf"):
        raise SigmaTuneError(f"eta must be a number of at least 0, not {eta!r}.")
    ratio = sigma_s / sigma_t
    return power(torch.where(ratio > 0, ratio, torch.ones_like(ratio)), eta) * ((ratio > 0) | (eta == 0))


def sde_step(sigmas: torch.Tensor, eta: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The factors of z and D and the weight of the noise in a step of the SDE, on the unit state, (..., N) each.

    Raises:
        SigmaTuneError: if eta is negative or not finite.
    """
    alpha, s = scales(sigmas)
    sigma_t, sigma_s = sigmas[..., :-1], sigmas[..., 1:]
    faded = fade(sigma_t, sigma_s, eta)
    keep, take = s[..., 1:] / s[..., :-1] * faded, alpha[..., 1:] * (1 - sigma_s / sigma_t * faded)
    return keep, take, s[..., 1:] * (1 - faded**2).sqrt() if eta > 0 else None


def down_up(sigma_t: torch.Tensor, sigma_s: torch.Tensor, eta: float) -> tuple[torch.Tensor, torch.Tensor]:
    r"""The level :math:`\sigma_{down}` and the noise :math:`\sigma_{up}` of an ancestral step, both like the levels.

    Raises:
        SigmaTuneError: if eta is outside [0, 1], where the level would be imaginary.
    """
    if not 0 <= eta <= 1:
        raise SigmaTuneError(f"eta must lie in [0, 1], not {eta!r}.")
    up = eta * sigma_s * (1 - (sigma_s / sigma_t) ** 2).sqrt()
    left = 1 - eta**2 + (eta * sigma_s / sigma_t) ** 2  # 1 - up^2 / sigma_s^2
    return sigma_s * torch.where(left > 0, left, torch.ones_like(left)).sqrt() * (left > 0), up
