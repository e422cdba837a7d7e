"""A leaderboard: schedules times solvers times budgets, all on the same noises, with intervals and a verdict.

Differences are of pairs (the same noises), so two entries can differ significantly even where their own intervals
overlap. The verdict names the best entry of each budget and the others that do not differ significantly from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scipy.special import stdtr

from sigmatune import schedules, solvers
from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation.evaluate import Wanted, check, figures
from sigmatune.evaluation.generation import Progress, generate
from sigmatune.evaluation.record import Figure
from sigmatune.evaluation.reference_set import Reference
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan.calls import largest
from sigmatune.statistics.jackknife import CONFIDENCE, Estimate
from sigmatune.support.errors import SigmaTuneError

FORMAT = "sigmatune/leaderboard"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Entry:
    """A schedule and solver on the leaderboard.

    Attributes:
        name: The schedule, or the plan's file.
        solver: The solver.
        budget: The requested calls; a plan may need fewer.
        plan: The plan.
    """

    name: str
    solver: str
    budget: int
    plan: Plan


@dataclass(frozen=True, eq=False)
class Row:
    """An entry with its figures.

    Attributes:
        entry: The entry.
        calls: Network evaluations per image, guidance counted.
        figures: In the order of the metrics; the first one ranks.
    """

    entry: Entry
    calls: int
    figures: list[Figure]

    @property
    def main(self) -> Figure:
        """The figure that ranks."""
        return self.figures[0]


def entries(
    model: Denoiser,
    families: Sequence[tuple[str, Mapping[str, float]]],
    names: Sequence[str],
    budgets: Sequence[int],
) -> list[Entry]:
    """Compiles every family with every solver for every budget; combinations that the path does not allow are left out.

    Args:
        model: The denoiser.
        families: Names and options of schedule families.
        names: Solvers.
        budgets: Numbers of network evaluations per image, guidance counted; the most steps that fit are used.

    Raises:
        SigmaTuneError: for an unknown name or option, or a solver that needs more calls than a budget has.
    """
    compiled = []
    for budget in dict.fromkeys(budgets):
        for solver in dict.fromkeys(solvers.solver(name).name for name in names):
            for family, options in families:
                member = schedules.FAMILIES[family]
                if not member.defined_on(model.path):
                    continue
                plan = largest(partial(_built, model, solver, family, options), solvers.solver(solver), budget, model)
                compiled.append(Entry(schedules.label(member, options), solver, budget, plan))
    if not compiled:
        raise SigmaTuneError("none of these families is defined on the model's noise path; see `sigmatune schedule`.")
    return compiled


def _built(model: Denoiser, solver: str, family: str, options: Mapping[str, float], steps: int) -> Plan:
    return compile_plan(schedules.build(family, steps, model.path, **options), solver, model)


def measured(  # noqa: PLR0913 (entries, metrics and data)
    model: Denoiser,
    competitors: Sequence[Entry],
    wanted: Wanted,
    reference: Reference | None,
    *,
    n: int,
    seed: int = 0,
    folder: Path | None = None,
    keep: bool = False,
    progress: Progress | None = None,
) -> list[Row]:
    """Measures every entry on the same n noises; see :func:`~sigmatune.evaluation.generation.generate`."""
    check(wanted, reference, tuple(model.pixel_shape))
    rows = []
    for done, entry in enumerate(competitors):
        if progress is not None:
            progress("entries", done, len(competitors))
        sample = generate(
            model, entry.plan, n, wanted.extractors, seed=seed, folder=folder, keep=keep, progress=progress
        )
        rows.append(Row(entry, entry.plan.network_calls(model), figures(sample, wanted, reference)))
    if progress is not None:
        progress("entries", len(competitors), len(competitors))
    return rows


def ranked(rows: Sequence[Row]) -> list[Row]:
    """By budget, then best first."""
    return sorted(rows, key=lambda row: (row.entry.budget, _cost(row)))


def _cost(row: Row) -> float:
    """The main figure, with its sign chosen so that less is better."""
    value = row.main.estimate.value
    return value if row.main.better == "lower" else -value


def pareto(rows: Sequence[Row]) -> list[Row]:
    """The entries that no other beats with as few calls, by calls."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.calls, _cost(row))):
        if not front or _cost(row) < _cost(front[-1]):
            front.append(row)
    return front


def behind(row: Row, best: Row) -> tuple[Estimate, bool]:
    """How far an entry is behind another on the same noises, and whether the difference is significant at 95%."""
    gap = row.main.minus(best.main)
    sign = 1 if row.main.better == "lower" else -1
    if gap.error == 0:
        return gap, sign * gap.value > 0
    return gap, bool(stdtr(len(gap.left) - 1, sign * gap.value / gap.error) > (1 + CONFIDENCE) / 2)


def verdict(rows: Sequence[Row]) -> list[str]:
    """One sentence per budget: the best entry, its margin, and the entries that do not differ significantly from it."""
    sentences = []
    order = ranked(rows)
    for budget in dict.fromkeys(row.entry.budget for row in order):
        best, *others = [row for row in order if row.entry.budget == budget]
        low, high = best.main.estimate.interval
        said = f"{budget} calls: {_named(best)} is best, {best.main.name} {_three(best.main.estimate.value)}"
        said += f" ({_three(low)} to {_three(high)})"
        level = [row for row in others if not behind(row, best)[1]]
        beaten = [row for row in others if behind(row, best)[1]]
        if level:
            names = ", ".join(map(_named, level[:3])) + (f" and {len(level) - 3} more" if len(level) > 3 else "")
            said += f"; it is not significantly better than {names}"
        if beaten:
            gap, _ = behind(beaten[0], best)
            ends = sorted(abs(end) for end in gap.interval)
            said += (
                f"; {_named(beaten[0])} is behind by {_three(abs(gap.value))} ({_three(ends[0])} to {_three(ends[1])})"
            )
        sentences.append(said + ".")
    return sentences


def _named(row: Row) -> str:
    return f"{row.entry.name} with {row.entry.solver}"


def _three(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def to_dict(rows: Sequence[Row], model: Denoiser, **more: Any) -> dict[str, Any]:
    """The whole leaderboard, JSON-ready."""
    front = pareto(rows)
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": {"fingerprint": model.fingerprint(), "shape": list(model.shape)},
        **more,
        "verdict": verdict(rows),
        "rows": [
            {
                "name": row.entry.name,
                "solver": row.entry.solver,
                "budget": row.entry.budget,
                "calls": row.calls,
                "steps": row.entry.plan.steps,
                "sigmas": row.entry.plan.schedule.sigmas.tolist(),
                "pareto": row in front,
                "figures": [figure.to_dict() for figure in row.figures],
            }
            for row in ranked(rows)
        ],
    }
