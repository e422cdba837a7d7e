"""More kinds of few-step plans that others have published: written from the papers' ideas, on our own parts.

None of them is the authors' code, hence "-type". Every one sees the workbench's tuning noises and the converged end points
from them, and no validation noise: none of these methods has a guard.

- OptimalSteps-type: dynamic programming over the teacher's points; the prefix carries the student's own state, the cost is
  the mean square distance to the teacher's state at the same level. First level fixed at the top of the range.
- LD3-type: softmax levels between fixed ends, calls at levels of their own, back-propagated through the solver; the start
  noise of every training row may move within a small ball (the paper's soft teacher forcing).
- GS-type: corrections to the whole history of DPM-Solver++(3M), levels, and levels of the calls.
- DyWeight-type: levels of Karras fixed, iPNDM's weights first; weights of the history that need not sum to 1, and a factor
  on the level of each call.

A gradient counts three network evaluations: one forward, two back.

References:
    | Optimal Stepsize for Diffusion Sampling (Pei et al., 2025), https://arxiv.org/abs/2503.21774
    | LD3: Learning to Discretize Denoising Diffusion ODEs (Tong et al., 2024), https://arxiv.org/abs/2405.15506
    | GS: Generalized Solvers (Generalized Adversarial Solver, Oganov et al., 2025), https://arxiv.org/abs/2510.17699
    | DyWeight: Dynamic Gradient Weighting for Few-Step Diffusion Sampling (2026), https://arxiv.org/abs/2603.11607
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from peers import PEERS

from sigmatune import schedules
from sigmatune.core.rng import START, noise
from sigmatune.core.schedule import Schedule
from sigmatune.core.table import Coefficients
from sigmatune.core.unrolled import Unrolled, rolled, unrolled
from sigmatune.plan import Plan, compile_plan
from sigmatune.solvers import solver as named
from sigmatune.tuning import Workbench

NODES = 100
"""Points of the teacher for OptimalSteps-type, uniform in t, as in the paper."""


def optimal_steps_type(bench: Workbench, steps: int) -> Schedule:
    """The path over the teacher's points that Euler follows with the least distance to the teacher, errors carried along."""
    model = bench.model
    sigmas = schedules.build("uniform-trailing", NODES, model.path).sigmas
    x = _start(bench) * float(sigmas[0])
    teacher = [x]
    for now, after in pairwise(sigmas):
        teacher.append(_euler(bench, teacher[-1], now, after))
    states, ways = {0: x}, {0: [0]}
    for _ in range(steps):
        best: dict[int, tuple[float, torch.Tensor, list[int]]] = {}
        for i, state in states.items():
            if i == NODES:
                continue
            denoised = _denoised(bench, state, sigmas[i])
            for j in range(i + 1, NODES + 1):
                landed = denoised + (sigmas[j] / sigmas[i]) * (state - denoised)
                cost = float((landed - teacher[j]).square().mean())
                if j not in best or cost < best[j][0]:
                    best[j] = cost, landed, [*ways[i], j]
        states = {j: landed for j, (_, landed, _) in best.items()}
        ways = {j: way for j, (_, _, way) in best.items()}
    return Schedule(sigmas[ways[NODES]], "OptimalSteps-type")


def _start(bench: Workbench) -> torch.Tensor:
    """The start noises of the tuning rows."""
    return noise(bench.settings.seed, bench.settings.rows("tuning"), START, bench.model.shape, dtype=torch.float64)


def _denoised(bench: Workbench, x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The denoiser at x = x0 + sigma eps."""
    bench.spend("peer", len(x))
    model = bench.model.rows(bench.settings.rows("tuning"), 0)
    z = (x / math.hypot(1.0, sigma)).to(model.dtype)
    with torch.no_grad():
        return model(z, torch.full((len(x),), sigma, dtype=torch.float64)).double()


def _euler(bench: Workbench, x: torch.Tensor, now: float, after: float) -> torch.Tensor:
    denoised = _denoised(bench, x, now)
    return denoised + (after / now) * (x - denoised)


@dataclass(frozen=True)
class Kind:
    """What a learned peer moves.

    Attributes:
        levels: The levels, between fixed ends.
        history: Weights of all former outputs.
        free: They need not leave a constant denoiser's result as it is.
        slack: Radius of the ball in which a row's start noise may move, as a share of its length.
        rate: Learning rate of Adam.
    """

    levels: bool
    history: bool
    free: bool = False
    slack: float = 0.0
    rate: float = 0.02


class Learner(torch.nn.Module):
    """Levels, factors on the levels of the calls, and corrections to the weights of the history."""

    def __init__(self, bench: Workbench, steps: int, solver: str, kind: Kind) -> None:
        super().__init__()
        self.kind, self.solver, self.path = kind, named(solver), bench.model.path
        first = schedules.build("karras", steps, self.path).sigmas
        self.log_levels = torch.from_numpy(np.log(first[:-1]))
        gaps = -np.diff(np.log(first[:-1]))
        self.gaps = torch.nn.Parameter(torch.from_numpy(np.log(gaps / gaps.sum())), requires_grad=kind.levels)
        self.shifts = torch.nn.Parameter(torch.zeros(steps, dtype=torch.float64))
        self.weights = torch.nn.Parameter(torch.zeros(steps, steps, dtype=torch.float64), requires_grad=kind.history)
        self.scales = torch.nn.Parameter(torch.zeros(steps, dtype=torch.float64), requires_grad=kind.free)

    def sigmas(self) -> torch.Tensor:
        """The levels, (N + 1,), the last one 0."""
        high, low = self.log_levels[0], self.log_levels[-1]
        inner = high - (high - low) * torch.cumsum(torch.softmax(self.gaps, dim=0), dim=0)
        return torch.cat([high[None], inner, inner.new_full((1,), -math.inf)]).exp()

    def form(self) -> Unrolled:
        """The triangular table: what a step adds is also in all later states, shrunk as they are."""
        sigmas = self.sigmas()
        q, rho, W = unrolled(self.solver.build(sigmas, **self.solver.defaults))
        lowest, highest = self.path.sigma_min, self.path.sigma_max
        q = (q * self.shifts.tanh().mul(0.5).exp()).clamp(lowest, highest)
        if not self.kind.history:
            return Unrolled(q, rho, W)
        own = torch.tril(self.weights)
        if not self.kind.free:
            own = own - torch.tril(
                own.sum(1, keepdim=True) / torch.arange(1, len(own) + 1)[:, None] * torch.ones_like(own)
            )
        rows, row = [W.new_zeros(W.shape[1])], W.new_zeros(W.shape[1])
        for step, weights in enumerate(own):
            keep = torch.hypot(torch.ones(()), sigmas[step]) / torch.hypot(torch.ones(()), sigmas[step + 1])
            row = row * keep * sigmas[step + 1] / sigmas[step] + weights
            rows.append(row)
        moved = torch.cat([rho[:1], rho[1:] * (1 + self.scales)]) if self.kind.free else rho
        return Unrolled(q, moved, W + torch.stack(rows))

    def plan(self, bench: Workbench) -> Plan:
        """The plan of the present values."""
        with torch.no_grad():
            schedule = Schedule(self.sigmas().numpy(), "peer").bound(self.path)
            table: Coefficients = rolled(self.form())
        return Plan(schedule, "custom", table, self.path.spec(), bench.model.fingerprint())


def learned(kind: Kind, *, iterations: int = 200, batch: int = 16) -> Callable[[Workbench, int, str], Plan]:
    """A peer that learns by Adam on the mean square distance to the teacher's end points, in small batches."""

    def tuned(bench: Workbench, steps: int, solver: str) -> Plan:
        learner = Learner(bench, steps, solver, kind)
        eps, exact = _start(bench), bench.reference("tuning").double()
        moved = torch.zeros_like(eps, requires_grad=kind.slack > 0)
        rows = bench.settings.rows("tuning")
        optimizer = torch.optim.Adam([value for value in learner.parameters() if value.requires_grad], lr=kind.rate)
        slack = torch.optim.SGD([moved], lr=1.0) if kind.slack else None
        order = np.random.default_rng(bench.settings.seed)
        scale = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
        for _ in range(iterations):
            part = order.choice(len(rows), size=min(batch, len(rows)), replace=False).tolist()
            ends = _ends(bench, learner.form(), eps[part] + moved[part], [rows[i] for i in part])
            loss = (ends - exact[part]).square().mean()
            bench.spend("peer", 3 * len(part) * steps)
            optimizer.zero_grad()
            if slack is not None:
                slack.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            optimizer.step()
            scale.step()
            if slack is not None:
                slack.step()
                with torch.no_grad():  # back into the ball
                    length = moved.flatten(1).norm(dim=1) / (kind.slack * eps.flatten(1).norm(dim=1))
                    moved /= length.clamp(min=1.0)[:, None, None, None]
        return learner.plan(bench)

    return tuned


def _ends(bench: Workbench, form: Unrolled, eps: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """The end points of a triangular table; differentiable."""
    model, outputs = bench.model.rows(rows, 0), []
    for k in range(len(form.q) + 1):
        z = form.rho[k] * eps
        for weight, output in zip(form.W[k], outputs, strict=False):
            z = z + weight * output
        if k == len(form.q):
            return z
        outputs.append(model(z.to(model.dtype), form.q[k].expand(len(rows))).double())
    raise AssertionError


def _schedule_only(make: Callable[[Workbench, int], Schedule]) -> Callable[[Workbench, int, str], Plan]:
    """Levels that are found without regard to the solver."""
    return lambda bench, steps, solver: compile_plan(make(bench, steps), solver, bench.model)


def _on(base: str, tuned: Callable[[Workbench, int, str], Plan]) -> Callable[[Workbench, int, str], Plan]:
    """A table of coefficients that starts from a solver's, whichever solver it is compared with."""
    return lambda bench, steps, _: tuned(bench, steps, base)


LEARNED: dict[str, Callable[[Workbench, int, str], Plan]] = {
    "LD3-type": learned(Kind(levels=True, history=False, slack=0.05)),
    "GS-type": _on("dpmpp3m", learned(Kind(levels=True, history=True))),
    "DyWeight-type": _on("ipndm4", learned(Kind(levels=False, history=True, free=True))),
}
PLANS: dict[str, Callable[[Workbench, int, str], Plan]] = {
    **{name: _schedule_only(make) for name, make in PEERS.items()},
    "OptimalSteps-type": _schedule_only(optimal_steps_type),
    **LEARNED,
}
"""What makes a plan of (workbench, number of steps, solver)."""
