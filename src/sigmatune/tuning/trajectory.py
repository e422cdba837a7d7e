r"""Levels from the trajectories of the fine solution: at every node, the best prefix is the one nearest to the teacher.

The fine solution of some noises, the *teacher*, is recorded at the nodes :math:`g` of a grid of levels, the last node
being 0. A plan's first k levels are a *prefix*; it carries the plan's own state, so that every error made so far
counts. Dynamic programming over (k, node) keeps the prefixes that end nearest to the teacher,

.. math:: E_{k+1}(j) = \min_{i < j} \; \operatorname{mean}_r \log \big\lVert
          c \cdot (A \, S_{k,i} + b \, D(c \cdot S_{k,i}; \sigma_i)) - z^*_{j,r} \big\rVert, \qquad z^*_0 = x^*,

with A, b and c of the solver's step from i to j after that prefix. A prefix calls the network once; the state at every
later node is then linear in known tensors (a solver with a second call at the end of a step pays for every pair of
nodes). Since 0 is a node like the others, the same table gives the error of the end points for every number of steps;
and since a schedule may begin and end at any node, it gives the ends, too.

The minimum over prefixes is exact if the remaining cost depends on the node alone. Here it also depends on the state,
so keeping one prefix per node is a heuristic that misses errors that would cancel; a wider beam keeps more prefixes,
and keeping all is brute force. On the bundled digits (Euler, DPM-Solver++ 2M) a finer grid gains more than a wider beam
of the same cost, and squared or plain errors instead of their logs choose nearly the same levels.

References:
    | On the Trajectory Regularity of ODE-based Diffusion Sampling (Chen et al., 2024), https://arxiv.org/abs/2405.11326
    | Optimal Stepsize for Diffusion Sampling (Pei et al., 2025), https://arxiv.org/abs/2503.21774, for the student's own states
    | The step of any linear solver, the free ends and the log error are our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from sigmatune.core.loop import Step
from sigmatune.core.rng import START, noise
from sigmatune.core.schedule import Schedule, whole
from sigmatune.core.table import Coefficients
from sigmatune.noise import Array, close
from sigmatune.plan import Plan, sample
from sigmatune.plan.reference import HIGHEST, REFERENCE_SOLVER
from sigmatune.solvers import SOLVERS, Solver
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.workbench import Workbench

GRID = 40
"""Nodes over the range of log sigma."""

CLOSE = 0.2
"""The node replaces a reference level that is this close, as a share of the distance to its neighbour."""


def tune_by_trajectory(
    bench: Workbench,
    most: int,
    solver: str,
    *,
    grid: int = GRID,
    rows: int | None = None,
    beam: int = 1,
) -> list[Schedule]:
    """Finds the levels of 1..most steps at once.

    With one call per step it costs at most most x grid x beam network evaluations per row, and the fine solution once
    more; with Heun's two, half of most x grid^2 x beam on top: see :func:`cost`, which is exact. They are counted as
    "trajectory"; the end points of the fine solution, which all plans share, as "reference".

    Args:
        bench: The workbench, whose tuning noises are used.
        most: Largest N.
        solver: A deterministic solver of the registry that does not taper. One of several calls per step costs a call for
            every pair of nodes.
        grid: Nodes to choose levels from, spaced evenly in log sigma over the model's range; a network of whole timesteps
            has as many at most. A schedule may begin and end at any node.
        rows: Use the first few tuning noises only.
        beam: Prefixes that are kept for each node.

    Returns:
        The schedules of N = 1..most, of family "trajectory"; the option "score" is the mean log error on these noises.

    Raises:
        SigmaTuneError: for a solver that adds noise or whose steps depend on how many follow, or fewer nodes than steps.
    """
    chosen, beam = _usable(solver), whole(beam, "beam")
    levels = nodes(bench, whole(grid, "grid"))
    indices = bench.settings.rows("tuning")[: None if rows is None else whole(rows, "rows")]
    if whole(most, "most") > len(levels) - 1:
        raise SigmaTuneError(f"a grid of {len(levels) - 1} levels has no {most} different ones; pass a larger grid.")
    notes = {"solver": chosen.name, "nodes": len(levels) - 1, "beam": beam}

    def programme() -> Array:
        """The scores, followed by the nodes of each path, padded with -1."""
        rows_of_table = np.full((most, most + 2), -1.0)
        for row, best in zip(rows_of_table, _Search(bench, chosen, levels, indices, beam).run(most), strict=True):
            row[0], row[1 : len(best.way) + 1] = best.score, best.way
        return rows_of_table

    price = cost(bench, most, levels, solver=solver, rows=len(indices), beam=beam)
    name = f"trajectory of {most} steps, {notes}, {levels.tolist()}, {indices}"
    table = bench.array(name, programme, purpose="trajectory", evaluations=price)
    return [
        Schedule(levels[row[1 : steps + 2].astype(int)], "trajectory", {**notes, "score": float(row[0])})
        for steps, row in enumerate(table, start=1)
    ]


def nodes(bench: Workbench, grid: int) -> Array:
    """The levels to choose from, (G + 1,), descending: an infinite first level if there is one, log-spaced ones, and 0."""
    path = bench.model.path
    high, low = path.sigma_max, path.sigma_min
    head = np.array([high] if np.isinf(high) else [])
    top = HIGHEST if len(head) else high
    levels = np.geomspace(top, low, grid - len(head))
    levels[1:][-1:], levels[:1] = low, top  # to the bit
    levels = np.concatenate([head, levels])
    if bench.model.integer_time:
        levels = path.sigma(np.unique(np.rint(path.time(levels)))[::-1])
    return np.append(levels, 0.0)


def cost(bench: Workbench, most: int, levels: Array, *, solver: str, rows: int, beam: int = 1) -> int:
    """The network evaluations of single images that 1..most steps on some nodes take, padding included."""
    kept = _kept(most, len(levels) - 1, beam)
    calls = np.array([bench.model.calls_at(float(level)) for level in levels[:-1]])
    fine, _ = _fine(bench, levels)
    below = calls[::-1].cumsum()[::-1] - calls  # one call at every node that a step may lead to
    further = _extra(SOLVERS[solver]) * int((kept[:-1] @ below).sum())
    return bench.padded(rows) * (int((kept @ calls).sum()) + further + fine.network_calls(bench.model))


def _kept(most: int, nodes: int, beam: int) -> Array:
    """How many prefixes of k steps end at each node, (most, nodes): the binomials C(node, k), at most ``beam`` of them.

    By C(n, k) = sum of C(j, k - 1) over j < n; a sum of capped numbers, capped, is the capped sum, so that no number grows.
    """
    rows = [np.full(nodes, min(beam, 1))]
    for _ in range(1, most):
        rows.append(np.minimum(beam, np.concatenate([[0], rows[-1].cumsum()[:-1]])))
    return np.array(rows)


def memory(bench: Workbench, levels: Array, *, solver: str, beam: int = 1) -> int:
    """Bytes per row of the states at all nodes: the teacher's, the prefixes', and those of the current step."""
    width = SOLVERS[solver].width
    states = len(levels) * (1 + beam * width) + 3 * (width + 1)
    return states * int(np.prod(bench.model.shape)) * bench.model.dtype.itemsize


def _extra(solver: Solver) -> int:
    """Further calls of a step, at the level where it ends; a step to 0 has none."""
    return solver.calls(2) - solver.calls(1) - 1


def _usable(name: str) -> Solver:
    solver = SOLVERS[name]
    if not solver.paired():
        raise SigmaTuneError(f"{solver.name} adds noise; only deterministic solvers have comparable trajectories.")
    check_steps(solver)
    return solver


def check_steps(solver: Solver) -> None:
    """Refuses a solver whose step depends on what follows, which a prefix does not know.

    Raises:
        SigmaTuneError: for such a solver.
    """
    if solver.tapers:
        raise SigmaTuneError(
            f"the steps of {solver.name} depend on how many follow, so its schedules cannot be built step by step; take the "
            "method auto or search."
        )


def _fine(bench: Workbench, levels: Array) -> tuple[Plan, list[int]]:
    """The reference plan with the nodes among its levels, own ones near to a node left out; and the places of the nodes."""
    reference = bench.reference_plan().schedule
    reference_levels, wanted = reference.sigmas[:-1], levels[:-1]
    y, at = -np.log1p(1 / reference_levels), -np.log1p(1 / wanted)  # log tau, which is finite at sigma = inf
    kept = np.abs(y[:, None] - at).min(axis=1) > CLOSE * np.abs(np.gradient(y))
    kept[0] = not close(reference_levels[0], wanted).any()  # where the noise starts
    merged = np.sort(np.concatenate([wanted, reference_levels[kept]]))[::-1]
    plan = bench.plan(reference.moved(merged, "with nodes"), REFERENCE_SOLVER)
    return plan, np.flatnonzero(np.isin(merged, wanted)).tolist()


def _teacher(bench: Workbench, levels: Array, indices: range) -> list[torch.Tensor]:
    """The unit states of the fine solution at each node, and its end points at the last: G + 1 times (R, *shape)."""
    exact = bench.reference("tuning")[: len(indices)].to(bench.model.device)
    plan, places = _fine(bench, levels)
    states = [torch.empty_like(exact) for _ in levels]
    node = {place: states[g] for g, place in enumerate(places)}

    def record(step: Step) -> None:
        if step.call in node:
            node[step.call][step.rows.start : step.rows.stop] = step.z

    size = bench.settings.micro_batch
    sample(bench.model, plan, seed=bench.settings.seed, indices=indices, micro_batch=size, on_step=record)
    return [*states[:-1], exact]


@dataclass(frozen=True, eq=False)
class _Prefix:
    """The levels so far, by their nodes, and the state before the network call at the last, (w, R, *shape)."""

    way: tuple[int, ...]
    state: torch.Tensor
    calls: int = 0
    score: float = 0.0


class _Search:
    """The table of the dynamic programme, one number of steps at a time."""

    def __init__(self, bench: Workbench, solver: Solver, levels: Array, indices: range, beam: int) -> None:
        self.bench, self.solver, self.beam = bench, solver, beam
        self.sigmas, self.indices = torch.from_numpy(levels), indices
        self.teacher = _teacher(bench, levels, indices)
        self.measures, self.least = [bench.measure.at(float(level)) for level in levels], bench.least

    def run(self, most: int) -> Iterator[_Prefix]:
        """The best whole plans of 1..most steps, whose last node is 0."""
        end = len(self.sigmas) - 1
        layer: list[list[_Prefix]] = [[] for _ in range(end)]
        for steps in range(1, most + 1):
            longer: list[list[_Prefix]] = [[] for _ in self.sigmas]
            # A step leads to later nodes: starting from the last node, old and new states never coexist.
            for node in reversed(range(end)):
                for prefix in layer.pop() if steps > 1 else [self._start(node)]:
                    for candidate in self._extended(prefix, end if steps == most else node + 1):
                        kept = longer[candidate.way[-1]]
                        kept.append(candidate)
                        kept.sort(key=lambda one: (one.score, one.way[-2]))
                        del kept[self.beam :]
            yield longer[end][0]
            layer = longer[:end]
            self.bench.progress("trajectories", steps, most)

    def _start(self, node: int) -> _Prefix:
        model, table = self.bench.model, self._table(self.sigmas[[node, -1]])
        eps = noise(self.bench.settings.seed, self.indices, START, model.shape, dtype=model.dtype).to(model.device)
        return _Prefix((node,), _combined(table.start, eps.unsqueeze(0)))

    def _extended(self, prefix: _Prefix, first: int) -> Iterator[_Prefix]:
        """The prefix and each node from the first on; one network call for all of them, the others of a step for each."""
        said = None
        for nodes in self._alike(range(first, len(self.sigmas))):
            table = self._table(self.sigmas[torch.tensor([[*prefix.way, node] for node in nodes])])
            steps = torch.cat([table.A, table.b.unsqueeze(-1)], dim=-1)
            if said is None:
                z = _combined(table.c[:1, prefix.calls], prefix.state)[0]
                said = self._asked(z, float(self.sigmas[prefix.way[-1]])).unsqueeze(0)
            for row, node in enumerate(nodes):
                state = _combined(steps[row, prefix.calls], torch.cat([prefix.state, said]))
                for call in range(prefix.calls + 1, table.calls):
                    z = _combined(table.c[row, call].unsqueeze(0), state)
                    more = self._asked(z[0], float(table.q[row, call])).unsqueeze(0)
                    state = _combined(steps[row, call], torch.cat([state, more]))
                score = self._score(_combined(table.c[row, table.calls :], state)[0], node)
                yield _Prefix((*prefix.way, node), state, table.calls, score)

    def _alike(self, nodes: range) -> list[range]:
        """The nodes grouped by the number of calls of a step to them: a step to 0 may need fewer."""
        end = len(self.sigmas) - 1
        if _extra(self.solver) == 0:
            return [nodes]
        return [part for part in (range(nodes.start, end), range(end, nodes.stop)) if part]

    def _table(self, sigmas: torch.Tensor) -> Coefficients:
        return self.solver.build(sigmas, **self.solver.defaults)

    def _asked(self, z: torch.Tensor, sigma: float) -> torch.Tensor:
        """The denoiser's outputs, (R, *shape), in micro-batches as plans are run."""
        size = self.bench.settings.micro_batch
        rest = self.bench.padded(len(z)) - len(z)
        padded = torch.cat([z, z.new_zeros(rest, *z.shape[1:])])
        outputs = []
        with torch.no_grad():
            for first, part in zip(range(0, len(z), size), torch.split(padded, size), strict=True):
                rows = self.indices[first : first + size]
                outputs.append(self.bench.model.rows(rows, len(part) - len(rows))(part, sigma))
        return torch.cat(outputs)[: len(z)]

    def _score(self, x: torch.Tensor, node: int) -> float:
        """The mean over rows of the log of the measure's error at a node, not below the rounding of the arithmetic."""
        return float(self.measures[node].errors(x, self.teacher[node]).clamp(min=self.least).log().mean())


def _combined(weights: torch.Tensor, tensors: torch.Tensor) -> torch.Tensor:
    """Weighted sums, (m, n) and (n, R, *shape) to (m, R, *shape)."""
    sums: torch.Tensor = torch.tensordot(weights.to(tensors), tensors, dims=1)
    return sums
