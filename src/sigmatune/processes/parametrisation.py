r"""Predictions of a phase-space network: eps, score, x0, and their conversions.

With :math:`\Sigma = L L^T`, L lower or upper triangular, and u = (x, m) side by side in the channels,

.. math:: u = a x_0 + L \epsilon, \qquad s = \nabla \log p(u) = -L^{-T} \hat\epsilon, \qquad
          \hat x_0 = a^T (s + \Sigma^{-1} u) / g.

The last is exact for hybrid and for denoising score matching, because both fit the same score of (x, m); only L
differs.

Reference: Generative Diffusions in Augmented Spaces: A Complete Recipe (Pandey & Mandt, 2023), https://arxiv.org/abs/2303.01748
"""

from __future__ import annotations

import torch

from sigmatune.processes.psld import PSLD, Matching, cholesky
from sigmatune.support.errors import SigmaTuneError

Tensor = torch.Tensor


def perturb(
    process: PSLD, x0: Tensor, t: Tensor, eps: Tensor, *, m0: Tensor | None = None, upper: bool = False
) -> Tensor:
    """Noises data: (x, m) at time t, given x0 and, for denoising score matching, the initial momentum.

    Args:
        process: The process.
        x0: Clean data, (B, C, ...).
        t: A time for each row, (B,), float64.
        eps: Standard normal noise of both halves, (B, 2 C, ...).
        m0: Initial momenta, (B, C, ...); None marginalises them (hybrid score matching).
        upper: Take the upper triangular root of the covariance.

    Returns:
        (x, m), side by side in the channels, (B, 2 C, ...).

    Raises:
        SigmaTuneError: if the shapes do not fit together.
    """
    if eps.shape != (x0.shape[0], 2 * x0.shape[1], *x0.shape[2:]):
        raise SigmaTuneError(f"noise of shape {tuple(eps.shape)} does not fit data of shape {tuple(x0.shape)}.")
    matching: Matching = "hsm" if m0 is None else "dsm"
    map_ = process.transition(t)
    known = mixed(map_[..., :1], x0) if m0 is None else mixed(map_, torch.cat([x0, m0], dim=1))
    return known + mixed(cholesky(process.covariance(t, matching), upper=upper), eps)


def score_of(process: PSLD, eps: Tensor, t: Tensor, *, matching: Matching = "hsm", upper: bool = False) -> Tensor:
    """The score of (x, m) from a prediction of eps, -L^-T eps, (B, 2 C, ...)."""
    return -mixed(inverse_root(process, t, matching, upper=upper).mT, eps)


def eps_of(process: PSLD, score: Tensor, t: Tensor, *, matching: Matching = "hsm", upper: bool = False) -> Tensor:
    """The eps from a score, -L' s, (B, 2 C, ...): the inverse of :func:`score_of`."""
    return -mixed(cholesky(process.covariance(t, matching), upper=upper).mT, score)


def x0_of(process: PSLD, u: Tensor, score: Tensor, t: Tensor) -> Tensor:
    """The estimate of the data from a score of (x, m), (B, C, ...)."""
    law = process.law(t)
    return mixed(law.a[..., None, :] / law.information[..., None, None], score) + mixed(law.estimator, u)


def inverse_root(process: PSLD, t: Tensor, matching: Matching, *, upper: bool) -> Tensor:
    """L^-1, (..., 2, 2)."""
    L = cholesky(process.covariance(t, matching), upper=upper)
    inverse: Tensor = torch.linalg.solve_triangular(L, torch.eye(2, dtype=L.dtype).expand_as(L), upper=upper)
    return inverse


def mixed(matrix: Tensor, u: Tensor) -> Tensor:
    """Applies one small matrix (B, r, c) per row to the c parts that stand side by side in the channels of u."""
    parts = u.chunk(matrix.shape[-1], dim=1)
    weight = matrix.to(u).reshape(*matrix.shape, *[1] * (u.ndim - 1))
    rows = [
        sum((weight[:, i, j] * part for j, part in enumerate(parts)), start=torch.zeros_like(parts[0]))
        for i in range(matrix.shape[-2])
    ]
    return torch.cat(rows, dim=1)
