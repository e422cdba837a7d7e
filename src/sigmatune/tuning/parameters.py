"""What the gradient moves: a plan's levels, the levels that it asks at, its coefficients and its start noise, as variables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from sigmatune.core.schedule import Schedule
from sigmatune.core.table import Coefficients
from sigmatune.core.unrolled import Unrolled, rolled, unrolled
from sigmatune.plan import Plan
from sigmatune.solvers import SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.workbench import Workbench

Loss = Literal["log", "l2", "robust"]
Sums = Literal["tied", "free"]

LEAST = 0.005
"""Smallest gap of two levels as a share of the whole range of log sigma."""


@dataclass(frozen=True)
class Freedom:
    """The variables of the gradient, and the distance of a result from the reference.

    Attributes:
        queries: Also the levels at which the network is called.
        coefficients: Also the plan's coefficients.
        start: Also how large the start noise is.
        sums: "tied": the corrections of a row add up to 0; "free": they need not, and the start noise's weights move too.
        loss: Of the errors e of the rows, by the workbench's measure: "log", mean log e, what the guard compares; "l2", mean
            e^2; "robust", mean sqrt(e^2 + m^2) - m with m the median of the start's e.
        features: Compare these features by root mean square instead, (B, *shape) to (B, ...).
    """

    queries: bool = False
    coefficients: bool = False
    sums: Sums = "tied"
    loss: Loss = "log"
    features: Callable[[torch.Tensor], torch.Tensor] | None = None
    start: bool = field(default=False, repr=False)

    @property
    def custom(self) -> bool:
        """Whether its plans have coefficients that no solver has."""
        return self.queries or self.coefficients or self.start

    def __post_init__(self) -> None:
        if self.sums not in ("tied", "free") or self.loss not in ("log", "l2", "robust"):
            raise SigmaTuneError(
                f"sums are 'tied' or 'free' and a loss is 'log', 'l2' or 'robust', not {self.sums!r} and {self.loss!r}."
            )


class Parameters:
    """The map from a flat vector to a plan's table, zero being the start.

    Args:
        start: The schedule to start from; an infinite first level stays.
        solver: A deterministic solver of the registry.
        ends: The range of the levels, (low, high).
        freedom: What may move.
    """

    def __init__(self, start: Schedule, solver: str, ends: tuple[float, float], freedom: Freedom) -> None:
        self.solver, self.freedom = SOLVERS[solver], freedom
        self.name = (
            f"{self.solver.name} from {start.sigmas.tolist()} between {ends} with {freedom}{', start' * freedom.start}"
        )
        self.head = torch.from_numpy(start.sigmas[:1].copy())[np.isinf(start.sigmas[:1])]
        self.low, self.high = float(np.log(ends[0])), float(np.log(ends[1]))
        y = np.clip(np.log(start.sigmas[len(self.head) : -1]), self.low, self.high)
        gaps = np.maximum(-np.diff(np.concatenate([[self.high], y, [self.low]])), 0) / (self.high - self.low)
        self.least = min(LEAST, 0.5 / len(gaps))
        # A tiny gap would have almost no gradient.
        self.logits = torch.from_numpy(np.log(np.maximum(gaps - self.least, self.least)))
        self.calls = self.solver.calls(start.steps)
        queried = self.calls if freedom.queries else 0
        learned = self.calls * (self.calls + 1) // 2 if freedom.coefficients else 0
        weights = self.calls if freedom.coefficients and freedom.sums == "free" else 0
        self.sizes = [len(gaps), queried, learned, weights, int(freedom.start)]

    def sigmas(self, x: torch.Tensor) -> torch.Tensor:
        """The levels, (N + 1,), float64, the final 0 included."""
        gaps = torch.softmax(self.logits + x[: self.sizes[0]], dim=0)
        gaps = (1 - self.least * len(gaps)) * gaps + self.least
        y = self.high - (self.high - self.low) * torch.cumsum(gaps, dim=0)[:-1]
        return torch.cat([self.head, y.exp(), y.new_zeros(1)])

    def table(self, x: torch.Tensor) -> Coefficients:
        """The plan's table; differentiable."""
        _, shifts, corrections, weights, scale = torch.split(x, self.sizes)
        classical = self.solver.build(self.sigmas(x), **self.solver.defaults)
        if len(scale):
            classical = replace(classical, start=classical.start * (0.5 * torch.tanh(2 * scale)).exp())
        if not (self.freedom.queries or self.freedom.coefficients):
            return classical
        form = unrolled(classical)
        q, rho, W = form
        if len(shifts):
            moved = q * (0.5 * torch.tanh(2 * shifts)).exp()  # by a factor of 1.65 at most
            q = torch.where(torch.isinf(q), q, moved.clamp(np.exp(self.low), np.exp(self.high)))
        if len(corrections):
            below = torch.tril_indices(self.calls + 1, self.calls, -1)
            delta = torch.zeros_like(W).index_put(tuple(below), corrections)
            if self.freedom.sums == "tied":
                filled = torch.tril(torch.ones_like(W), -1)
                delta = delta - filled * (delta.sum(1, keepdim=True) / filled.sum(1, keepdim=True).clamp(min=1))
            W = W + delta
        if len(weights):
            rho = rho + torch.cat([weights.new_zeros(1), weights])
        return rolled(Unrolled(q, rho, W))

    def plan(self, x: torch.Tensor, bench: Workbench) -> Plan:
        """The plan at a point."""
        with torch.no_grad():
            schedule = Schedule(self.sigmas(x).numpy(), "gradient").bound(bench.model.path)
            if not self.freedom.custom:
                return bench.plan(schedule, self.solver.name)
            table = self.table(x)
        return Plan(schedule, "custom", table, bench.model.path.spec(), bench.model.fingerprint())
