r"""Adams weights: the integral of the polynomial through the last outputs; every multistep method here uses them.

With :math:`\lambda = -\log \sigma` and a step of length h, both forms of the probability-flow ODE are solved exactly up
to an integral over the step,

.. math::
    \frac{x_s}{\sigma_s} = \frac{x_t}{\sigma_t} + \int_0^h \frac{e^u}{\sigma_t} \, D(u) \, du, \qquad
    x_s = x_t - \int_0^h \sigma_t e^{-u} \, \hat\epsilon(u) \, du,

and a multistep method puts the polynomial through the last outputs, at u = 0, -1/g_1, -1/g_2, ..., in place of D or of
:math:`\hat\epsilon`. Distances are kept as their inverses g, so that an output that does not exist yet, or that was
taken at sigma = inf, has g = 0: its weight is 0 and the polynomial's degree falls by one, without a special case.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch

from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError

NODES = 32
"""Gauss-Legendre points per step; a test checks the weights against closed forms up to h = 12 in log sigma."""

Output = Literal["data", "noise"]


def log_steps(sigmas: torch.Tensor) -> torch.Tensor:
    """Lengths h of the steps in -log sigma, (..., N); 0 for a step from inf or to 0, which is taken as an Euler step."""
    sigma_t, sigma_s = sigmas[..., :-1], sigmas[..., 1:]
    regular = torch.isfinite(sigma_t) & (sigma_s > 0)
    one = torch.ones_like(sigma_t)
    return torch.log(torch.where(regular, sigma_t, one)) - torch.log(torch.where(regular, sigma_s, one))


def inverse_distances(sigmas: torch.Tensor, previous: torch.Tensor | None, history: int) -> torch.Tensor:
    """Inverse distances g in -log sigma from each step's level to those of the calls before it, (..., N, history).

    Args:
        sigmas: Levels, (..., N + 1), descending.
        previous: Levels of calls before the first, (..., p), descending.
        history: How many earlier calls to use; where there are fewer, g is 0.

    Raises:
        SigmaTuneError: if more earlier levels are given than are used.
    """
    known = 0 if previous is None else previous.shape[-1]
    if known > history:
        raise SigmaTuneError(f"this solver uses {history} earlier outputs, so give at most {history} earlier levels.")
    asked = sigmas[..., :-1]
    levels = torch.log(asked if previous is None else torch.cat([previous, asked], dim=-1))
    steps = asked.shape[-1]
    columns = []
    for j in range(1, history + 1):
        missing = min(max(0, j - known), steps)
        earlier = levels[..., known + missing - j : known + steps - j] if missing < steps else levels[..., :0]
        here = levels[..., known + missing :]
        columns.append(torch.cat([torch.zeros_like(asked[..., :missing]), 1 / (earlier - here)], dim=-1))
    return torch.stack(columns, dim=-1) if columns else asked.new_zeros(*asked.shape, 0)


def adams(h: torch.Tensor, g: torch.Tensor, of: Output) -> torch.Tensor:
    r"""Weights of the outputs, newest first, that integrate their polynomial exactly.

    .. math:: w_j = \int_0^h k(u) \, \ell_j(u) \, du \Big/ \int_0^h k(u) \, du, \quad
              k = e^u \text{ for D}, \ e^{-u} \text{ for } \hat\epsilon

    with the Lagrange polynomials :math:`\ell_j`; the weights sum to 1.

    Args:
        h: Lengths of the steps, (..., N).
        g: Inverse distances of the earlier outputs, (..., N, p); a negative one lies ahead, at the step's end.
        of: What the polynomial goes through.

    Returns:
        (..., N, p + 1).
    """
    nodes, gauss = (torch.from_numpy(values) for values in gauss_legendre())
    v = (nodes + 1) / 2
    u = h.unsqueeze(-1) * v  # (..., N, points)
    kernel = torch.exp(u - h.unsqueeze(-1)) if of == "data" else torch.exp(-u)
    kernel = kernel * gauss
    kernel = kernel / kernel.sum(dim=-1, keepdim=True)
    history = g.shape[-1]
    factors = [1 + g[..., i : i + 1] * u for i in range(history)]
    newest = torch.ones_like(u)
    for factor in factors:
        newest = newest * factor
    basis = [newest]
    for j in range(history):
        node = g[..., j : j + 1]
        value = -node * u
        for i in range(history):
            if i != j:
                gap = node - g[..., i : i + 1]
                value = value * node * factors[i] / torch.where(gap != 0, gap, torch.ones_like(gap))
        basis.append(value)
    return torch.stack([(kernel * value).sum(dim=-1) for value in basis], dim=-1)


def moment(h: torch.Tensor, power: int) -> torch.Tensor:
    r"""Mean of a power of the place v in a step, from 0 to 1, under the kernel of the data prediction.

    .. math:: \int_0^1 e^{h v} \, v^p \, dv \Big/ \int_0^1 e^{h v} \, dv

    Both are finite at h = 0, where the kernel is flat: 1/2 for p = 1, 1/3 for p = 2.

    Args:
        h: Lengths of the steps, (..., N).
        power: p.

    Returns:
        (..., N). For p = 1 it is :math:`\varphi_2(-h) / \varphi_1(-h)` of exponential integrators.
    """
    nodes, gauss = (torch.from_numpy(values) for values in gauss_legendre())
    v = (nodes + 1) / 2
    kernel = torch.exp(h.unsqueeze(-1) * (v - 1)) * gauss
    return (kernel * v**power).sum(dim=-1) / kernel.sum(dim=-1)


@cache
def gauss_legendre() -> tuple[Array, Array]:
    """Points and weights on [-1, 1], cached: their eigenvalue problem takes longer than the rest of a table."""
    return np.polynomial.legendre.leggauss(NODES)
