r"""Ancestral sampling: an Euler step further down than needed, and fresh noise to come back up.

.. math:: x_s = D_t + \sqrt{\sigma_s^2 - \sigma_{up}^2} \, \hat\epsilon + \sigma_{up} \epsilon, \quad
          \sigma_{up} = \eta \, \sigma_s \sqrt{1 - \sigma_s^2 / \sigma_t^2}

This one formula is DDPM's ancestral step (posterior variance), DDIM with eta, and "Euler ancestral": they differ only
in how their states are scaled. eta = 0 is Euler's method.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.base import Solver, assemble, no_history, one_call_each, scales
from sigmatune.solvers.sde import down_up


def ancestral(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, eta: float = 1.0) -> Coefficients:
    """Builds ancestral steps, one call each; a step to 0 adds no noise.

    References:
        | Denoising Diffusion Probabilistic Models (Ho et al., 2020), https://arxiv.org/abs/2006.11239
        | Denoising Diffusion Implicit Models (Song et al., 2020), equation 16, https://arxiv.org/abs/2010.02502

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
        eta: Share of the posterior's noise, in [0, 1].

    Raises:
        SigmaTuneError: if eta is outside [0, 1], where the step down would have to be imaginary.
    """
    no_history("ancestral", previous)
    alpha, s = scales(sigmas)
    sigma_t, sigma_s = sigmas[..., :-1], sigmas[..., 1:]
    down, up = down_up(sigma_t, sigma_s, eta)
    keep, take = alpha[..., 1:] * down / s[..., :-1], alpha[..., 1:] * (1 - down / sigma_t)
    return assemble(sigmas, q=sigma_t, A={(0, 0): keep}, b={0: take}, noise=alpha[..., 1:] * up)


SOLVER = Solver(
    name="ancestral",
    build=ancestral,
    calls=one_call_each,
    width=1,
    order=1,
    cold_order=1,
    noise="eta",
    summary="DDPM / Euler ancestral / DDIM with eta: stochastic, one call per step",
)
