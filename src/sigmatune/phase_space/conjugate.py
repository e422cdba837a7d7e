r"""Conjugate integrators (lambda-DDIM): Euler steps of the probability-flow ODE in coordinates with a nearly constant flow.

With F the drift matrix, :math:`Q = 2 \, \mathrm{diag}(\Gamma, M \nu)`, :math:`du / d\tau = F u + \tfrac{1}{2} Q L^{-T}
\hat\epsilon`, a constant matrix B and K = B - F, the coordinates :math:`\hat u = e^{K \tau} u` obey

.. math:: d \hat u / d\tau = e^{K \tau} B e^{-K \tau} \hat u + e^{K \tau} \tfrac{1}{2} Q L^{-T} \hat\epsilon,

of which a step with frozen :math:`\hat\epsilon` and the first term taken by Euler is, back in u,

.. math:: u_s = e^{-K (\tau_s - \tau_t)} (I + (\tau_s - \tau_t) B) \, u_t
          + \int_{\tau_t}^{\tau_s} e^{-K (\tau_s - \tau)} \tfrac{1}{2} Q L(\tau)^{-T} d\tau \; \hat\epsilon.

B = 0 is DDIM in phase space; B = lambda I and B = lambda times the matrix of ones are the paper's. The integral is taken by
Gauss-Legendre quadrature in log tau.

Reference: Efficient Integrators for Diffusion Generative Models (Pandey et al., 2023), https://arxiv.org/abs/2310.07894
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from sigmatune.phase_space.compose import Grid, Op, Step, matrix
from sigmatune.phase_space.sampler import solver
from sigmatune.processes.psld import PSLD, cholesky
from sigmatune.support.errors import SigmaTuneError

Tensor = torch.Tensor
NODES = 12
"""Of the quadrature; steps of half a decade are exact to ten digits."""


def conjugate(grid: Grid, *, lam: float = 0.0, matrix_b: str = "identity") -> Step:
    """Builds conjugate steps, one score each.

    Args:
        grid: The levels.
        lam: lambda, 1 / unit of the clock tau; a pure number of either sign.
        matrix_b: The matrix that lambda multiplies: "identity" or "ones".

    Raises:
        SigmaTuneError: for another matrix.
    """
    if matrix_b not in ("identity", "ones"):
        raise SigmaTuneError(f"matrix_b is 'identity' or 'ones', not {matrix_b!r}.")
    p, h = grid.process, grid.h
    B = lam * (torch.eye(2, dtype=h.dtype) if matrix_b == "identity" else torch.ones(2, 2, dtype=h.dtype))
    drift = torch.tensor([[-p.gamma, 1 / p.mass], [-1.0, -p.nu]], dtype=h.dtype)
    K = B - drift
    one = torch.eye(2, dtype=h.dtype)
    keep = torch.matrix_exp(K * h[..., None, None]) @ (one - h[..., None, None] * B)
    half_q = torch.diag(torch.tensor([p.gamma, p.mass * p.nu], dtype=h.dtype))
    tau = p.tau(grid.t)
    gathered = integral(p, tau[..., :-1], tau[..., 1:], lambda stretch: torch.matrix_exp(K * stretch) @ half_q)
    return [grid.now, Op(keep, gathered @ asked_root(grid), matrix(0, 0, 0, 0, h))]


def integral(p: PSLD, high: Tensor, low: Tensor, weight: Callable[[Tensor], Tensor]) -> Tensor:
    r""":math:`\int_{low}^{high} w(\tau - low) L(\tau)^{-T} d\tau` over stretches of the clock, (..., N, 2, 2).

    Args:
        p: The process.
        high, low: Ends of the stretches, (..., N), positive.
        weight: Of distances (..., N, nodes, 1, 1) from the lower end, matrices (..., N, nodes, 2, 2).
    """
    nodes, weights = (torch.from_numpy(value) for value in np.polynomial.legendre.leggauss(NODES))
    middle, half = (torch.log(high) + torch.log(low)) / 2, (torch.log(high) - torch.log(low)) / 2
    tau = torch.exp(middle[..., None] + half[..., None] * nodes)
    L = cholesky(p.covariance(p.time_of_tau(tau)))
    inverse = torch.linalg.solve_triangular(L, torch.eye(2, dtype=L.dtype).expand_as(L), upper=False)
    measure = (weights * half[..., None] * tau)[..., None, None]
    gathered: Tensor = (measure * (weight((tau - low[..., None])[..., None, None]) @ inverse.mT)).sum(dim=-3)
    return gathered


def asked_root(grid: Grid) -> Tensor:
    """L' at the time of the score: it turns s into -eps, (..., N, 2, 2)."""
    return cholesky(grid.process.covariance(grid.t[..., :-1])).mT


SOLVER = solver(
    "conjugate",
    conjugate,
    asks=1,
    order=1,
    summary="phase space, conjugate (lambda-DDIM): deterministic, one call per step",
    deterministic=True,
)
