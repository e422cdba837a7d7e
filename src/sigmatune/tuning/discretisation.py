r"""Levels from the discretisation loss: how much the denoiser changes between two levels.

Euler through :math:`\sigma_0 > \dots > \sigma_M > 0` is a left Riemann sum in :math:`1/\sigma`,

.. math:: x_M = \frac{\sigma_M}{\sigma_0} x_0 + \sum_i w_i D_i, \qquad
          w_i = \sigma_M \left(\frac1{\sigma_{i+1}} - \frac1{\sigma_i}\right) \ge 0

and keeps each denoiser output :math:`D_i` over an interval in which the ideal output changes. The error table states by
how much: along Markov noise :math:`E \lVert D(x_s) - D(x_t) \rVert^2 = e(\sigma_t) - e(\sigma_s)`. That gives two
losses, both sums over intervals:

.. math:: J = \sum_i w_i \, e(\sigma_i), \qquad
          J_{KL} = \sum_i \int_{\sigma_{i+1}}^{\sigma_i} \frac{e(\sigma_i) - e(\sigma)}{\sigma^3} \, d\sigma .

A sum over intervals is minimised exactly, for every number of steps at once, by dynamic programming over a grid of
levels. Both are surrogates, loose at few steps: the levels are a candidate, and the guard decides.

References:
    | Optimizing Few-Step Sampler for Diffusion Probabilistic Model (Huang, 2024), https://arxiv.org/abs/2412.10786
    | Align Your Steps (Sabour et al., 2024), https://arxiv.org/abs/2404.14507, for the second weight
    | The closed form through e and the dynamic programme are derived here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from sigmatune.core.schedule import Schedule, whole
from sigmatune.noise import Array, NoisePath
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.error_table import ErrorTable

Weighting = Literal["riemann", "kl"]

GRID = 400
"""Levels among which the dynamic programme chooses."""


def interval_costs(sigma: Array, error: Array, weighting: Weighting = "riemann") -> Array:
    """The loss of every interval of a grid.

    Args:
        sigma: Levels, descending, (G,).
        error: e at each, (G,).
        weighting: "riemann" for J, "kl" for J_KL (its integral by the trapezoidal rule on the grid).

    Returns:
        The cost of going from level i to level j > i at once as entry (i, j) of a table (G, G); infinite elsewhere.

    Raises:
        SigmaTuneError: for an unknown weighting.
    """
    if weighting == "riemann":
        cost = sigma[-1] * (1 / sigma[None, :] - 1 / sigma[:, None]) * error[:, None]
    elif weighting == "kl":
        integrand = error / sigma**3
        steps = 0.5 * (integrand[1:] + integrand[:-1]) * -np.diff(sigma)
        done = np.concatenate([[0.0], steps.cumsum()])
        flat = 0.5 * (1 / sigma[None, :] ** 2 - 1 / sigma[:, None] ** 2)
        cost = error[:, None] * flat - (done[None, :] - done[:, None])
    else:
        raise SigmaTuneError(f"a weighting is 'riemann' or 'kl', not {weighting!r}.")
    return np.where(np.arange(len(sigma))[:, None] < np.arange(len(sigma))[None, :], cost, np.inf)


def shortest(cost: Array, most: int) -> tuple[Array, list[NDArray[np.intp]]]:
    """Finds the cheapest path from the first to the last node, for every number of intervals, by dynamic programming.

    Args:
        cost: (G, G), infinite where a step is not allowed.
        most: Largest number of intervals, at least 1.

    Returns:
        The least sums for 1..most intervals, and the nodes of each path, both ends included.
    """
    value, before, sums = cost[0], [], [cost[0, -1]]
    for _ in range(1, most):
        through = value[:, None] + cost
        before.append(through.argmin(axis=0))
        value = through.min(axis=0)
        sums.append(value[-1])
    ways = []
    for intervals in range(1, most + 1):
        way = [len(cost) - 1]
        for back in reversed(before[: intervals - 1]):
            way.append(int(back[way[-1]]))
        ways.append(np.array([0, *reversed(way)], dtype=np.intp))
    return np.array(sums), ways


def schedules(
    table: ErrorTable,
    path: NoisePath,
    most: int = 50,
    *,
    ends: tuple[float, float] | None = None,
    weighting: Weighting = "riemann",
    grid: int = GRID,
) -> list[Schedule]:
    """Solves for 1..most steps at once; costs no network call.

    Args:
        table: The model's errors.
        path: The model's noise path.
        most: Largest N.
        ends: The first and the last positive level; the table's, inside the path, by default.
        weighting: The loss.
        grid: Log-spaced levels to choose from.

    Returns:
        The schedules of N = 1..most, of family "discretisation"; a single step starts at the first level.

    Raises:
        SigmaTuneError: for ends outside the path, or more steps than the grid has levels.
    """
    most = whole(most, "most")
    if most > whole(grid, "grid"):
        raise SigmaTuneError(f"a grid of {grid} levels has no {most} different ones; pass a larger grid.")
    high, low = ends or (min(float(table.sigma[-1]), path.sigma_max), max(float(table.sigma[0]), path.sigma_min))
    path.check(np.array([high, low]))
    sigma = np.geomspace(high, low, grid)
    sigma[0], sigma[-1] = high, low
    sums, ways = shortest(interval_costs(sigma, table.at(sigma), weighting), max(most - 1, 1))
    notes = {"weighting": weighting}
    optima = [Schedule(np.array([high, 0.0]), "discretisation", notes)]
    for total, way in zip(sums[: most - 1], ways, strict=False):
        optima.append(Schedule(np.append(sigma[way], 0.0), "discretisation", {**notes, "loss": float(total)}))
    return optima


def loss(table: ErrorTable, sigmas: Array) -> float:
    """J of positive levels, descending, (M + 1,)."""
    weights = sigmas[-1] * np.diff(1 / sigmas)
    return float(weights @ table.at(sigmas[:-1]))


def by_gradient(table: ErrorTable, steps: int, *, ends: tuple[float, float]) -> Array:
    """Minimises J by L-BFGS over softmax gaps of log sigma: a check of the dynamic programme, not limited to its grid.

    Args:
        table: The model's errors.
        steps: N >= 2.
        ends: The first and the last positive level.

    Returns:
        The N positive levels.
    """
    high, low = np.log(ends)
    knots, values = torch.from_numpy(np.log(table.sigma)), torch.from_numpy(table.rising)

    def levels(x: torch.Tensor) -> torch.Tensor:
        inner = high - (high - low) * torch.cumsum(torch.softmax(x, dim=0), dim=0)
        return torch.cat([inner.new_tensor([high]), inner[:-1], inner.new_tensor([low])])

    def objective(x: Array) -> tuple[float, Array]:
        point = torch.tensor(x, requires_grad=True)
        y = levels(point)
        right = torch.searchsorted(knots, y[:-1].detach()).clamp(1, len(knots) - 1)
        share = ((y[:-1] - knots[right - 1]) / (knots[right] - knots[right - 1])).clamp(0, 1)
        error = values[right - 1] + share * (values[right] - values[right - 1])
        total = torch.log((torch.exp(low - y).diff() * error).sum())
        return total.item(), torch.autograd.grad(total, point)[0].numpy()

    starts = [np.zeros(steps - 1), np.linspace(1, -1, steps - 1), np.linspace(-1, 1, steps - 1)]
    descents = [minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000}) for start in starts]
    best = min(descents, key=lambda result: float(result.fun)).x
    return np.asarray(levels(torch.from_numpy(best)).exp().numpy())
