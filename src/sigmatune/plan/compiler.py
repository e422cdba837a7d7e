"""Compiles a schedule and a solver into a plan, and makes the plan that starts at a noise level."""

from __future__ import annotations

from typing import Any

import torch

from sigmatune import solvers
from sigmatune.core.denoiser import Denoiser, check_denoiser
from sigmatune.core.schedule import Schedule
from sigmatune.core.solver import Solver
from sigmatune.plan.plan import Plan
from sigmatune.plan.purpose import made_for
from sigmatune.support.errors import SigmaTuneError, check_kind


def compile_plan(schedule: Schedule, solver: str = "dpmpp2m", denoiser: Denoiser | None = None, **options: Any) -> Plan:
    """Compiles a schedule and a solver into a plan.

    Args:
        schedule: The noise levels, shared or one grid per row.
        solver: A name from the registry.
        denoiser: The model of the plan: checks the range, moves the levels onto a whole-timestep network's own,
            and records path and fingerprint.
        options: The solver's own options, such as eta.

    Raises:
        SigmaTuneError: for an unknown solver or option, levels outside the model's range, or a solver that asks between
            levels and a network of whole timesteps.
    """
    check_kind(
        schedule, Schedule, "a plan is compiled from a Schedule, as st.build_schedule or st.Schedule(sigmas) returns"
    )
    chosen = solvers.solver(solver)
    if denoiser is not None:
        check_denoiser(denoiser)
    if denoiser is not None and denoiser.solver_options is not None:
        if not chosen.augmented:
            raise SigmaTuneError(
                f"this network was trained in phase space and {chosen.name} samples position only; use a solver such as "
                "reduced-oba."
            )
        options = {**denoiser.solver_options, **options}
    if denoiser is None:
        full = chosen.options(options)
        coefficients = chosen.build(torch.from_numpy(schedule.sigmas.copy()), **full)
        return Plan(schedule, chosen.name, coefficients, solver_options=full)
    check_levels(chosen, denoiser)
    levels = denoiser.snap(schedule.sigmas[..., :-1])
    if denoiser.integer_time:
        schedule = schedule.moved(levels, "snapped")
    plan = compile_plan(schedule, solver, **options)
    known = made_for(denoiser) or None
    return plan.with_notes(path=denoiser.path.spec(), fingerprint=denoiser.fingerprint(), tuned_for=known)


def check_levels(solver: Solver, denoiser: Denoiser) -> None:
    """Refuses a solver that asks between the levels of its schedule for a network of whole timesteps.

    Raises:
        SigmaTuneError: for such a pair.
    """
    check_denoiser(denoiser)
    if denoiser.integer_time and solver.between:
        raise SigmaTuneError(
            f"{solver.name} also asks between the levels of the schedule, and this network accepts whole timesteps only; take "
            "a solver of one call per step, such as dpmpp2m or sde-dpmpp2m."
        )


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
    shortened = compile_plan(schedule, plan.solver, **plan.solver_options)
    shortened = shortened.with_noise(plan.noise)
    notes = {"path": plan.path, "fingerprint": plan.fingerprint, "micro_batch": plan.micro_batch}
    return shortened.with_notes(**notes, tuned_for=plan.tuned_for)
