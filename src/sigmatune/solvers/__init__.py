"""Solvers: how to step between the levels of a schedule. One file each; this is the registry."""

from __future__ import annotations

from pathlib import Path

import torch

from sigmatune.denoiser import Denoiser
from sigmatune.plan import Plan
from sigmatune.plan_file import read
from sigmatune.registry import Registry
from sigmatune.schedule import Schedule
from sigmatune.solvers import dpmpp2m, euler, heun
from sigmatune.solvers.solver import Solver

SOLVERS: Registry[Solver] = Registry(
    "solver",
    {module.SOLVER.name: module.SOLVER for module in (euler, heun, dpmpp2m)},
    aliases={"ddim": "euler", "dpm++2m": "dpmpp2m", "dpmpp_2m": "dpmpp2m"},
)


def compile_plan(schedule: Schedule, solver: str = "dpmpp2m", denoiser: Denoiser | None = None) -> Plan:
    """Compiles a schedule and a solver into a plan.

    Args:
        schedule: The noise levels, shared or one grid per row.
        solver: A name from the registry.
        denoiser: The model that it is for: checks the range, moves the levels onto a whole-timestep network's own,
            and records path and fingerprint.

    Raises:
        SigmaTuneError: for an unknown solver, or levels that the model does not know.
    """
    chosen = SOLVERS[solver]
    if denoiser is None:
        return Plan(schedule, chosen.name, chosen.build(torch.from_numpy(schedule.sigmas.copy())))
    levels = denoiser.snap(schedule.sigmas[..., :-1])
    if denoiser.integer_time:
        schedule = schedule.moved(levels, "snapped")
    plan = compile_plan(schedule, solver)
    return plan.with_notes(path=denoiser.path.spec(), fingerprint=denoiser.fingerprint())


def load_plan(path: str | Path, *, solver: str | None = None) -> Plan:
    """Reads a plan file and compiles it; the levels are those of the file, bit for bit.

    Args:
        path: A file that :meth:`Plan.save` wrote.
        solver: Run the levels with another solver than they were tuned for; warns.

    Raises:
        SigmaTuneError: if the file is no plan of a known version, or names an unknown solver.
    """
    return read(path, lambda schedule, name: compile_plan(schedule, name).coefficients, solver=solver)


__all__ = ["SOLVERS", "Solver", "compile_plan", "load_plan"]
