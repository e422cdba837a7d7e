r"""One-step methods with stages: the layout of every solver that asks the network inside its steps.

A step from :math:`\sigma_t` to :math:`\sigma_s` with M stages asks at :math:`\sigma_t` and at M - 1 levels between, and sums

.. math::
    x_m = k_m x_t + \sum_{j < m} a_{mj} D_j + \sum_{j < m} n_{mj} \epsilon_j, \qquad m = 2, \dots, M + 1,

where :math:`x_2, \dots, x_M` are the inputs of the further calls, :math:`x_{M+1} = x_s`, and :math:`\epsilon_j` is the noise of
call j. The state holds the network's next input and what is already known of the later sums, M tensors. A step to 0 is one
call: it takes D.

Inner levels are places c in :math:`-\log \sigma`: c = 1/2 is the geometric mean of both ends. From sigma = inf there is no such
mean; there, the same method is applied in :math:`r = 1 / \sigma`, in which the exact solution is :math:`d(x / \sigma) = D \,
dr` and no step is infinite: :math:`\sigma_c = \sigma_s / c`, with the weights' limits for short steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.base import assemble, scales

Entries = Mapping[tuple[int, int], torch.Tensor]


def ends_of(sigmas: torch.Tensor) -> torch.Tensor:
    """The level at the end of each step, (..., N): below the start and not 0, also where the step goes to 0."""
    start = torch.where(torch.isfinite(sigmas[..., :-1]), sigmas[..., :-1], torch.ones_like(sigmas[..., :-1]))
    return torch.where(sigmas[..., 1:] > 0, sigmas[..., 1:], start / 4)


def place(sigmas: torch.Tensor, c: float) -> torch.Tensor:
    """The level at the place c of each step, 0 < c < 1, (..., N)."""
    ends, regular = ends_of(sigmas), torch.isfinite(sigmas[..., :-1])
    h = torch.log(torch.where(regular, sigmas[..., :-1] / ends, torch.ones_like(ends)))
    return ends * torch.where(regular, torch.exp((1 - c) * h), 1 / c)


def staged(
    sigmas: torch.Tensor,
    inner: Sequence[torch.Tensor],
    *,
    keep: Sequence[torch.Tensor],
    take: Entries,
    noise: Entries | None = None,
) -> Coefficients:
    r"""Lays out a one-step method from its weights in x, M calls per step and one for a step to 0.

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        inner: The M - 1 inner levels of each step, descending, (..., N) each.
        keep: :math:`k_m \sigma_t / \sigma_m` for the inner levels and the end, (..., N) each: 1 in a step of the ODE.
        take: :math:`a_{mj}`, (..., N) each, by (m, j), m = 2..M + 1, j = 1..m - 1; what is left out is 0.
        noise: :math:`n_{mj} / \sigma_m` in the same way.

    Returns:
        The coefficients. In a step to 0 all weights are replaced.
    """
    ends, several = sigmas[..., 1:], len(inner) + 1
    alpha, s = zip(*(scales(level) for level in (*inner, ends)), strict=True)
    to_zero, s_t = ends == 0, scales(sigmas[..., :-1])[1]
    zero, one = torch.zeros_like(ends), torch.ones_like(ends)
    A: dict[tuple[int, int], list[torch.Tensor]] = {}
    b: dict[int, list[torch.Tensor]] = {}
    G: dict[int, list[torch.Tensor]] = {}
    for j in range(1, several + 1):
        for row in range(several):
            m = j + 1 + row  # after call j this row holds what is known of x_m
            inside = m <= several + 1
            known = keep[m - 2] * s[m - 2] / s_t if inside and j == 1 else zero
            said = alpha[m - 2] * take.get((m, j), zero) if inside else zero
            drawn = s[m - 2] * (noise or {}).get((m, j), zero) if inside else zero
            if j == 1:
                known, drawn = torch.where(to_zero, zero, known), torch.where(to_zero, zero, drawn)
                said = torch.where(to_zero, one if row == 0 else zero, said)
                A.setdefault((row, 0), []).append(known)
            elif row + 1 < several:
                A.setdefault((row, row + 1), [zero]).append(one if inside else zero)
            b.setdefault(row, []).append(said)
            G.setdefault(row, []).append(drawn)
    last = several - 1 if bool((sigmas[..., -1] == 0).all()) else 0

    def calls(parts: list[torch.Tensor]) -> torch.Tensor:
        """The values of all calls in order, (..., K)."""
        rows = torch.stack([*parts, *[zero] * (several - len(parts))], dim=-1).flatten(-2)
        return rows[..., : rows.shape[-1] - last]

    return assemble(
        sigmas,
        q=calls([sigmas[..., :-1], *inner]),
        A={index: calls(parts) for index, parts in A.items()},
        b={row: calls(parts) for row, parts in b.items()},
        noise={row: calls(parts) for row, parts in G.items()},
    )


def shares(sigma_t: torch.Tensor, middle: torch.Tensor, sigma_s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the noises of a step's two calls in the one noise of the step: those of a Brownian path in sigma.

    The first call's noise belongs to the way from sigma_t to the inner level, all of the step from inf; the second's to the
    rest. The squares sum to 1.
    """
    regular = torch.isfinite(sigma_t)
    whole = torch.where(regular, sigma_t - sigma_s, torch.ones_like(sigma_s))
    part = torch.where(regular, middle - sigma_s, torch.zeros_like(sigma_s)) / whole
    return (1 - part).sqrt(), torch.where(part > 0, part, torch.ones_like(part)).sqrt() * (part > 0)
