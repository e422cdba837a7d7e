"""A leaderboard: schedules times solvers times budgets, all on the same noises, with intervals and a verdict.

Differences are of pairs (the same noises), so two entries can differ significantly even where their own intervals
overlap. The verdict names the best entry of each budget and the others that do not differ significantly from it.

Beside the distance of its images from data, an entry may have the paired error of its samples to the converged solution
(:mod:`sigmatune.evaluation.paired_distance`), which ranks it a second time: the first asks whether images are like the
data, the second whether they are the model's own. Where the two contradict each other, the verdict says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

from scipy.special import stdtr

from sigmatune import schedules, solvers
from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation.evaluate import Wanted, check, figures
from sigmatune.evaluation.execution import PLAIN, Execution
from sigmatune.evaluation.generation import generate
from sigmatune.evaluation.record import Figure
from sigmatune.evaluation.reference_set import Reference
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan.calls import largest
from sigmatune.statistics.jackknife import CONFIDENCE, Estimate
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Parts, Progress, stage

FORMAT = "sigmatune/leaderboard"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Entry:
    """A schedule and solver on the leaderboard.

    Attributes:
        name, solver: The schedule, or the plan's file, and the solver.
        budget, plan: The requested calls, of which a plan may need fewer, and the plan.
    """

    name: str
    solver: str
    budget: int
    plan: Plan

    @classmethod
    def of(cls, name: str, plan: Plan) -> Entry:
        """The entry of a plan that was made before, with the calls for which it was tuned, if it was."""
        asked = {"solver": plan.solver, "calls": plan.calls, **(plan.tuned_for or {})}
        return cls(name, str(asked["solver"]), int(asked["calls"]), plan)


@dataclass(frozen=True, eq=False)
class Row:
    """An entry with its figures.

    Attributes:
        entry: The entry.
        calls: Network evaluations per image, guidance counted.
        figures: In the order of the metrics; the first one ranks.
        paired: The paired error to the converged solution, on the same noises for all; None if the entry has none.
        unpaired: Why it has none; "" where it has one, and where none was measured.
    """

    entry: Entry
    calls: int
    figures: list[Figure]
    paired: Figure | None = None
    unpaired: str = ""

    @property
    def main(self) -> Figure:
        """The figure that ranks."""
        return self.figures[0]


def entries(
    model: Denoiser, families: Sequence[tuple[str, Mapping[str, float]]], names: Sequence[str], budgets: Sequence[int]
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


def measured(
    model: Denoiser,
    competitors: Sequence[Entry],
    wanted: Wanted,
    reference: Reference | None,
    n: int,
    execution: Execution = PLAIN,
) -> list[Row]:
    """Measures every entry on the same n noises; see :func:`~sigmatune.evaluation.generation.generate`.

    Args:
        model, competitors: What is measured.
        wanted, reference: As for :func:`~sigmatune.evaluation.evaluate.figures`.
        n: How many images of each entry, with indices 0 to n - 1.
        execution: How; its folder keeps the features.
    """
    check(wanted, reference, tuple(model.pixel_shape))
    rows, calls = [], [entry.plan.network_calls(model) for entry in competitors]
    parts, how = Parts(execution.progress, calls), execution
    for entry, cost in zip(competitors, calls, strict=True):
        part, name = parts.take(), f"{entry.budget} calls, {entry.name}"

        def report(what: str, done: int, total: int, part: Progress = part, name: str = name) -> None:
            part(f"{name}: {stage(what, done, total)}", done, total)

        sample = generate(
            model, entry.plan, n, wanted.extractors, seed=how.seed, folder=how.folder, keep=how.keep_images, progress=report,
            engine=how.engine,
        )  # fmt: skip
        rows.append(Row(entry, cost, figures(sample, wanted, reference, engine=how.engine)))
    return rows


def ranked(rows: Sequence[Row]) -> list[Row]:
    """By budget, then best first."""
    return sorted(rows, key=lambda row: (row.entry.budget, _cost(row)))


def _cost(row: Row) -> float:
    """The main figure, with its sign chosen so that less is better."""
    return row.main.estimate.value * (1 if row.main.better == "lower" else -1)


def pareto(rows: Sequence[Row]) -> list[Row]:
    """The entries that no other beats with as few calls, by calls."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.calls, _cost(row))):
        if not front or _cost(row) < _cost(front[-1]):
            front.append(row)
    return front


def behind(row: Row, best: Row) -> tuple[Estimate, bool]:
    """How far an entry is behind another on the same noises, and whether the difference is significant at 95%."""
    return worse(row.main, best.main)


def worse(figure: Figure, other: Figure) -> tuple[Estimate, bool]:
    """A figure minus another of the same noises, and whether it is significantly worse at 95%."""
    gap = figure.minus(other)
    sign = 1 if figure.better == "lower" else -1
    if gap.error == 0:
        return gap, sign * gap.value > 0
    return gap, bool(stdtr(len(gap.left) - 1, sign * gap.value / gap.error) > (1 + CONFIDENCE) / 2)


def verdict(rows: Sequence[Row]) -> list[str]:
    """Sentences per budget: the best entry, its margin, the entries not significantly behind it, and the ranking by errors."""
    sentences, order = list[str](), ranked(rows)
    for budget in dict.fromkeys(row.entry.budget for row in order):
        best, *others = [row for row in order if row.entry.budget == budget]
        low, high = best.main.estimate.interval
        said = f"{budget} calls: {_named(best)} is best, {best.main.name} {_three(best.main.estimate.value)}"
        said += f" ({_three(low)} to {_three(high)})"
        level = [row for row in others if not behind(row, best)[1]]
        beaten = [row for row in others if behind(row, best)[1]]
        if level:
            said += f"; it is not significantly better than {_few(list(map(_named, level)))}"
        if beaten:
            gap, _ = behind(beaten[0], best)
            ends = sorted(abs(end) for end in gap.interval)
            said += (
                f"; {_named(beaten[0])} is behind by {_three(abs(gap.value))} ({_three(ends[0])} to {_three(ends[1])})"
            )
        sentences.append(f"{said}.")
        sentences += other_figures([best, *others])
        sentences += two_rankings([best, *others])
    return sentences


def other_figures(rows: Sequence[Row]) -> list[str]:
    """Which other figures put another entry of a budget first, in one sentence; none where all agree.

    Args:
        rows: The entries, best first by the main figure.
    """
    best, said = rows[0], []
    for place in range(1, len(best.figures)):
        sign = 1 if best.figures[place].better == "lower" else -1
        first = min(rows, key=lambda row: sign * row.figures[place].estimate.value)
        if first is best:
            continue
        figure = first.figures[place]
        sure = worse(best.figures[place], figure)[1]
        both = sure and behind(first, best)[1]
        how = "both significantly" if both else "significantly" if sure else "not significantly"
        said.append(f"{figure.name} {figure.settings.space} puts {_named(first)} first ({how})")
    if not said:
        return []
    return [
        f"{best.entry.budget} calls, other figures contradict {best.main.name} {best.main.settings.space}: {_few(said)}."
    ]


def without_error(rows: Sequence[Row]) -> list[str]:
    """Why entries have no paired error, a sentence per reason."""
    whys: dict[str, list[str]] = {}
    for row in rows:
        if row.unpaired:
            whys.setdefault(row.unpaired, []).append(f"{row.entry.name} in {row.entry.budget} calls")
    return [f"No paired error ({_few(names)}): {why.rstrip('.')}." for why, names in whys.items()]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def two_rankings(rows: Sequence[Row]) -> list[str]:
    """One sentence on how the paired errors of a budget's entries rank them, beside the main figure; none without errors.

    Args:
        rows: The entries, best first.
    """
    known = [row for row in rows if row.paired is not None]
    if not known:
        return []
    nearest, best = min(known, key=_error), rows[0]
    value, (low, high) = _error(nearest), _of(nearest).estimate.interval
    said = f"{best.entry.budget} calls, paired error: {_named(nearest)} is best, {_three(value)}"
    said += f" ({_three(low)} to {_three(high)})"
    if nearest is best:
        said += ", as by " + best.main.name
    elif best.paired is None:
        said += f"; {_named(best)}, best by {best.main.name}, has no paired error"
    else:
        both = worse(_of(best), _of(nearest))[1], behind(nearest, best)[1]
        said += f"; {_named(best)}, best by {best.main.name}, has {_three(_error(best))}"
        said += "; the two rankings contradict each other"
        said += ", both significantly" if all(both) else ", but not both significantly"
    return [f"{said}{_pairs(known, best.main.name)}."]


def _pairs(rows: Sequence[Row], name: str) -> str:
    """How many pairs of entries the two rankings order oppositely."""
    pairs = list(combinations(rows, 2))
    opposite = [(a, b) for a, b in pairs if (_cost(a) - _cost(b)) * (_error(a) - _error(b)) < 0]
    if not opposite:
        return ""
    ordered = [(a, b) if _cost(a) < _cost(b) else (b, a) for a, b in opposite]
    sure = sum(behind(b, a)[1] and worse(_of(a), _of(b))[1] for a, b in ordered)
    return f"; {name} and error order {len(opposite)} of {len(pairs)} pairs oppositely, {sure} of them significantly by both"


def _of(row: Row) -> Figure:
    assert row.paired is not None  # only entries with an error are compared by it
    return row.paired


def _error(row: Row) -> float:
    return _of(row).estimate.value


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
                "paired": None if row.paired is None else row.paired.to_dict(),
                "unpaired": row.unpaired,
            }
            for row in ranked(rows)
        ],
    }
