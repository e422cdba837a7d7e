r"""The explicit multistep method with any coefficients; every multistep solver here is a choice of its weights.

The next state is an Euler step whose output is a weighted sum of the last outputs,

.. math:: \bar D_k = \sum_{j=0}^{p} w_{kj} D_{k-j} \quad \text{or} \quad
          \bar\epsilon_k = \sum_{j=0}^{p} w_{kj} \hat\epsilon_{k-j},
          \quad \hat\epsilon = \frac{z - \alpha D}{s}.

With weights that sum to 1, a constant output is integrated exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import Output
from sigmatune.solvers.base import Solver, assemble, euler_step, one_call_each, scales
from sigmatune.support.errors import SigmaTuneError

Weights = Sequence[Sequence[float]] | torch.Tensor


def multistep(
    sigmas: torch.Tensor,
    *,
    previous: torch.Tensor | None = None,
    weights: Weights | None = None,
    of: Output = "data",
) -> Coefficients:
    r"""Builds an explicit multistep method from its weights, one call per step.

    .. math:: z_s = \frac{s_s}{s_t} z_t + \alpha_s \Big(1 - \frac{\sigma_s}{\sigma_t}\Big) \bar D

    and, for the noise, :math:`x_s = x_t + (\sigma_s - \sigma_t) \bar\epsilon`.

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Levels of earlier calls; because the weights are given, they only state that the state holds those
            outputs.
        weights: Weights of the outputs, newest first, (..., N, p + 1); Euler's method by default.
        of: Whether to sum the estimates of the data or of the noise.

    Raises:
        SigmaTuneError: if there is not one list of weights per step, or an output is used before it exists.
    """
    steps = sigmas.shape[-1] - 1
    w = torch.ones(*sigmas.shape[:-1], steps, 1, dtype=torch.float64) if weights is None else _table(weights)
    if w.ndim < 2 or w.shape[-2] != steps or w.shape[-1] < 1 or not bool(torch.isfinite(w).all()):
        raise SigmaTuneError(f"weights must be one list of numbers for each of {steps} steps, newest output first.")
    if of not in ("data", "noise"):
        raise SigmaTuneError(f"of must be 'data' or 'noise', not {of!r}.")
    w = w.expand(*sigmas.shape[:-1], *w.shape[-2:])
    history = w.shape[-1] - 1
    known = 0 if previous is None else previous.shape[-1]
    for k in range(min(steps, history)):
        if bool((w[..., k, known + k + 1 :] != 0).any()):
            raise SigmaTuneError(f"step {k} has weights for outputs that do not exist yet; only {known + k + 1} do.")
    keep, take = euler_step(sigmas)
    sigma_t, sigma_s = sigmas[..., :-1], sigmas[..., 1:]
    one = torch.ones_like(take)
    if of == "data":
        A = {(0, 0): keep} | {(0, j): take * w[..., j] for j in range(1, history + 1)}
        b = {0: take * w[..., 0]} | ({1: one} if history else {})
    else:
        alpha, s = scales(sigmas)
        # An output at sigma = inf cannot be followed by others, so the first step from there is Euler's.
        regular = torch.isfinite(sigma_t)
        gap = alpha[..., 1:] * (sigma_s - torch.where(regular, sigma_t, sigma_s))
        rest = gap * (w.sum(dim=-1) - w[..., 0])
        A = {(0, 0): keep - rest / s[..., :-1]} | {(0, j): gap * w[..., j] for j in range(1, history + 1)}
        b = {0: take + rest / sigma_t}
        if history:
            A[1, 0], b[1] = 1 / s[..., :-1], -1 / sigma_t
    A |= {(j, j - 1): one for j in range(2, history + 1)}
    return assemble(sigmas, q=sigma_t, A=A, b=b)


def _table(weights: Weights) -> torch.Tensor:
    if isinstance(weights, torch.Tensor):
        return weights.double()
    try:
        return torch.tensor(weights, dtype=torch.float64)
    except (TypeError, ValueError):
        raise SigmaTuneError("weights must be one list of numbers for each step, all of one length.") from None


SOLVER = Solver(
    name="multistep",
    build=multistep,
    calls=one_call_each,
    width=1,
    order=1,
    cold_order=1,
    summary="explicit multistep with given weights (Euler without them)",
)
