r"""Search for levels with few network calls: a surrogate, corrected by the network's measured results.

The :mod:`~sigmatune.tuning.surrogate` predicts the plan's end points :math:`\hat x(y)` for levels y (their logarithms).
For some levels :math:`y_j` the network has been run, with the end points :math:`x_j`. Kriging interpolates the
differences,

.. math:: x(y) \approx \hat x(y) + \sum_j w_j(y) \, \big( x_j - \hat x(y_j) \big),

with the weights w of ordinary kriging (they sum to 1, and the estimate is exact wherever the network was run). L-BFGS
minimises the estimate's error from the best levels so far, the network runs there, and so on: one plan per trial, where
a gradient costs four and carries less information about levels farther away.

References:
    | Space mapping: the state of the art (Bandler et al., 2004), https://doi.org/10.1109/TMTT.2003.820904
    | Design and Analysis of Computer Experiments (Sacks et al., 1989), https://doi.org/10.1214/ss/1177012413, for kriging
    | The use on noise levels is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize

from sigmatune.core.schedule import Schedule
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.plan.reference import HIGHEST
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.parameters import Freedom, Parameters
from sigmatune.tuning.surrogate import MODES, Surrogate
from sigmatune.tuning.workbench import Workbench

LENGTH = 1.0
"""Correlation length of the differences, in log sigma per level."""

NUGGET = 1e-6
STARTS = 2
"""From how many of the best levels so far to minimise the estimate."""

ITERATIONS = 15
PATIENCE = 5
"""Trials without a better one after which the search stops."""

BETTER = 1e-3


def tune_by_kriging(
    bench: Workbench,
    surrogate: Surrogate,
    known: Sequence[Plan],
    solver: str,
    *,
    trials: int,
    affordable: Callable[[Plan], bool] = lambda plan: True,
) -> list[Plan]:
    """Tries the plans that minimise the corrected surrogate.

    Args:
        bench: The workbench; its tuning noises are used.
        surrogate: Its surrogate.
        known: Plans of one solver and one number of steps, at least one, which the network runs first.
        solver: Their solver.
        trials: Most further plans to try.
        affordable: Says whether a plan may still be tried.

    Returns:
        The tried plans, best first on the tuning noises.
    """
    space = _Space(bench, surrogate, solver)
    for plan in known:
        space.ask(plan)
    tried: list[tuple[float, Plan]] = []
    best, waited = min(space.scores), 0
    for done in range(trials):
        bench.progress(f"{known[0].steps} steps: corrected surrogate", done, trials)
        proposed = space.proposal()
        if proposed is None or not affordable(proposed) or waited >= PATIENCE:
            break
        tried.append((space.ask(proposed), proposed))
        waited = 0 if tried[-1][0] < best - BETTER else waited + 1
        best = min(best, tried[-1][0])
    return [plan for _, plan in sorted(tried, key=lambda pair: pair[0])]


class _Space:
    """The plans that the network has run so far, and the estimate in between."""

    def __init__(self, bench: Workbench, surrogate: Surrogate, solver: str) -> None:
        self.bench, self.surrogate, self.solver = bench, surrogate, solver
        self.ends = bench.model.path.sigma_min, min(bench.model.path.sigma_max, HIGHEST)
        self.plans: list[Plan] = []
        self.scores: list[float] = []
        self.places: list[torch.Tensor] = []
        self.differences: list[torch.Tensor] = []

    def ask(self, plan: Plan) -> float:
        """Runs a plan on the network."""
        score, ends = self.bench.score(plan, "tuning"), torch.from_numpy(self.bench.watched(plan, MODES))
        self.plans.append(plan)
        self.scores.append(score)
        self.places.append(_place(torch.from_numpy(plan.schedule.sigmas.copy())))
        self.differences.append(ends - self.surrogate.run(plan.coefficients))
        return score

    def proposal(self) -> Plan | None:
        """The plan that minimises the estimate, None if it has been tried."""
        estimate = self._estimate()
        best = sorted(range(len(self.plans)), key=lambda i: self.scores[i])[:STARTS]
        sigmas = min((self._minimised(estimate, self.plans[i].schedule) for i in best), key=lambda pair: pair[0])[1]
        schedule = Schedule(sigmas, "surrogate").bound(self.bench.model.path)
        try:
            plan = self.bench.plan(schedule, self.solver)
        except SigmaTuneError:  # two levels on one whole timestep
            return None
        same = any(plan.coefficients.digits() == other.coefficients.digits() for other in self.plans)
        return None if same else plan

    def _estimate(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The kriged differences between the end points' modes and the surrogate's."""
        places, differences = torch.stack(self.places), torch.stack(self.differences)
        n = len(places)
        system = torch.ones(n + 1, n + 1, dtype=torch.float64)
        system[:n, :n] = _alike(places, places) + NUGGET * torch.eye(n)
        system[n, n] = 0
        inverse = torch.linalg.inv(system)

        def kriged(sigmas: torch.Tensor) -> torch.Tensor:
            alike = _alike(places, _place(sigmas)[None])[:, 0]
            weights = (inverse @ torch.cat([alike, alike.new_ones(1)]))[:n]
            difference: torch.Tensor = torch.tensordot(weights, differences, dims=1)
            return difference

        return kriged

    def _minimised(self, kriged: Callable[[torch.Tensor], torch.Tensor], start: Schedule) -> tuple[float, Array]:
        parameters = Parameters(start, self.solver, self.ends, Freedom())

        def objective(x: Array) -> tuple[float, Array]:
            point = torch.tensor(x, requires_grad=True)
            ends = self.surrogate.run(parameters.table(point)) + kriged(parameters.sigmas(point))
            value = self.surrogate.errors(ends).log().mean()
            return value.item(), torch.autograd.grad(value, point)[0].numpy()

        options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS}
        minimum = minimize(objective, np.zeros(parameters.sizes[0]), jac=True, method="L-BFGS-B", options=options)
        with torch.no_grad():
            return float(minimum.fun), parameters.sigmas(torch.from_numpy(minimum.x)).numpy()


def _place(sigmas: torch.Tensor) -> torch.Tensor:
    """The logarithms of the positive levels."""
    return sigmas[:-1].clamp(max=HIGHEST).log()


def _alike(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The Matern kernel of order 3/2 between levels, (n, N) and (m, N) to (n, m)."""
    distance = ((a[:, None] - b[None]) / LENGTH).square().mean(dim=-1).clamp(min=1e-24).sqrt() * 3**0.5
    return (1 + distance) * torch.exp(-distance)
