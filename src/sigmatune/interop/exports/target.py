r"""The definition of an export: the numbers in a program's format, and one line that states their meaning.

The line is JSON behind ``sigmatune export``: the target, whether the numbers are sigmas of :math:`x_0 + \sigma
\epsilon` ("ve") or of a flow, :math:`\tau = \sigma / (1 + \sigma)` ("flow"), the shift applied to them, whether the
final 0 is among them, their steps, network calls and sampler, and the plan's own levels and noise path, so that reading
it restores the plan bit for bit. The numbers and the line must agree, or the text is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from sigmatune import noise, solvers
from sigmatune.core.schedule import Schedule
from sigmatune.models.network import process_of
from sigmatune.plan import Plan, compile_plan
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import plain
from sigmatune.support.reading import parsed

HEADER = "sigmatune export "


@dataclass(frozen=True)
class ExportTarget:
    """A program that takes plans.

    Attributes:
        name: Its name in the registry.
        write: From a plan, and the target's own options, to a text.
        read: From a text to the plan.
        summary: One line for listings.
        remark: From a plan and the same options to what a user has to know beside the text; empty if nothing.
    """

    name: str
    write: Callable[..., str]
    read: Callable[[str], Plan]
    summary: str
    remark: Callable[..., str] = lambda plan, **options: ""


@dataclass(frozen=True)
class Samplers:
    """The samplers of a program that takes a list of levels.

    Attributes:
        names: Theirs, by the names of our solvers that compute the same steps.
        flow: The same on a flow's levels, on which many of their samplers step in tau and ours in log sigma; ``names`` for
            Euler alone by default.
        eta: The solvers whose eta is free in the program.
        options: The other options with which our solvers compute the program's steps; their defaults where none are named.
    """

    names: Mapping[str, str]
    flow: Mapping[str, str] | None = None
    eta: Sequence[str] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def on_flow(self) -> Mapping[str, str]:
        """The samplers on a flow's levels."""
        return {"euler": self.names["euler"]} if self.flow is None else self.flow


Layout = Callable[[str, dict[str, Any], Sequence[float]], str]
Timesteps = Literal["whole", "exact"]


def listed(
    name: str, samplers: Samplers, layout: Layout, numbers: Callable[[str], list[float]], summary: str
) -> ExportTarget:
    """Builds a target that takes a list of levels and the name of a sampler.

    Args:
        name: The target's name.
        samplers: Its samplers.
        layout: (header line, statement, numbers) -> text.
        numbers: text -> the numbers in it.
        summary: One line.
    """

    def write(plan: Plan) -> str:
        stated = statement(plan, name, samplers)
        return layout(HEADER + json.dumps(stated), stated, levels_shown(plan.schedule, stated))

    return ExportTarget(name, write, partial(read_listed, name, write, numbers), summary)


def read_listed(name: str, write: Callable[[Plan], str], numbers: Callable[[str], list[float]], text: str) -> Plan:
    """Reads a target's text, whose numbers have to be those that its statement makes.

    Raises:
        SigmaTuneError: otherwise.
    """
    stated = read_statement(text)
    plan = stated_plan(stated)
    if stated.get("target") != name or numbers(text) != numbers(write(plan)):
        raise SigmaTuneError(f"the levels in this {name} export are not those that its first line states.")
    return plan


def levels_shown(schedule: Schedule, stated: Mapping[str, Any]) -> list[float]:
    """The levels of a schedule as a program counts them, with the final 0.

    Raises:
        SigmaTuneError: if the first is infinite there.
    """
    sigmas = schedule.sigmas
    with np.errstate(divide="ignore"):
        shown = sigmas if stated["sigma_kind"] == "ve" else 1 / (1 + 1 / sigmas)
    if not np.isfinite(shown).all():
        name = stated["target"]
        raise SigmaTuneError(
            f"{name} takes finite levels, and this plan starts from sigma = inf; build it with sigma_max=."
        )
    return [float(x) for x in shown]


def on_timesteps(plan: Plan, timesteps: Timesteps) -> tuple[Schedule, float]:
    """The schedule that a program which rounds t to whole steps runs exactly, and the largest change of t.

    Args:
        plan: The plan; only tables of steps (VP) are rounded.
        timesteps: "whole" moves every level to the nearest whole timestep, "exact" leaves all as they are.

    Raises:
        SigmaTuneError: if two levels fall on one timestep.
    """
    if timesteps not in ("whole", "exact"):
        raise SigmaTuneError(f"timesteps is 'whole' or 'exact', not {timesteps!r}.")
    path = plan.noise_path()
    if timesteps == "exact" or path is None or process_of(path)["kind"] != "vp" or plan.schedule.rows is not None:
        return plan.schedule, 0.0
    t = path.time(plan.schedule.sigmas[:-1])
    nearest = np.rint(t)
    if (np.diff(nearest) == 0).any():
        raise SigmaTuneError(
            f"the program rounds t to whole timesteps, and {plan.steps} levels fall on {len(np.unique(nearest))} of them; "
            "use fewer steps."
        )
    moved = float(np.abs(nearest - t).max())
    if moved <= float(path.time_tolerance(1.0)):
        return plan.schedule, 0.0
    return plan.schedule.moved(path.sigma(nearest), "snapped"), moved


def remark_on(moved: float) -> str:
    """What :func:`on_timesteps` did, for a user."""
    if not moved:
        return ""
    return (
        f"the levels were moved to whole timesteps, by up to {moved:.2f}, because the program rounds t; the plan's evidence is "
        "for its own levels"
    )


def decimals(numbers: Sequence[float]) -> list[str]:
    """Numbers in plain decimals, without exponents, each the shortest that reads back to the same float64."""
    return [np.format_float_positional(number, trim="-") for number in numbers]


def statement(plan: Plan, name: str, samplers: Samplers) -> dict[str, Any]:
    """The statement of an export about its numbers.

    Raises:
        SigmaTuneError: if the target has no sampler that computes the plan's steps.
    """
    if plan.schedule.rows is not None:
        raise SigmaTuneError(f"{name} takes one list of levels, and this plan has one per row; export a row of it.")
    if plan.solver == "custom" or plan.solver_options.get("weights") is not None:
        raise SigmaTuneError(
            f"{name} takes levels and the name of a sampler, and this plan's coefficients are not a sampler's; export "
            "it to json or diffusers, or run it with the ComfyUI node."
        )
    path = None if plan.path is None else noise.from_spec(plan.path)
    process = {} if path is None else process_of(path)
    kind = "flow" if process.get("kind") == "flow" else "ve"
    if plan.solver not in samplers.names:
        raise SigmaTuneError(
            f"{name} has no sampler that computes {plan.solver}'s steps; it has those of {', '.join(sorted(samplers.names))}."
        )
    sampler = samplers.names[plan.solver]
    if kind == "flow" and plan.solver not in samplers.on_flow():
        raise SigmaTuneError(
            f"{name}'s {sampler} steps in the flow's own time and {plan.solver} in log sigma, so on a flow model "
            f"the two differ; there it has the steps of {', '.join(sorted(samplers.on_flow()))}."
        )
    if kind == "flow":
        sampler = samplers.on_flow()[plan.solver]
    _check_options(plan, f"{name}'s {sampler}", samplers)
    return {
        "target": name,
        "sigma_kind": kind,
        "shift": f"applied once, by {process['shift']:g}" if kind == "flow" else "none",
        "trailing_zero": True,
        "steps": plan.steps,
        "calls": plan.calls,
        "sampler": sampler,
        "solver": plan.solver,
        "solver_options": dict(plan.solver_options),
        "family": plan.schedule.family,
        "family_options": plain(plan.schedule.options),
        "sigmas": ["inf" if np.isinf(sigma) else float(sigma) for sigma in plan.schedule.sigmas],
        "noise_path": plan.path,
        "model": plan.fingerprint,
    }


def _check_options(plan: Plan, sampler: str, samplers: Samplers) -> None:
    """Refuses options with which the program computes other steps.

    Raises:
        SigmaTuneError: naming the first.
    """
    theirs = {**solvers.solver(plan.solver).defaults, **samplers.options.get(plan.solver, {})}
    for option, value in plan.solver_options.items():
        free = option == "eta" and plan.solver in samplers.eta
        if not free and value != theirs.get(option, value):
            raise SigmaTuneError(
                f"{sampler} computes with {option} = {theirs[option]}, and this plan has {option} = {value}; compile or tune "
                f"it with {option}={theirs[option]}."
            )


def read_statement(text: str) -> dict[str, Any]:
    """The line that states what an export means.

    Raises:
        SigmaTuneError: if there is none, or it cannot be read.
    """
    match = re.search(re.escape(HEADER) + r"(\{.*\})", text)
    try:
        stated = parsed(match[1]) if match else None
    except SigmaTuneError as error:
        raise SigmaTuneError(f"the line {HEADER.strip()!r}: {error}") from None
    if not isinstance(stated, dict):
        raise SigmaTuneError(
            f"this text has no line {HEADER.strip()!r} that states what its numbers mean; import a bare list with its kind and "
            "noise path given."
        )
    return stated


def stated_plan(stated: Mapping[str, Any]) -> Plan:
    """The plan that a statement speaks of.

    Raises:
        SigmaTuneError: if it contradicts itself.
    """
    try:
        sigmas = [float(sigma) for sigma in stated["sigmas"]]
        solver, options = solvers.solver(stated["solver"]), dict(stated["solver_options"])
        schedule = Schedule(np.array(sigmas), stated["family"], stated["family_options"])
        plan = compile_plan(schedule, solver.name, **options)
        path, model = stated["noise_path"], stated["model"]
        same = (plan.steps, plan.calls) == (stated["steps"], stated["calls"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, SigmaTuneError):
            raise
        raise SigmaTuneError(f"the line that states what this export means is incomplete: {error}.") from None
    if not same:
        raise SigmaTuneError("the steps and calls that this export states are not those that its levels make.")
    if path is not None:
        noise.from_spec(path).check(plan.schedule.sigmas[:-1])
    return plan.with_notes(path=path, fingerprint=model)


def numbers_in(text: str) -> list[float]:
    """The numbers of a comma-separated list.

    Raises:
        SigmaTuneError: if something in it is not a number.
    """
    try:
        return [float(part) for part in text.replace("\n", " ").split(",") if part.strip()]
    except ValueError:
        raise SigmaTuneError(f"{text.strip()[:40]!r} is not a comma-separated list of numbers.") from None
