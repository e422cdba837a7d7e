"""Explore: a plan from what the page states, its samples, and their distance to the converged solution of the same noises."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from sigmatune import measures, schedules, solvers
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import Schedule
from sigmatune.evaluation.leaderboard import entries
from sigmatune.noise import Array
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan.calls import largest
from sigmatune.report.measurements import interval
from sigmatune.report.residual import Residual, residual
from sigmatune.studio.held_models import HeldModel, is_image
from sigmatune.studio.page_state import PageState
from sigmatune.studio.turns import TaskTurn
from sigmatune.support.errors import SigmaTuneError

AUTHORS = "the model's own"
"""The name of the schedule that a model's authors chose."""


@dataclass(frozen=True, eq=False)
class Look:
    """The samples of a plan.

    Attributes:
        plan: The plan.
        ends: Its end points, (n, *shape).
        images: The same, decoded.
        seconds: How long they took.
    """

    plan: Plan
    ends: torch.Tensor
    images: torch.Tensor
    seconds: float


@dataclass(frozen=True)
class ErrorRow:
    """The error of a plan by one measure: the geometric mean over the noises, with its 95% bootstrap interval."""

    measure: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Errors:
    """The distance of samples to the converged solution.

    Attributes:
        converged: The decoded converged samples, (n, C, H, W).
        by_measure: A row for each measure that suits the model.
        of_error, of_images: Power of the error and of the converged samples by frequency; None if they are no images.
        seconds: How long it took.
    """

    converged: torch.Tensor
    by_measure: Sequence[ErrorRow]
    of_error: Residual | None
    of_images: Residual | None
    seconds: float


def plan_of(state: PageState, model: Denoiser) -> Plan:
    """Compiles what the page states: the levels if they are given, else the family with as many steps as the calls allow.

    Raises:
        SigmaTuneError: for an unknown name or option, levels out of the model's range or order, or too few calls.
    """
    solver = solvers.solver(state.solver)
    if solver.augmented:
        raise SigmaTuneError(
            f"{solver.name} samples in phase space, which this page does not show; use `sigmatune sample`."
        )
    if state.levels:
        plan = moved_plan(state.levels, solver.name, model)
    else:
        family, options = authors(model) if state.family.strip() == AUTHORS else schedules.named(state.family.strip())
        plan = entries(model, [(family, options)], [solver.name], [state.calls])[0].plan
    return plan.with_notes(micro_batch=state.noises)


def moved_plan(levels: Sequence[float], solver: str, model: Denoiser) -> Plan:
    """Compiles levels that a visitor moved or typed."""
    return compile_plan(Schedule(np.array([*snapped(levels, model), 0.0])).bound(model.path), solver, model)


def resampled(state: PageState, model: Denoiser) -> PageState:
    """The state whose moved levels follow the same curve with as many steps as its calls allow.

    Raises:
        SigmaTuneError: as for :func:`plan_of` and :meth:`sigmatune.core.schedule.Schedule.resample`.
    """
    curve, solver = Schedule(np.array([*state.levels, 0.0])), solvers.solver(state.solver)

    def build(steps: int) -> Plan:
        return moved_plan(curve.resample(steps).sigmas[:-1].tolist(), solver.name, model)

    plan = largest(build, solver, state.calls, model)
    return replace(state, levels=tuple(plan.schedule.sigmas[:-1].tolist()))


def authors(model: Denoiser) -> tuple[str, dict[str, float]]:
    """The family and the options that a model's authors chose; uniform in their time where they chose none."""
    family, options = model.default_schedule or ("uniform-trailing", {})
    return family, dict(options)


def snapped(levels: Sequence[float], model: Denoiser) -> Array:
    """Levels as a network takes them: those of the nearest whole timesteps where it accepts no others."""
    sigmas = np.array(levels, dtype=np.float64)
    if not model.integer_time:
        return sigmas
    return np.asarray(model.path.sigma(np.rint(model.path.time(sigmas))))


def family_choices(model: Denoiser | None) -> list[str]:
    """The families that have a curve on a model's path, the authors' first."""
    names = [name for name, family in schedules.FAMILIES.items() if model is None or family.defined_on(model.path)]
    return [AUTHORS, *(name for name in names if not name.startswith(("spectral", "measured", "diffusers", "phase")))]


def solver_choices() -> list[tuple[str, str]]:
    """The solvers that the page shows, (what they are, name): those of the position alone, which are not phase space's."""
    shown = [solver for solver in solvers.SOLVERS.values() if not solver.augmented]
    return [(solver.name if solver.paired() else f"{solver.name} (adds noise)", solver.name) for solver in shown]


def look(held: HeldModel, state: PageState, turn: TaskTurn) -> Look:
    """Samples the stated plan on the stated noises."""
    began, plan = time.monotonic(), plan_of(state, held.model)
    ends = held.ends(plan, state.seed, state.noises, turn, "sampling")
    return Look(plan, ends, held.model.decode(ends), time.monotonic() - began)


def errors_of(held: HeldModel, looked: Look, state: PageState, turn: TaskTurn) -> Errors:
    """Measures samples against the converged solution of the same noises, by every measure that suits the model."""
    began = time.monotonic()
    exact = held.converged(state.seed, state.noises, turn)
    rows = [row(name, looked.ends, exact, held.model) for name in measures.MEASURES if name != "features"]
    of_error, of_images = (residual(looked.ends, exact), residual(exact)) if is_image(held.model) else (None, None)
    suited = [one for one in rows if one is not None] if looked.plan.coefficients.deterministic else []
    return Errors(held.model.decode(exact), suited, of_error, of_images, time.monotonic() - began)


def row(measure: str, ends: torch.Tensor, exact: torch.Tensor, model: Denoiser) -> ErrorRow | None:
    """The error by one measure; None if it does not suit the samples."""
    if measures.MEASURES[measure].suits(tuple(model.shape)) is not None:
        return None
    errors = np.asarray(measures.fit(measure, exact, model).errors(ends, exact).clamp(min=1e-12).numpy())
    low, high = interval(errors) if len(errors) > 1 else (float(errors[0]), float(errors[0]))
    return ErrorRow(measure, float(np.exp(np.log(errors).mean())), low, high)


def octave_rows(of_error: Residual, of_images: Residual) -> list[tuple[str, float, float]]:
    r"""The error by octave of spatial frequency.

    With :math:`E_o = \sum_{k \in o} n_k P_k` of the error and :math:`S_o` of the images in octave o,

    Returns:
        (frequencies, share of the squared error :math:`E_o / \sum E`, relative error :math:`\sqrt{E_o / S_o}`) for the mean
        colour, then for the octaves 1, 2-3, 4-7, ... cycles per image.
    """
    rings = len(of_error.power)
    edges = [0, *(2**i for i in range(rings.bit_length())), rings]
    octaves = [(a, min(b, rings)) for a, b in pairwise(edges) if a < min(b, rings)]
    energy, signal = of_error.power * of_error.modes, of_images.power * of_images.modes
    rows = []
    for low, high in octaves:
        e, s = float(energy[low:high].sum()), float(signal[low:high].sum())
        name = "mean colour" if high == 1 else f"{low}" if high == low + 1 else f"{low} to {high - 1}"
        rows.append((name, e / max(float(energy.sum()), 1e-300), (e / max(s, 1e-300)) ** 0.5))
    return rows
