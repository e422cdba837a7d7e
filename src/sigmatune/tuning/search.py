r"""Search for the noise levels themselves: CMA-ES over :math:`\log \sigma_0, \dots, \log \sigma_{N-1}`.

Each trial is sorted, kept inside the model's range and spread to a smallest spacing, so that every vector is a valid
schedule. An infinite first level stays infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from cmaes import CMA

from sigmatune.core.schedule import Schedule
from sigmatune.noise import Array, NoisePath
from sigmatune.plan.reference import HIGHEST

SPACING = 0.01
"""Smallest distance of two levels in log sigma."""

STEP = 0.3
"""First standard deviation of the search, in log sigma."""


def repair(y: Array, low: float, high: float) -> Array:
    """Makes any vector a descending list of log levels inside [low, high] with a smallest spacing.

    Args:
        y: Log levels, (m,), in any order.
        low, high: Log of the ends.
    """
    y = np.clip(np.sort(y)[::-1], low, high)
    spacing = min(SPACING, (high - low) / max(len(y), 1))
    for i in range(1, len(y)):
        y[i] = min(y[i], y[i - 1] - spacing)
    # Pushing levels down may leave the range at the bottom; push back up from there.
    y[-1:] = np.maximum(y[-1:], low)
    for i in range(len(y) - 2, -1, -1):
        y[i] = max(y[i], y[i + 1] + spacing)
    return y


def search(
    starts: Sequence[Schedule],
    objective: Callable[[list[Schedule]], list[float]],
    path: NoisePath,
    *,
    evaluations: int,
    seed: int,
    affordable: Callable[[int], bool] = lambda trials: True,
) -> Schedule:
    """Improves schedules by CMA-ES: each start gets an equal share of half the budget, the best of them the rest.

    References:
        | The CMA Evolution Strategy: A Tutorial (Hansen, 2016), https://arxiv.org/abs/1604.00772
        | cmaes: A Simple yet Practical Python Library for CMA-ES (Nomura and Shibata, 2024), https://arxiv.org/abs/2402.01373

    Args:
        starts: Schedules of one length to start from, best first.
        objective: The function to minimise, for one generation of trials at once.
        path: Bounds the levels.
        evaluations: How often the objective may be called, the starts' own values not counted.
        seed: Seed of the search.
        affordable: Whether the budget pays for this many more trials; the search stops if it does not.

    Returns:
        The best schedule that was tried, or the first start if there was no budget for a single generation.
    """
    runs = [_Run(start, objective, path, seed + i, affordable) for i, start in enumerate(starts)]
    share = evaluations // (2 * len(runs))
    for run in runs:
        run.spend(share)
    best = min(runs, key=lambda run: run.best[0])
    best.spend(evaluations - sum(run.spent for run in runs))
    return min((run.best for run in runs), key=lambda pair: pair[0])[1]


class _Run:
    def __init__(
        self,
        start: Schedule,
        objective: Callable[[list[Schedule]], list[float]],
        path: NoisePath,
        seed: int,
        affordable: Callable[[int], bool],
    ) -> None:
        self.objective, self.affordable = objective, affordable
        self.head = start.sigmas[:1] if np.isinf(start.sigmas[0]) else start.sigmas[:0]
        self.ends = path.sigma_min, min(path.sigma_max, HIGHEST)
        mean = np.log(start.sigmas[len(self.head) : -1])
        self.best = (np.inf, start)
        self.spent = 0
        size = min(4 + int(3 * np.log(len(mean))), 10) if len(mean) > 0 else 0
        # cmaes needs two dimensions; a dummy one is ignored.
        self.dimensions = len(mean)
        padded = np.concatenate([mean, np.zeros(max(0, 2 - len(mean)))])
        self.cma = CMA(mean=padded, sigma=STEP, population_size=max(size, 5), seed=seed % 2**32) if size else None

    def spend(self, evaluations: int) -> None:
        """Runs as many whole generations as the budget allows."""
        if self.cma is None:
            return
        for _ in range(evaluations // self.cma.population_size):
            if not self.affordable(self.cma.population_size):
                return
            asked = [self.cma.ask() for _ in range(self.cma.population_size)]
            trials = [self._schedule(y) for y in asked]
            values = self.objective(trials)
            self.spent += len(trials)
            self.best = min(self.best, *zip(values, trials, strict=True), key=lambda pair: pair[0])
            self.cma.tell(list(zip(asked, values, strict=True)))

    def _schedule(self, y: Array) -> Schedule:
        levels = np.clip(np.exp(repair(y[: self.dimensions], *np.log(self.ends))), *self.ends)
        return Schedule(np.concatenate([self.head, levels, [0.0]]), "cma-es")
