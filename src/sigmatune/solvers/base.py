r"""What solvers share: the scales of the unit state, Euler's step, the layout of their tables.

All solvers here act on the unit state :math:`z = x / \sqrt{1 + \sigma^2}` with its scales

.. math:: \alpha = 1 / \sqrt{1 + \sigma^2}, \quad s = \sigma / \sqrt{1 + \sigma^2},

so a first level of sigma = inf (alpha = 0, s = 1) needs no special case. Builders are written in torch and are
differentiable in the levels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sigmatune.core.solver import Solver, one_call_each
from sigmatune.core.table import Coefficients
from sigmatune.support.errors import SigmaTuneError


def scales(sigmas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The data scale alpha and the noise scale s of the unit state, both shaped like the levels."""
    return (1 + sigmas**2).rsqrt(), (1 + sigmas**-2).rsqrt()


def euler_step(sigmas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    r"""The factors of z and D in an Euler step, :math:`s_s / s_t` and :math:`\alpha_s (1 - \sigma_s / \sigma_t)`.

    Both are exact for every solver here as long as D is constant. (..., N) each.
    """
    alpha, s = scales(sigmas)
    return s[..., 1:] / s[..., :-1], alpha[..., 1:] * (1 - sigmas[..., 1:] / sigmas[..., :-1])


def assemble(
    sigmas: torch.Tensor,
    *,
    q: torch.Tensor,
    A: Mapping[tuple[int, int], torch.Tensor],
    b: Mapping[int, torch.Tensor],
    noise: torch.Tensor | Mapping[int, torch.Tensor] | None = None,
) -> Coefficients:
    """Lays out a solver whose first state tensor is always the network's input.

    Args:
        sigmas: The levels, (..., N + 1).
        q: The level of each network call, (..., K).
        A: The entries (i, j) of the state's matrices that are not zero, each (..., K).
        b: The entries i of the output's weights that are not zero, each (..., K).
        noise: Weight of each call's one noise in the first tensor, (..., K), or in the tensors i where it is not zero.

    Returns:
        Coefficients with c = (1, 0, ...) throughout, starting from z = s_0 eps (+ alpha_0 x0).
    """
    width = 1 + max(*b, *(i for i, _ in A), *(j for _, j in A), 0)
    zero = torch.zeros_like(q)
    first = torch.zeros(*q.shape[:-1], width, dtype=q.dtype)
    first[..., 0] = 1
    alpha, s = scales(sigmas[..., 0])
    rows = noise if isinstance(noise, Mapping) else {} if noise is None else {0: noise}
    if any(bool((row != 0).any()) for row in rows.values()):
        G = torch.stack([rows.get(i, zero) for i in range(width)], dim=-1).unsqueeze(-1)
    else:
        G = torch.zeros(*q.shape, width, 0, dtype=q.dtype)
    return Coefficients(
        q=q,
        A=torch.stack([torch.stack([A.get((i, j), zero) for j in range(width)], dim=-1) for i in range(width)], dim=-2),
        b=torch.stack([b.get(i, zero) for i in range(width)], dim=-1),
        c=first.unsqueeze(-2).expand(*q.shape[:-1], q.shape[-1] + 1, width),
        start=(s.unsqueeze(-1) * first).unsqueeze(-1),
        origin=alpha.unsqueeze(-1) * first,
        G=G,
    )


def no_history(name: str, previous: torch.Tensor | None) -> None:
    """Refuses a starting history for a one-step solver."""
    if previous is not None and previous.shape[-1]:
        raise SigmaTuneError(f"{name} is a one-step solver and takes no starting history.")


__all__ = ["Solver", "assemble", "euler_step", "no_history", "one_call_each", "scales"]
