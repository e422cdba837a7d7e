r"""Heun's second-order method: an Euler step, then the mean of the slopes at both ends.

Predictor and corrector are two network calls of the same linear machine. The state holds the network's next input and,
between the two calls, the part of the corrected step that is already known.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.base import Solver, assemble, euler_step, no_history, scales


def heun(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None) -> Coefficients:
    r"""Builds Heun steps in x over sigma; the step to 0 is an Euler step, so N steps cost 2N - 1 calls.

    .. math:: x_s = x_t + \tfrac{1}{2} (\sigma_s - \sigma_t) (d_t + d_s), \quad d = (x - D) / \sigma

    From sigma = inf the slopes do not exist in sigma; there the same trapezoid is taken in :math:`r = 1/\sigma`, where
    :math:`d(x/\sigma) = D \, dr`: :math:`x_s = \sigma_s \epsilon + \tfrac{1}{2} (D_t + D_s)`.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
    """
    no_history("heun", previous)
    keep, take = euler_step(sigmas)
    sigma_t, sigma_s = sigmas[..., :-1], sigmas[..., 1:]
    ratio, alpha_s = sigma_s / sigma_t, scales(sigmas)[0][..., 1:]
    # z_s = known + slope (z_pred - alpha_s D_s), with slope = (sigma_s - sigma_t) / (2 sigma_s).
    regular = (ratio > 0) & (ratio < 1)
    inverse = 1 / torch.where(regular, ratio, torch.ones_like(ratio))
    slope = (1 - inverse) / 2
    known = torch.where(regular, keep * (1 + inverse) / 2, keep)
    last_take = torch.where(regular, -slope * alpha_s, alpha_s / 2)
    zero, one = torch.zeros_like(keep), torch.ones_like(keep)
    ends_in_zero = bool((sigmas[..., -1] == 0).all())

    def calls(predictor: torch.Tensor, corrector: torch.Tensor) -> torch.Tensor:
        interleaved = torch.stack([predictor, corrector], dim=-1).flatten(-2)
        return interleaved[..., :-1] if ends_in_zero else interleaved

    return assemble(
        sigmas,
        q=calls(sigma_t, sigma_s),
        A={(0, 0): calls(keep, slope), (1, 0): calls(known, zero), (0, 1): calls(zero, one)},
        b={0: calls(take, last_take), 1: calls(take / 2, zero)},
    )


SOLVER = Solver(
    name="heun",
    build=heun,
    calls=lambda steps: 2 * steps - 1 if steps else 0,
    width=2,
    order=2,
    cold_order=2,
    summary="Heun: second order, two calls per step and one for the last",
)
