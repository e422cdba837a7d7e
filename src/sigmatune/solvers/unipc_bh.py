r"""UniPC as its authors' sampler and ComfyUI run it: orders that rise and fall, and two choices of B(h).

The predictor's order in step k of N is :math:`\min(3, N - 1, k + 1, N - k)`, and a step of order p is corrected to order p + 1
(:mod:`~sigmatune.solvers.unipc`). The choice of B matters where a weight is a constant: with
:math:`\beta = B(h) / (1 - e^{-h})`,

=========================  ================================================================================
order 2, predictor         :math:`\bar D = D_t + \tfrac{\beta h}{2 h_{prev}} (D_t - D_{prev})`
order 1, corrector         :math:`\bar D = D_t + \tfrac{\beta}{2} (D_s - D_t)`
=========================  ================================================================================

"bh1" is :math:`B = h`, "bh2" :math:`B = 1 - e^{-h}`, so :math:`\beta = 1`.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import adams, inverse_distances, log_steps
from sigmatune.solvers.base import Solver, euler_step, no_history, one_call_each
from sigmatune.solvers.unipc import corrector, predictor_corrector

Variant = Literal["bh1", "bh2"]


def unipc_bh(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, order: Variant = "bh2") -> Coefficients:
    """Builds UniPC steps with the sampler's own orders, one call each; a step to 0 is Euler's.

    ComfyUI replaces a final 0 by 0.001, whose trace in the image is below 8 bits; here the last step reaches 0.

    References:
        | UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models (Zhao et al., 2023)
        | https://arxiv.org/abs/2302.04867

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
        order: The variant, bh1 or bh2.

    Raises:
        SigmaTuneError: for a starting history.
    """
    no_history(f"unipc-{order}", previous)
    steps = sigmas.shape[-1] - 1
    orders = torch.tensor([min(3, max(steps - 1, 1), k + 1, steps - k) for k in range(steps)])
    used = orders.unsqueeze(-1) > torch.tensor([1, 2])
    h = log_steps(sigmas)
    g = inverse_distances(sigmas, None, 2) * used
    beta = _beta(h, order)
    half = beta * h * g[..., 0] / 2
    line = torch.stack([1 + half, -half, torch.zeros_like(half)], dim=-1)
    predict = torch.where(used[..., 1:] & (g[..., 1:] > 0), adams(h, g, "data"), line)
    ahead, behind = corrector(h, g)
    alone = ~(g > 0).any(dim=-1)  # order 1: D_t + beta (D_s - D_t) / 2
    first = torch.zeros_like(behind)
    first[..., 0] = 1
    mean = first * (1 - beta / 2).unsqueeze(-1)
    correct = torch.where(alone, beta / 2, ahead), torch.where(alone.unsqueeze(-1), mean, behind)
    return predictor_corrector(sigmas, *euler_step(sigmas), predict, correct)


def _beta(h: torch.Tensor, variant: Variant) -> torch.Tensor:
    """B(h) / (1 - exp(-h)), (..., N); 1 in a step from inf or to 0."""
    if variant == "bh2":
        return torch.ones_like(h)
    safe = torch.where(h > 0, h, torch.ones_like(h))
    return torch.where(h > 0, safe / -torch.expm1(-safe), torch.ones_like(h))


def _solver(variant: Variant) -> Solver:
    return Solver(
        name=f"unipc-{variant}",
        build=partial(unipc_bh, order=variant),
        calls=one_call_each,
        width=4,
        order=2,
        cold_order=2,
        tapers=True,
        summary=f"UniPC as ComfyUI runs it ({variant}): orders 1 to 3, one call per step",
    )


SOLVERS = tuple(_solver(variant) for variant in ("bh1", "bh2"))
