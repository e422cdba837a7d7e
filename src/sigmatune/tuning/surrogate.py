r"""The surrogate: a plan without the network, from the teacher's trajectory and a linearised denoiser beside it.

Along the fine solution :math:`z^*(\sigma)` of some noises, the *teacher*, the network's outputs :math:`D^*(\sigma)` are
known. A plan of few steps leaves that trajectory; there the output is estimated to first order, with the derivative of
the ideal denoiser of Gaussian data,

.. math:: D(z; \sigma) \approx D^*(\sigma) + d(\sigma) \, (z - z^*(\sigma)), \qquad d = \frac{\alpha P}{\alpha^2 P + s^2},

mode by mode, with P the power of the mode among the model's own samples
(:mod:`~sigmatune.tuning.followed_modes`). So a plan runs in milliseconds on the noises
that the reference was solved for, any solver and any number of steps, and it is differentiable in the levels. On the
trajectory itself the surrogate is exact; beside it, the surrogate neglects how the network's derivative differs from
the Gaussian one.

Errors are those of the workbench's measure; of the usual measure for the data's shape where that is not linear.

References:
    | The Unreasonable Effectiveness of Gaussian Score Approximation (Wang and Vastola, 2024), https://arxiv.org/abs/2412.09726,
    | for how close a network's output is to that for Gaussian data
    | Using it only beside the teacher's trajectory, as a derivative, is our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.optimize import OptimizeResult, minimize

from sigmatune.core.loop import Step
from sigmatune.core.rng import START, noise
from sigmatune.core.table import Coefficients
from sigmatune.noise import Array
from sigmatune.plan import Plan, sample
from sigmatune.solvers.base import scales
from sigmatune.statistics.pieces import pieces
from sigmatune.support.progress import Count
from sigmatune.tuning.followed_modes import modes_of, summed
from sigmatune.tuning.parameters import Parameters
from sigmatune.tuning.workbench import Workbench

ROWS = 16
"""Tuning noises whose trajectories are kept."""

MODES = "modes"
"""The workbench's key for the modes of measured end points."""

FAINT = 1e-9
"""Least power of a mode, as a share of the strongest."""


class Surrogate:
    """The surrogate of one model on the first few tuning noises of a workbench.

    Building it costs the reference once more on these noises, counted as reference.

    Args:
        bench: The workbench.
        rows: How many noises, all tuning noises at most.
    """

    def __init__(self, bench: Workbench, rows: int = ROWS) -> None:
        samples = bench.reference("tuning")
        self.rows = min(rows, len(samples))
        mean = summed(part.double() for part in pieces(samples)) / len(samples)
        self._modes = modes_of(samples, mean, bench.linear_measure)
        power = summed(self._modes.rotated(part.double() - mean).square() for part in pieces(samples)) / len(samples)
        power = self._modes.smoothed(power)
        self._kept, self._weight = self._modes.chosen(power)
        self._power = power[self._kept].clamp(min=float(power.max()) * FAINT)
        self.exact = self.modes(samples[: self.rows])
        indices = bench.settings.rows("tuning")[: self.rows]
        eps = noise(bench.settings.seed, indices, START, bench.model.shape, dtype=bench.model.dtype)
        self._start = self.modes(eps)
        plan = bench.reference_plan()
        places = _place(plan.coefficients.q).numpy()[::-1].copy()
        recorded = bench.array(
            bench.by_measure(f"path of {self.rows} rows, {len(self._weight)} modes"),
            lambda: self._recorded(bench, plan, indices),
            purpose="reference", evaluations=bench.padded(self.rows) * plan.network_calls(bench.model),
        )  # fmt: skip
        self._spline = torch.from_numpy(CubicSpline(places, recorded).c), places
        bench.watch(MODES, lambda x: self.modes(x).numpy())

    def modes(self, x: torch.Tensor) -> torch.Tensor:
        """The modes that are followed, of the first rows of some images, (rows, modes), float64."""
        return torch.cat([self._modes.rotated(part.double().cpu())[:, self._kept] for part in pieces(x[: self.rows])])

    def run(self, table: Coefficients) -> torch.Tensor:
        """The modes of a plan's end points, (rows, modes); differentiable in the table.

        Args:
            table: A shared, deterministic table.
        """
        state = table.start[:, :1, None] * self._start
        alpha, s = scales(table.q)
        for k, place in enumerate(_place(table.q)):
            z = torch.tensordot(table.c[k], state, dims=1)
            d = alpha[k] * self._power / (alpha[k] ** 2 * self._power + s[k] ** 2)
            path, said = _at(self._spline, place)
            said = said + d * (z - path)
            state = torch.tensordot(table.A[k], state, dims=1) + table.b[k][:, None, None] * said
        ends: torch.Tensor = torch.tensordot(table.c[-1], state, dims=1)
        return ends

    def errors(self, modes: torch.Tensor) -> torch.Tensor:
        """The error of each row of end points, given as modes, (rows,)."""
        return ((modes - self.exact).square() @ self._weight).clamp(min=1e-24).sqrt()

    def score(self, table: Coefficients) -> torch.Tensor:
        """The mean log error of a plan, as :meth:`Workbench.score` would measure it on these noises."""
        return self.errors(self.run(table)).log().mean()

    def descended(self, parameters: Parameters, after: Sequence[int]) -> list[Array]:
        """The points that L-BFGS on the score reaches after some numbers of iterations, from zero.

        Args:
            parameters: The map from a vector to a table.
            after: Numbers of iterations, rising.
        """
        path: list[Array] = []

        def objective(x: Array) -> tuple[float, Array]:
            point = torch.tensor(x, requires_grad=True)
            value = self.score(parameters.table(point))
            return value.item(), torch.autograd.grad(value, point)[0].numpy()

        def keep(intermediate_result: OptimizeResult) -> None:
            path.append(intermediate_result.x.copy())

        start = np.zeros(sum(parameters.sizes))
        minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": max(after)}, callback=keep)
        return [path[i - 1] for i in after if i <= len(path)]

    def _recorded(self, bench: Workbench, plan: Plan, indices: range) -> Array:
        """The network inputs of the reference and the outputs, rising levels, (levels, 2, rows, modes)."""
        size, calls = bench.settings.micro_batch, plan.calls
        states = torch.empty(calls, 2, self.rows, len(self._weight), dtype=torch.float64)
        parts = [range(first, min(first + size, self.rows)) for first in range(0, self.rows, size)]
        count = Count(bench.progress, "reference trajectory", len(parts) * calls)

        def record(step: Step, part: range) -> None:
            states[calls - 1 - step.call, 0, part.start : part.stop] = self.modes(step.z)
            states[calls - 1 - step.call, 1, part.start : part.stop] = self.modes(step.x0)
            count.add(1)

        def follow(part: range) -> None:
            rows = indices[part.start : part.stop]
            watch = partial(record, part=part)
            sample(bench.model, plan, seed=bench.settings.seed, indices=rows, micro_batch=size, on_step=watch)

        with bench.engine.abreast(len(parts), bench.model) as spread:
            list(spread(follow, parts))
        return np.asarray(states.numpy())


def _place(sigma: torch.Tensor) -> torch.Tensor:
    """log(sigma / (1 + sigma)): log sigma for small levels, and finite for an infinite one."""
    return -torch.log1p(1 / sigma)


def _at(spline: tuple[torch.Tensor, Array], place: torch.Tensor) -> torch.Tensor:
    """A cubic spline, by its coefficients (4, pieces, ...), at one place; differentiable in it."""
    pieces, knots = spline
    i = int(np.clip(np.searchsorted(knots, float(place.detach()), side="right") - 1, 0, len(knots) - 2))
    t = place - float(knots[i])
    return torch.einsum("p,p...->...", torch.stack([t**3, t**2, t, torch.ones_like(t)]), pieces[:, i])
