"""The paired error of a plan: how far its images are from the converged solution of the same noises.

The typical error is exp of the trimmed mean over rows of the log of the error, as in :mod:`sigmatune.statistics.paired`,
here for a single plan. The error is by the plan's own measure, or without one the root mean square over the image, in the
model's scale. It needs no data and measures no distance to data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from scipy.stats import trim_mean

from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation.execution import PLAIN, Execution
from sigmatune.evaluation.generation import end_points
from sigmatune.evaluation.record import EvaluationSettings, Figure, versions
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.plan.reference import REFERENCE_FAMILY, REFERENCE_SOLVER, reference_plan
from sigmatune.statistics.jackknife import Estimate, Rows, jackknife
from sigmatune.statistics.paired import TRIM
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Parts

MOST = 256
"""Rows; the reference solution of each costs as much as dozens of plans."""

FIRST, LAST, MOST_DOUBLINGS = 48, 384, 3
CHANGE = 0.01
"""The reference's steps are doubled until the typical error changes by less than this share of itself."""


UNSETTLED = f"the reference did not converge within {LAST} steps"


class ErrorMeasure(Protocol):
    """What a fitted measure (:mod:`sigmatune.measures`, on a floor above) is here."""

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> Mapping[str, Any]: ...
    def errors(self, x: torch.Tensor, exact: torch.Tensor) -> torch.Tensor: ...
    def digest(self) -> str: ...


def paired(
    model: Denoiser,
    plan: Plan,
    n: int,
    *,
    measure: ErrorMeasure | None = None,
    execution: Execution = PLAIN,
) -> Figure:
    """Measures the paired error on the first n noises, at most :data:`MOST`.

    Args:
        model, plan: What is measured.
        n: How many noises.
        measure: The measure of the error, the plan's; by default the root mean square.
        execution: How; its folder keeps the end points.

    Raises:
        SigmaTuneError: for a stochastic plan, or if the reference does not converge.
    """
    (figure,) = together(model, [plan], range(n), measure=measure, execution=execution)
    if figure is None:
        raise SigmaTuneError(f"{UNSETTLED}, so paired errors mean nothing here.")
    return figure


def together(
    model: Denoiser,
    plans: Sequence[Plan],
    rows: range,
    *,
    measure: ErrorMeasure | None = None,
    execution: Execution = PLAIN,
) -> list[Figure | None]:
    """Measures the paired errors of several plans against one reference, so that they can be compared.

    Args:
        model, plans, measure, execution: As for :func:`paired`.
        rows: The indices of the noises, of which the first :data:`MOST` are used.

    Returns:
        A figure for each plan; None where the reference has not converged as far as this plan's small error needs.

    Raises:
        SigmaTuneError: if a plan is stochastic.
    """
    rows = rows[:MOST]
    logs, settled, steps = settle(model, plans, rows, measure=measure, execution=execution)
    settings = _settings(model, steps, rows, execution.seed, measure)
    return [_figure(e, settings) if fine else None for e, fine in zip(logs, settled, strict=True)]


def settle(
    model: Denoiser,
    plans: Sequence[Plan],
    rows: range,
    *,
    measure: ErrorMeasure | None = None,
    execution: Execution = PLAIN,
) -> tuple[list[Array], list[bool], int]:
    """Doubles the reference's steps until the plans' typical errors on some noises change no more.

    Args:
        model, plans, measure, execution: As for :func:`together`.
        rows: The indices of the noises.

    Returns:
        For each plan the logarithms of its errors, (n,), and whether its typical error settled; the reference's steps.

    Raises:
        SigmaTuneError: if a plan is stochastic.
    """
    if not all(plan.coefficients.deterministic for plan in plans):
        raise SigmaTuneError("paired errors compare end points of the same noise, so they need a deterministic plan.")
    held: dict[int, torch.Tensor] = {}
    of_plans = execution.reporting(None)

    def ends(number: int) -> torch.Tensor:
        if execution.folder is not None:  # reads them again: those of many plans would not fit into memory
            return end_points(model, plans[number], rows, of_plans)
        if number not in held:
            held[number] = end_points(model, plans[number], rows, of_plans)
        return held[number]

    doublings = Parts(execution.progress, [FIRST * 2**k for k in range(MOST_DOUBLINGS + 1)])

    def logs(steps: int) -> list[Array]:
        exact = end_points(model, reference_plan(model, steps), rows, execution.reporting(doublings.take()))
        return [_logs(ends(number), exact, measure) for number in range(len(plans))]

    steps, now, settled = FIRST, logs(FIRST), [False] * len(plans)
    while not all(settled) and 2 * steps <= LAST:
        before, steps = now, 2 * steps
        now = logs(steps)
        settled = [abs(trim_mean(a, TRIM) - trim_mean(b, TRIM)) < CHANGE for a, b in zip(now, before, strict=True)]
    return now, settled, steps


def _logs(x: torch.Tensor, exact: torch.Tensor, measure: ErrorMeasure | None) -> Array:
    """The logarithms of the errors, (n,)."""
    if measure is not None:
        e = measure.errors(x, exact)
    else:
        e = (x.double() - exact.double()).flatten(1).square().mean(dim=1).sqrt()
    return np.asarray(e.clamp(min=1e-12).log().numpy())


def _figure(logs: Array, settings: EvaluationSettings) -> Figure:
    def typical(keep: Rows) -> float:
        return float(np.exp(trim_mean(logs[keep], TRIM)))

    (estimate,) = jackknife(len(logs), typical)
    return Figure("paired", "lower", Estimate(estimate.value, estimate.left, (0.0, np.inf)), settings)


def _settings(model: Denoiser, steps: int, rows: range, seed: int, measure: ErrorMeasure | None) -> EvaluationSettings:
    solution = {"name": f"{REFERENCE_FAMILY}, {REFERENCE_SOLVER}", "steps": steps, "n": len(rows)}
    origin = {"seed": seed, "indices": [rows.start, rows.stop]}
    dtype = model.arithmetic()
    seen: dict[str, Any] = {"name": "none", "dtype": dtype}
    if measure is not None and measure.name != "rms":
        seen["measure"] = {"name": measure.name, "options": dict(measure.options), "digest": measure.digest()}
    space = "data" if "measure" not in seen else seen["measure"]["name"]
    return EvaluationSettings(len(rows), solution, seen, space, origin, dtype, versions())
