r"""DPM-Solver++(2M): a second-order multistep method that reuses the previous network output.

In :math:`\lambda = -\log \sigma` the denoiser's output is extrapolated to the middle of the step from its last two values,

.. math:: \bar D = \Big(1 + \frac{1}{2r}\Big) D_t - \frac{1}{2r} D_{prev}, \quad
          r = \frac{h_{prev}}{h}, \quad h = \log \frac{\sigma_t}{\sigma_s},

and takes D's place in the Euler step.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import inverse_distances, log_steps
from sigmatune.solvers.base import Solver, one_call_each
from sigmatune.solvers.multistep import multistep


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
    return multistep(sigmas, previous=previous, weights=middle(sigmas, previous))


def middle(sigmas: torch.Tensor, previous: torch.Tensor | None) -> torch.Tensor:
    """Weights of the last two outputs in the extrapolation to the middle of each step, (..., N, 2)."""
    half = log_steps(sigmas) * inverse_distances(sigmas, previous, 1)[..., 0] / 2  # 1 / (2 r)
    return torch.stack([1 + half, -half], dim=-1)


SOLVER = Solver(
    name="dpmpp2m",
    build=dpmpp2m,
    calls=one_call_each,
    width=2,
    order=2,
    cold_order=2,
    history=1,
    summary="DPM-Solver++(2M): second order, one call per step",
)
