r"""What a solver is: a function from noise levels to the coefficients of the linear state machine.

All solvers speak of the unit state :math:`z = x / \sqrt{1 + \sigma^2}` with its scales

.. math:: \alpha = 1 / \sqrt{1 + \sigma^2}, \quad s = \sigma / \sqrt{1 + \sigma^2},

so a first level of sigma = inf (alpha = 0, s = 1) needs no special case. Builders are written in torch and are
differentiable in the levels.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from sigmatune.errors import SigmaTuneError
from sigmatune.machine import Coefficients


class Build(Protocol):
    """Turns levels into coefficients."""

    def __call__(self, sigmas: torch.Tensor, *, previous: torch.Tensor | None = None) -> Coefficients:
        """Builds the table.

        Args:
            sigmas: Levels, (..., N + 1), float64, descending; the last may be 0 or positive.
            previous: Levels of earlier calls whose outputs the state already holds, (..., p), descending, for a
                multistep solver that starts with its full order. One-step solvers refuse it.
        """


@dataclass(frozen=True)
class Solver:
    """A solver and what it declares about itself; law tests hold it to every word.

    Attributes:
        name: Its name in the registry.
        build: The coefficient builder.
        calls: Network calls as a function of the number of steps N, for a schedule that ends in 0.
        width: Tensors that the state holds.
        order: Order of convergence with exact starting history, on levels that end above 0.
        cold_order: Order of convergence from a cold start.
        deterministic: Whether its plans add no noise.
        history: How many earlier outputs it uses.
        summary: One line for listings.
    """

    name: str
    build: Build
    calls: Callable[[int], int]
    width: int
    order: int
    cold_order: int
    deterministic: bool
    history: int
    summary: str

    def steps_for(self, calls: int) -> int:
        """The largest number of steps whose calls fit into a budget.

        Raises:
            SigmaTuneError: if not even one step fits.
        """
        least = self.calls(1)
        if least > calls:
            raise SigmaTuneError(f"{self.name} needs at least {least} network calls, but the budget is {calls}.")
        return bisect_right(range(1, calls + 1), calls, key=self.calls)  # no step is free


def scales(sigmas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The data scale alpha and the noise scale s of the unit state, both shaped like the levels."""
    return (1 + sigmas**2).rsqrt(), (1 + sigmas**-2).rsqrt()


def assemble(
    sigmas: torch.Tensor,
    *,
    q: torch.Tensor,
    A: Mapping[tuple[int, int], torch.Tensor],
    b: Mapping[int, torch.Tensor],
) -> Coefficients:
    """Lays out a deterministic solver whose first state tensor is always the network's input.

    Args:
        sigmas: The levels, (..., N + 1).
        q: The level of each network call, (..., K).
        A: The entries (i, j) of the state's matrices that are not zero, each (..., K).
        b: The entries i of the output's weights that are not zero, each (..., K).

    Returns:
        Coefficients with c = (1, 0, ...) throughout, starting from z = s_0 eps (+ alpha_0 x0).
    """
    width = 1 + max(*b, *(i for i, _ in A), *(j for _, j in A), 0)
    zero = torch.zeros_like(q)
    first = torch.zeros(*q.shape[:-1], width, dtype=q.dtype)
    first[..., 0] = 1
    alpha, s = scales(sigmas[..., 0])
    return Coefficients(
        q=q,
        A=torch.stack([torch.stack([A.get((i, j), zero) for j in range(width)], dim=-1) for i in range(width)], dim=-2),
        b=torch.stack([b.get(i, zero) for i in range(width)], dim=-1),
        c=first.unsqueeze(-2).expand(*q.shape[:-1], q.shape[-1] + 1, width),
        start=(s.unsqueeze(-1) * first).unsqueeze(-1),
        origin=alpha.unsqueeze(-1) * first,
        G=torch.zeros(*q.shape, width, 0, dtype=q.dtype),
    )


def no_history(name: str, previous: torch.Tensor | None) -> None:
    """Refuses a starting history for a one-step solver."""
    if previous is not None and previous.shape[-1]:
        raise SigmaTuneError(f"{name} is a one-step solver and takes no starting history.")
