r"""Gradient estimation: Euler's method with an output that is extrapolated by a constant factor.

.. math:: x_s = x_t + (\sigma_s - \sigma_t) \big( \gamma \hat\epsilon_t + (1 - \gamma) \hat\epsilon_{prev} \big)

:math:`\gamma = 1` is Euler's method, :math:`\gamma = 3/2` is iPNDM of order 2; the authors' choice is 2. The factor does not
depend on the steps, so only 3/2 is of second order, on levels that are even in sigma.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.base import Solver, one_call_each
from sigmatune.solvers.multistep import multistep
from sigmatune.support.errors import SigmaTuneError


def gradient_estimation(
    sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, gamma: float = 2.0
) -> Coefficients:
    """Builds gradient-estimation steps, one call each; the first step and a step to 0 are Euler steps.

    References:
        | Interpreting and Improving Diffusion Models from an Optimization Perspective (Permenter and Yuan, 2023)
        | https://arxiv.org/abs/2306.04848

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: The level of one earlier call whose noise estimate the state holds, (..., 1).
        gamma: The factor.

    Raises:
        SigmaTuneError: for a history of more than one level.
    """
    known = 0 if previous is None else previous.shape[-1]
    if known > 1:
        raise SigmaTuneError("this solver uses 1 earlier outputs, so give at most 1 earlier levels.")
    steps = torch.arange(sigmas.shape[-1] - 1)
    used = (sigmas[..., 1:] > 0) & (steps + known > 0)
    ahead = torch.where(used, gamma - 1, 0.0).double()
    return multistep(sigmas, previous=previous, weights=torch.stack([1 + ahead, -ahead], dim=-1), of="noise")


SOLVER = Solver(
    name="gradient-estimation",
    build=gradient_estimation,
    calls=one_call_each,
    width=2,
    order=1,
    cold_order=1,
    history=1,
    remembers="noise",
    summary="gradient estimation: the noise estimate extrapolated by a constant, one call per step",
)
