"""Solvers: how to step between the levels of a schedule. One file each; this is the registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError
from sigmatune.machine import Coefficients
from sigmatune.phase_space import PHASE_SPACE, by_name
from sigmatune.plan import Plan
from sigmatune.plan_file import read
from sigmatune.registry import Registry
from sigmatune.schedule import Schedule
from sigmatune.solvers import (
    ancestral,
    deis,
    dpmpp2m,
    dpmpp3m,
    euler,
    heun,
    ipndm,
    multistep,
    sde_dpmpp2m,
    unipc,
)
from sigmatune.solvers.solver import Solver

_ALL = (
    euler.SOLVER,
    heun.SOLVER,
    dpmpp2m.SOLVER,
    dpmpp3m.SOLVER,
    *unipc.SOLVERS,
    *deis.SOLVERS,
    *ipndm.SOLVERS,
    ancestral.SOLVER,
    sde_dpmpp2m.SOLVER,
    multistep.SOLVER,
)

SOLVERS: Registry[Solver] = Registry(
    "solver",
    {**{solver.name: solver for solver in _ALL}, **PHASE_SPACE},
    aliases={
        **PHASE_SPACE.aliases,
        "ddim": "euler",
        "dpm++2m": "dpmpp2m",
        "dpmpp_2m": "dpmpp2m",
        "dpm++3m": "dpmpp3m",
        "unipc": "unipc2",
        "deis": "deis3",
        "ipndm": "ipndm4",
        "ddpm": "ancestral",
        "euler_ancestral": "ancestral",
        "sde-dpmsolver++": "sde-dpmpp2m",
        "dpmpp_2m_sde": "sde-dpmpp2m",
    },
    make=by_name,
)
"""All solvers by name, those of phase space behind those of position."""

POSITION: Mapping[str, Solver] = {solver.name: solver for solver in _ALL}
"""The position-space solvers: those that are not ``augmented``."""


def compile_plan(schedule: Schedule, solver: str = "dpmpp2m", denoiser: Denoiser | None = None, **options: Any) -> Plan:
    """Compiles a schedule and a solver into a plan.

    Args:
        schedule: The noise levels, shared or one grid per row.
        solver: A name from the registry.
        denoiser: The model of the plan: checks the range, moves the levels onto a whole-timestep network's own,
            and records path and fingerprint.
        options: The solver's own options, such as eta.

    Raises:
        SigmaTuneError: for an unknown solver or option, or levels outside the model's range.
    """
    chosen = SOLVERS[solver]
    if denoiser is not None and denoiser.solver_options is not None:
        if not chosen.augmented:
            raise SigmaTuneError(
                f"this network was trained in phase space and {chosen.name} samples in position space; use a solver "
                "such as reduced-oba."
            )
        options = {**denoiser.solver_options, **options}
    if denoiser is None:
        full = chosen.options(options)
        coefficients = chosen.build(torch.from_numpy(schedule.sigmas.copy()), **full)
        return Plan(schedule, chosen.name, coefficients, solver_options=full)
    levels = denoiser.snap(schedule.sigmas[..., :-1])
    if denoiser.integer_time:
        schedule = schedule.moved(levels, "snapped")
    plan = compile_plan(schedule, solver, **options)
    return plan.with_notes(path=denoiser.path.spec(), fingerprint=denoiser.fingerprint())


def partial(plan: Plan, sigma: float, steps: int | None = None) -> Plan:
    """Starts a plan at a noise level below its first: img2img, with the strength given as a noise level.

    Args:
        plan: A plan of one of the solvers, one schedule for all rows.
        sigma: Where to start, from the last positive level up to the first.
        steps: How many steps to take; by default the plan keeps its levels below ``sigma``.

    Raises:
        SigmaTuneError: if sigma is outside, or the coefficients are no solver's, so that they hold for their levels only.
    """
    if plan.solver == "custom" or plan.solver_options.get("weights") is not None:
        raise SigmaTuneError(
            "the plan's coefficients were learned for its own levels; start from a plan of one of the solvers instead."
        )
    schedule = plan.schedule.partial(sigma, steps)
    made = compile_plan(schedule, plan.solver, **plan.solver_options)
    notes = {"path": plan.path, "fingerprint": plan.fingerprint, "micro_batch": plan.micro_batch}
    return made.with_notes(**notes, tuned_for=plan.tuned_for)


def load_plan(path: str | Path, *, solver: str | None = None) -> Plan:
    """Reads a plan file and compiles it; the levels are those of the file, bit for bit.

    Args:
        path: A file that :meth:`Plan.save` wrote.
        solver: Run the levels with another solver than they were tuned for; warns.

    Raises:
        SigmaTuneError: if the file is not a plan of a known version, or names an unknown solver.
    """

    def build(schedule: Schedule, name: str, options: Mapping[str, Any]) -> Coefficients:
        return compile_plan(schedule, name, **options).coefficients

    return read(path, build, solver=solver)


__all__ = ["POSITION", "SOLVERS", "Solver", "compile_plan", "load_plan", "partial"]
