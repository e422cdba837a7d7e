r"""DEIS (tAB, in log sigma): the polynomial through the last noise predictions, integrated exactly.

.. math:: x_s = x_t + \sum_j \hat\epsilon_{k-j} \int_{\sigma_t}^{\sigma_s} \ell_j(\log \sigma) \, d\sigma

with the Lagrange polynomials :math:`\ell_j` in log sigma: the variant that samplers call "log rho".
"""

from __future__ import annotations

from functools import partial

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import adams, inverse_distances, log_steps
from sigmatune.solvers.base import Solver, one_call_each
from sigmatune.solvers.multistep import multistep


def deis(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, order: int = 3) -> Coefficients:
    """Builds DEIS steps of an order, one call each; the order rises from 1 with the history, a step to 0 is Euler's.

    References:
        | Fast Sampling of Diffusion Models with Exponential Integrator (Zhang and Chen, 2022)
        | https://arxiv.org/abs/2204.13902

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Levels, (..., p), descending, of up to order - 1 earlier calls, whose noise estimates the state holds.
        order: 2 or 3; 1 is Euler's method.

    Raises:
        SigmaTuneError: for a longer history.
    """
    g = inverse_distances(sigmas, previous, order - 1)
    return multistep(sigmas, previous=previous, weights=adams(log_steps(sigmas), g, "noise"), of="noise")


def _solver(order: int) -> Solver:
    return Solver(
        name=f"deis{order}",
        build=partial(deis, order=order),
        calls=one_call_each,
        width=order,
        order=order,
        cold_order=2,
        history=order - 1,
        remembers="noise",
        summary=f"DEIS of order {order} in log sigma, one call per step",
    )


SOLVERS = tuple(_solver(order) for order in (2, 3))
