r"""iPNDM: Adams-Bashforth with the textbook's constant weights, on the noise prediction.

.. math:: x_s = x_t + (\sigma_s - \sigma_t) \sum_j w_j \hat\epsilon_{k-j}, \quad
          w = (1), \ \tfrac{1}{2}(3, -1), \ \tfrac{1}{12}(23, -16, 5), \ \tfrac{1}{24}(55, -59, 37, -9)

The weights are those of steps that are even in sigma, and only there the order is theirs; on other grids they are a
heuristic that works well at few steps. The order rises with the history: the first steps have one, two, three outputs.
"""

from __future__ import annotations

from functools import partial

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.base import Solver, one_call_each
from sigmatune.solvers.multistep import multistep
from sigmatune.support.errors import SigmaTuneError

ADAMS_BASHFORTH = (
    (1.0, 0.0, 0.0, 0.0),
    (3 / 2, -1 / 2, 0.0, 0.0),
    (23 / 12, -16 / 12, 5 / 12, 0.0),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def ipndm(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, order: int = 4) -> Coefficients:
    """Builds iPNDM steps of an order, one call each; a step to 0 is an Euler step.

    References:
        | Fast Sampling of Diffusion Models with Exponential Integrator (Zhang and Chen, 2022), section 3.4
        | https://arxiv.org/abs/2204.13902
        | Pseudo Numerical Methods for Diffusion Models on Manifolds (Liu et al., 2022)
        | https://arxiv.org/abs/2202.09778

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Levels, (..., p), descending, of up to order - 1 earlier calls, whose noise estimates the state holds.
        order: 1 to 4.

    Raises:
        SigmaTuneError: for a longer history.
    """
    known = 0 if previous is None else previous.shape[-1]
    if known > order - 1:
        raise SigmaTuneError(
            f"this solver uses {order - 1} earlier outputs, so give at most {order - 1} earlier levels."
        )
    table = torch.tensor(ADAMS_BASHFORTH, dtype=sigmas.dtype)[:, :order]
    rows = [min(known + k, order - 1) for k in range(sigmas.shape[-1] - 1)]
    weights = table[rows].expand(*sigmas.shape[:-1], -1, -1)
    weights = torch.where((sigmas[..., 1:] > 0).unsqueeze(-1), weights, table[0])
    return multistep(sigmas, previous=previous, weights=weights, of="noise")


def _solver(order: int) -> Solver:
    return Solver(
        name=f"ipndm{order}",
        build=partial(ipndm, order=order),
        calls=one_call_each,
        width=order,
        order=order,
        cold_order=min(order, 2),
        history=order - 1,
        remembers="noise",
        grid="sigma",
        summary=f"iPNDM of order {order}: constant Adams-Bashforth weights, one call per step",
    )


SOLVERS = tuple(_solver(order) for order in (1, 2, 3, 4))
