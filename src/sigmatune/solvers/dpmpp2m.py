r"""DPM-Solver++(2M): a second-order multistep method that reuses the previous network output.

In :math:`\lambda = -\log \sigma` the denoiser's output is extrapolated to the middle of the step from its last two values,

.. math:: \bar D = \Big(1 + \frac{1}{2r}\Big) D_t - \frac{1}{2r} D_{prev}, \quad
          r = \frac{h_{prev}}{h}, \quad h = \log \frac{\sigma_t}{\sigma_s},

and takes D's place in the Euler step.
"""

from __future__ import annotations

import torch

from sigmatune.errors import SigmaTuneError
from sigmatune.machine import Coefficients
from sigmatune.solvers.solver import Solver, assemble, scales


def dpmpp2m(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None) -> Coefficients:
    r"""Builds 2M steps, one call each; the first step (no previous output) and a step to 0 are Euler steps.

    .. math:: z_s = \frac{s_s}{s_t} z_t + \alpha_s \Big(1 - \frac{\sigma_s}{\sigma_t}\Big) \bar D

    References:
        | DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022)
        | https://arxiv.org/abs/2211.01095

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: The level of one earlier call whose output is the state's second tensor, (..., 1).

    Raises:
        SigmaTuneError: for a history of more than one level.
    """
    alpha, s = scales(sigmas)
    sigma_t, sigma_s = sigmas[..., :-1], sigmas[..., 1:]
    keep, take = s[..., 1:] / s[..., :-1], alpha[..., 1:] * (1 - sigma_s / sigma_t)
    # A step to 0 gets h = 0 here, hence no weight; a step from inf gets h = inf, hence gives none to the next.
    h = torch.log(sigma_t / torch.where(sigma_s > 0, sigma_s, sigma_t))
    first = torch.zeros_like(h[..., :1])
    if previous is not None and previous.shape[-1]:
        if previous.shape[-1] != 1:
            raise SigmaTuneError("dpmpp2m uses one earlier output, so give one earlier level.")
        first = h[..., :1] / (2 * torch.log(previous / sigma_t[..., :1]))
    weight = torch.cat([first, h[..., 1:] / (2 * h[..., :-1])], dim=-1)  # 1 / (2 r)
    return assemble(
        sigmas,
        q=sigma_t,
        A={(0, 0): keep, (0, 1): -take * weight},
        b={0: take * (1 + weight), 1: torch.ones_like(take)},
    )


SOLVER = Solver(
    name="dpmpp2m",
    build=dpmpp2m,
    calls=lambda steps: steps,
    width=2,
    order=2,
    cold_order=2,
    deterministic=True,
    history=1,
    summary="DPM-Solver++(2M): second order, one call per step",
)
