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
from dataclasses import dataclass
from typing import Any

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
    """

    name: str
    write: Callable[..., str]
    read: Callable[[str], Plan]
    summary: str


@dataclass(frozen=True)
class Samplers:
    """The samplers of a program that takes a list of levels.

    Attributes:
        names: Theirs, by the names of our solvers that compute the same steps.
        flow: The solvers that are also the same on a flow's levels: others of its samplers step in tau, ours in log sigma.
        eta: The solvers whose eta is free in the program; for others it must be 1.
    """

    names: Mapping[str, str]
    flow: Sequence[str] = ("euler",)
    eta: Sequence[str] = ()


Layout = Callable[[str, dict[str, Any], Sequence[float]], str]


def listed(
    name: str,
    samplers: Samplers,
    layout: Layout,
    numbers: Callable[[str], list[float]],
    summary: str,
    *,
    trailing_zero: bool = True,
) -> ExportTarget:
    """Builds a target that takes a list of levels and the name of a sampler.

    Args:
        name: The target's name.
        samplers: Its samplers.
        layout: (header line, statement, numbers) -> text.
        numbers: text -> the numbers in it.
        summary: One line.
        trailing_zero: Whether the final 0 is part of the list.
    """

    def write(plan: Plan) -> str:
        stated = statement(plan, name, samplers)
        kind = stated["sigma_kind"]
        sigmas = plan.schedule.sigmas
        with np.errstate(divide="ignore"):
            shown = sigmas if kind == "ve" else 1 / (1 + 1 / sigmas)
        if not np.isfinite(shown).all():
            raise SigmaTuneError(
                f"{name} takes finite levels, and this plan starts from sigma = inf; build it with sigma_max=."
            )
        stated["trailing_zero"] = trailing_zero
        return layout(HEADER + json.dumps(stated), stated, [float(x) for x in shown[: None if trailing_zero else -1]])

    def read(text: str) -> Plan:
        stated = read_statement(text)
        plan = stated_plan(stated)
        given = numbers(text)
        again = numbers(write(plan))
        if stated.get("target") != name or given != again:
            raise SigmaTuneError(f"the levels in this {name} export are not those that its first line states.")
        return plan

    return ExportTarget(name, write, read, summary)


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
    if kind == "flow" and plan.solver not in samplers.flow:
        raise SigmaTuneError(
            f"{name}'s {sampler} steps in the flow's own time and {plan.solver} in log sigma, so on a flow model "
            f"the two differ; of its samplers {', '.join(samplers.flow) or 'none'} is the same on both."
        )
    options = dict(plan.solver_options)
    if plan.solver not in samplers.eta and options.get("eta", 1.0) != 1.0:
        raise SigmaTuneError(f"{name}'s {sampler} has no eta, and this plan's is {options['eta']:g}.")
    return {
        "target": name,
        "sigma_kind": kind,
        "shift": f"applied once, by {process['shift']:g}" if kind == "flow" else "none",
        "trailing_zero": True,
        "steps": plan.steps,
        "calls": plan.calls,
        "sampler": sampler,
        "solver": plan.solver,
        "solver_options": options,
        "family": plan.schedule.family,
        "family_options": plain(plan.schedule.options),
        "sigmas": ["inf" if np.isinf(sigma) else float(sigma) for sigma in plan.schedule.sigmas],
        "noise_path": plan.path,
        "model": plan.fingerprint,
    }


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
