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
from typing import Any, Literal

import torch

from sigmatune.errors import SigmaTuneError
from sigmatune.machine import Coefficients
from sigmatune.options import full_options, known_options


@dataclass(frozen=True)
class Solver:
    """A solver and what it declares about itself; law tests hold it to every word.

    Attributes:
        name: Its name in the registry.
        build: ``build(sigmas, *, previous=None, option=default, ...)`` returns the coefficients. sigmas are float64
            levels, (..., N + 1), descending, the last 0 or positive; previous are levels of earlier calls whose outputs
            the state already holds, (..., p), descending, for a multistep solver that starts with its full order.
        calls: Network calls as a function of the number of steps N, for a schedule that ends in 0.
        width: Tensors that the state holds, with the default options.
        order: Order of convergence with exact starting history, on levels that end above 0; of the mean and covariance
            (weak order) where noise is added.
        cold_order: Order of convergence from a cold start.
        summary: One line for listings.
        history: How many earlier outputs it uses.
        noise: The option that scales the noise that is added; its plans are deterministic only where that is 0. None for
            a solver that adds no noise.
        remembers: What the earlier outputs in its state are: estimates of the data or of the noise.
        grid: What the steps must be even in for the order to hold: any smooth grid ("any") or sigma itself.
    """

    name: str
    build: Callable[..., Coefficients]
    calls: Callable[[int], int]
    width: int
    order: int
    cold_order: int
    summary: str
    history: int = 0
    noise: str | None = None
    remembers: Literal["data", "noise"] = "data"
    grid: Literal["any", "sigma"] = "any"

    @property
    def defaults(self) -> dict[str, Any]:
        """The solver's options with their default values."""
        return known_options(self.build, without=["previous", "order"])

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Completes options with the defaults.

        Raises:
            SigmaTuneError: for an unknown option, or a value that is not a finite number where one is needed.
        """
        return full_options(self.name, self.defaults, given)

    def deterministic(self, **options: Any) -> bool:
        """Whether plans with these options add no noise."""
        return self.noise is None or self.options(options)[self.noise] == 0

    def steps_for(self, calls: int) -> int:
        """The largest number of steps whose calls fit into a budget.

        Raises:
            SigmaTuneError: if not even one step fits.
        """
        least = self.calls(1)
        if least > calls:
            raise SigmaTuneError(f"{self.name} needs at least {least} network calls, but the budget is {calls}.")
        return bisect_right(range(1, calls + 1), calls, key=self.calls)  # no step is free


def one_call_each(steps: int) -> int:
    """Calls of a solver that asks the network once per step."""
    return steps


def scales(sigmas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The data scale alpha and the noise scale s of the unit state, both shaped like the levels."""
    return (1 + sigmas**2).rsqrt(), (1 + sigmas**-2).rsqrt()


def euler_step(sigmas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    r"""What an Euler step keeps of z and takes of D, :math:`s_s / s_t` and :math:`\alpha_s (1 - \sigma_s / \sigma_t)`.

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
    noise: torch.Tensor | None = None,
) -> Coefficients:
    """Lays out a solver whose first state tensor is always the network's input.

    Args:
        sigmas: The levels, (..., N + 1).
        q: The level of each network call, (..., K).
        A: The entries (i, j) of the state's matrices that are not zero, each (..., K).
        b: The entries i of the output's weights that are not zero, each (..., K).
        noise: Standard deviation of the noise that each call adds to the first tensor, (..., K).

    Returns:
        Coefficients with c = (1, 0, ...) throughout, starting from z = s_0 eps (+ alpha_0 x0).
    """
    width = 1 + max(*b, *(i for i, _ in A), *(j for _, j in A), 0)
    zero = torch.zeros_like(q)
    first = torch.zeros(*q.shape[:-1], width, dtype=q.dtype)
    first[..., 0] = 1
    alpha, s = scales(sigmas[..., 0])
    if noise is None or not bool((noise != 0).any()):
        G = torch.zeros(*q.shape, width, 0, dtype=q.dtype)
    else:
        G = (noise.unsqueeze(-1) * first.unsqueeze(-2)).unsqueeze(-1)
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
