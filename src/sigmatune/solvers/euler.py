r"""Euler's method for the probability-flow ODE, which is DDIM without noise.

The direction :math:`\hat\epsilon = (z_t - \alpha_t D_t) / s_t` is kept while the noise level falls from t to s:

.. math:: z_s = \alpha_s D_t + s_s \hat\epsilon
              = \frac{s_s}{s_t} z_t + \alpha_s \Big(1 - \frac{\sigma_s}{\sigma_t}\Big) D_t
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.base import Solver, assemble, euler_step, no_history, one_call_each


def euler(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None) -> Coefficients:
    r"""Builds Euler steps in x over sigma, one call each.

    .. math:: x_s = x_t + (\sigma_s - \sigma_t) (x_t - D_t) / \sigma_t

    References:
        | Denoising Diffusion Implicit Models (Song et al., 2020)
        | https://arxiv.org/abs/2010.02502

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
    """
    no_history("euler", previous)
    keep, take = euler_step(sigmas)
    return assemble(sigmas, q=sigmas[..., :-1], A={(0, 0): keep}, b={0: take})


SOLVER = Solver(
    name="euler",
    build=euler,
    calls=one_call_each,
    width=1,
    order=1,
    cold_order=1,
    summary="Euler / DDIM: first order, one call per step",
)
