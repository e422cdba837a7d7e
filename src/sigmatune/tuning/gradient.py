r"""Tuning by gradient: levels, queried levels, and the plan's own coefficients, through the plan to its end points.

A plan is differentiable from its levels to its images. With the reference end points :math:`x^*_i` of some noises,

.. math:: \min_{\sigma, q, \Delta W, \Delta\rho} \; \operatorname{mean}_i \, \ell \left( x_i(\sigma, q, W + \Delta W, \rho +
          \Delta\rho), \; x^*_i \right)

is minimised by L-BFGS, which suits a smooth objective on fixed noises. Nothing can leave the set of valid plans: the
gaps of log sigma, from the top of the range to its bottom, are a softmax with a smallest share. Where the network's
activations of all calls need much memory, the backward pass recomputes them (:mod:`~sigmatune.tuning.activations`).

- ``start``: the start noise times a number near 1; the first level of few steps is so low that noise alone is too small there.
- ``queries``: call the network at :math:`q_k = \sigma_k e^{\delta_k}` instead of at :math:`\sigma_k`.
- ``coefficients``: corrections to the triangular table of the classical solver (:mod:`~sigmatune.core.unrolled`), zero at
  first. With tied sums each row of corrections adds up to 0, so a constant denoiser is still integrated exactly; free
  sums and the start noise's weights can also compensate for errors of the network and of the range.

The validation noises decide: the search returns the iterate that is best there, and stops when these errors stop
improving.

References:
    | Learning to Discretize Denoising Diffusion ODEs (Tong et al., 2024), https://arxiv.org/abs/2405.15506
    | Generalized Solvers for diffusion ODEs, and S4S, for learned coefficients; the parametrisation here is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize

from sigmatune.core.loop import run
from sigmatune.core.schedule import Schedule, whole
from sigmatune.core.table import digits
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.plan.reference import HIGHEST
from sigmatune.solvers import SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import positive
from sigmatune.tuning.activations import KEPT, Differentiable, activation_bytes
from sigmatune.tuning.parameters import Freedom, Parameters
from sigmatune.tuning.workbench import Workbench

MEMORY = 2**28
"""Bytes of the states kept for the backward pass; rows that need more are differentiated one by one."""

FIRST_STEP = 0.05
"""Length of L-BFGS's first step in the parameters; its own, 1, lands where the error is several times that of the start, and
a small budget ends on the way back."""

PATIENCE = 4
"""Iterations without progress on the validation noises after which the search stops."""


@dataclass(frozen=True)
class DescentLimits:
    """How much a descent may spend.

    Attributes:
        iterations: Most iterations of L-BFGS.
        affordable: Says whether this many more network evaluations may be spent; the search stops where they may not.
    """

    iterations: int = 20
    affordable: Callable[[int], bool] = lambda evaluations: True


UNLIMITED = DescentLimits()


def tune_by_gradient(
    bench: Workbench,
    start: Schedule,
    solver: str,
    *,
    freedom: Freedom | None = None,
    firsts: Callable[[Parameters], Sequence[Array]] = lambda parameters: [],
    limits: DescentLimits = UNLIMITED,
) -> Plan:
    """Improves a schedule, and on request the coefficients, by L-BFGS through the plan.

    A store keeps every value and gradient, so that a killed search resumes where it was.

    Args:
        bench: The workbench; the gradient sees its tuning noises, the choice among iterates its validation noises.
        start: The schedule to start from.
        solver: A deterministic solver of the registry.
        freedom: The variables and the loss; only the levels and the log error by default.
        firsts: Other starting points, each farther from the start; the search begins at the last before the first that is no
            better than the one before it, on the tuning noises.
        limits: How much it may spend.

    Returns:
        The plan of the iterate that is best on validation, or the start's plan if none is better.

    Raises:
        SigmaTuneError: for a stochastic solver, a network of whole timesteps, whose levels do not move smoothly, or a measure
            that is not linear, unless the distance is of other features.
    """
    freedom, model = freedom or Freedom(), bench.model
    if freedom.features is None and not bench.measure.linear:
        raise SigmaTuneError(
            f"the measure {bench.measure.name} has no gradient; take whitened or rms, or pass features."
        )
    iterations = whole(limits.iterations, "iterations")
    positive(iterations=iterations)
    if not SOLVERS[solver].paired():
        raise SigmaTuneError(
            f"{SOLVERS[solver].name} adds noise or samples in phase space; the gradient needs a deterministic solver."
        )
    if model.integer_time:
        raise SigmaTuneError("this network knows whole timesteps only, so its levels cannot follow a gradient.")
    ends = model.path.sigma_min, min(model.path.sigma_max, HIGHEST)
    parameters = Parameters(start, solver, ends, freedom)
    objective = _Objective(bench, parameters, limits)
    first, lowest = np.zeros(objective.size), np.inf
    for x in (first, *firsts(parameters)):
        value = bench.score(objective.plan(x), "tuning")
        if value >= lowest:
            break
        first, lowest = x, value
    chosen = _Chosen(objective, first)

    def place(y: Array) -> Array:
        return np.asarray(first + FIRST_STEP * y)

    def scaled(y: Array) -> tuple[float, Array]:
        value, slope = objective(place(y))
        return value, FIRST_STEP * slope

    def watch(intermediate_result: OptimizeResult) -> None:
        chosen.judge(place(intermediate_result.x))
        if chosen.waited >= PATIENCE:
            raise StopIteration

    options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 1e-7, "gtol": 1e-6 * FIRST_STEP}
    try:
        minimize(scaled, np.zeros(objective.size), jac=True, method="L-BFGS-B", options=options, callback=watch)
    except _Spent:  # within a line search, whose points L-BFGS has not yet taken
        if objective.done:
            chosen.judge(objective.lowest[1])
    return objective.plan(chosen.x)


class _Chosen:
    """The point whose plan is best on the validation noises, and how many points since were no better."""

    def __init__(self, objective: _Objective, first: Array) -> None:
        self.objective, self.x, self.waited = objective, first, 0
        self.value = self._score(first)

    def judge(self, x: Array) -> None:
        value = self._score(x)
        self.waited = 0 if value < self.value - 1e-4 else self.waited + 1
        if value < self.value:
            self.value, self.x = value, x

    def _score(self, x: Array) -> float:
        return self.objective.bench.score(self.objective.plan(x), "validation")


class _Spent(Exception):
    """The budget does not pay for the next gradient."""


class _Objective:
    """The loss on the tuning noises and its gradient."""

    def __init__(self, bench: Workbench, parameters: Parameters, limits: DescentLimits = UNLIMITED) -> None:
        self.bench, self.parameters, self.affordable = bench, parameters, limits.affordable
        self.size = sum(parameters.sizes)
        self.indices = bench.settings.rows("tuning")
        self.exact = bench.reference("tuning")
        self.at_once = _rows_at_once(bench, parameters)
        levels = parameters.table(torch.zeros(self.size, dtype=torch.float64)).q.tolist()
        self.model = Differentiable(bench.model, kept=_room(bench, levels, self.at_once))
        self.done = 0
        self.lowest = float("inf"), np.zeros(self.size)

    def plan(self, x: Array) -> Plan:
        return self.parameters.plan(torch.from_numpy(x), self.bench)

    def __call__(self, x: Array) -> tuple[float, Array]:
        levels = self.parameters.table(torch.from_numpy(x)).q.tolist()
        calls = sum(self.bench.model.calls_at(level) for level in levels)
        parts = -(-len(self.indices) // self.at_once)
        price = self.model.price * parts * self.at_once * calls
        if not self.affordable(price):
            raise _Spent
        self.bench.progress(f"gradient {self.done + 1}", 1, 1)
        self.done += 1
        if self.parameters.freedom.features is not None:  # a function has no name as a key
            self.bench.spend("gradient", price)
            loss_and_gradient = self._measured(x)
        else:
            name = self.bench.by_measure(f"gradient of {self.parameters.name} on {self.indices} at {digits(x).hex()}")
            loss_and_gradient = self.bench.array(name, lambda: self._measured(x), purpose="gradient", evaluations=price)
        value = float(loss_and_gradient[0])
        if value < self.lowest[0]:
            self.lowest = value, x.copy()
        return value, loss_and_gradient[1:]

    def _measured(self, x: Array) -> Array:
        """The loss, followed by its gradient."""
        point, size = torch.tensor(x, requires_grad=True), self.at_once
        total, gradient = 0.0, np.zeros_like(x)
        for first in range(0, len(self.indices), size):
            part = self.indices[first : first + size]
            with torch.enable_grad():
                table = self.parameters.table(point)
                ends = run(table, self.model, seed=self.bench.settings.seed, indices=part, micro_batch=size)
                value = self._loss(ends, self.exact[first : first + size]) / len(self.indices)
            gradient += torch.autograd.grad(value, point)[0].numpy()
            total += value.item()
        return np.append(total, gradient)

    def _errors(self, ends: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        features = self.parameters.freedom.features
        if features is None:
            return self.bench.measure.squares(ends, exact.to(ends)).clamp(min=1e-24).sqrt()
        away = features(ends).double() - features(exact.to(ends)).double()
        return away.flatten(1).square().mean(dim=1).clamp(min=1e-24).sqrt()

    def _loss(self, ends: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        e, kind = self._errors(ends, exact), self.parameters.freedom.loss
        if kind == "log":
            return e.log().sum()
        if kind == "l2":
            return e.square().sum()
        return ((e.square() + self.scale**2).sqrt() - self.scale).sum()

    @cached_property
    def scale(self) -> float:
        """The median error of the start."""
        ends = self.bench.outputs(self.plan(np.zeros(self.size)), "tuning", rows=len(self.indices), purpose="gradient")
        return self._errors(ends, self.exact).median().item()


def _rows_at_once(bench: Workbench, parameters: Parameters) -> int:
    """Rows per call of the network: the workbench's, or fewer, if the states of a backward pass leave less room."""
    rolled_out = parameters.freedom.coefficients or parameters.freedom.queries
    width = parameters.calls + 1 if rolled_out else parameters.solver.width
    each = parameters.calls * (width + 3) * int(np.prod(bench.model.shape)) * bench.model.dtype.itemsize
    return max(min(bench.settings.micro_batch, MEMORY // each), 1)


def _room(bench: Workbench, levels: Sequence[float], rows: int) -> bool:
    """Whether the activations of calls at these levels may be kept for so many rows."""
    costliest = max(levels, key=bench.model.calls_at)  # guidance may act in an interval only
    price = bench.model.calls_at(costliest)

    def measured() -> int:
        bench.spend("check", price)
        return activation_bytes(bench.model, bench.settings.rows("tuning")[0], costliest)

    each = bench.once(f"activation bytes of {price} network calls", measured)
    return each * len(levels) * rows <= KEPT
