"""The tables of what is registered: solvers, samplers of phase space, schedule families, stages of tuning.

A name in the first three links to its module, which is readable wherever the page is; a built page links to the reference
instead (``docs/_ext/registries.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sigmatune.schedules import FAMILIES
from sigmatune.schedules.base import Family
from sigmatune.solvers import PHASE_SPACE, POSITION, Solver
from sigmatune.tuning.stage_choice import AUTO
from sigmatune.tuning.stage_words import WORDS

YES, NO = "yes", "no"


def module_of(build: Callable[..., Any]) -> str:
    """The module of a builder, also of one whose order is fixed by ``partial``."""
    return (build.func if isinstance(build, partial) else build).__module__


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def link(name: str, build: Callable[..., Any]) -> str:
    """The name of a member as a link from a page of ``docs/`` to the file that builds it."""
    return f"[`{name}`](../src/{module_of(build).replace('.', '/')}.py)"


def solver_table() -> str:
    """One row per solver: what it declares."""
    head = ["solver", "order", "from a cold start", "calls for N steps", "width", "deterministic", "what it is"]
    return markdown_table(head, [_solver_row(solver) for solver in POSITION.values()])


def phase_space_table() -> str:
    """One row per sampler of phase space that has a name of its own."""
    head = ["solver", "weak order", "calls for N steps", "what it is"]
    rows = []
    for solver in PHASE_SPACE.values():
        name = link(solver.name, solver.build)
        rows.append([name, f"{solver.order}", _calls(solver), solver.summary.removeprefix("phase space, ")])
    return markdown_table(head, rows)


def _solver_row(solver: Solver) -> list[str]:
    order = f"{solver.order}" + (" (even sigma)" if solver.grid == "sigma" and solver.order > 1 else "")
    deterministic = YES if solver.noise is None else f"only with {solver.noise} = 0"
    name = link(solver.name, solver.build)
    return [
        name, order, f"{solver.cold_order}", _calls(solver), f"{solver.width}", deterministic,
        solver.summary.partition(":")[0].partition(", one call")[0],
    ]  # fmt: skip


def _calls(solver: Solver) -> str:
    """The number of calls as a formula, a N + b."""
    counts = [solver.calls(steps) for steps in (1, 2, 5)]
    a = counts[1] - counts[0]
    b = counts[0] - a
    if counts[2] != 5 * a + b:
        raise ValueError(f"the calls of {solver.name} are no straight line in N; the table needs another column.")
    return f"{a if a != 1 else ''}N{f' {b:+d}'.replace('+', '+ ').replace('-', '- ') if b else ''}"


def family_table() -> str:
    """One row per schedule family: what it reaches, and whether it stands among the published defaults."""
    head = ["family", "spacing", "starts at sigma_max", "ends at sigma_min", "from sigma = inf", "among the defaults"]
    return markdown_table(head, [_family_row(family) for family in FAMILIES.values()])


def _family_row(family: Family) -> list[str]:
    name = link(family.name, family.build)
    marks = [family.starts, family.ends, not family.finite, bool(family.published)]
    return [name, family.description, *(YES if mark else NO for mark in marks)]


def stage_table() -> str:
    """One row per stage of tuning: what it does and costs, and whether the method "auto" runs it."""
    rows = [[f"`{name}`", words.summary, words.price, YES if name in AUTO else NO] for name, words in WORDS.items()]
    return markdown_table(["stage", "what it does", "what it costs", "in `auto`"], rows)


def registered_tables() -> dict[str, str]:
    """All of them by name."""
    return {
        "solvers": solver_table(),
        "phase_solvers": phase_space_table(),
        "families": family_table(),
        "stages": stage_table(),
    }
