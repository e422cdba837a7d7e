"""What a plan was tuned for: the one place that writes the record and reads the solver from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigmatune.core.denoiser import Denoiser
from sigmatune.plan.plan import Plan
from sigmatune.plan.purpose import made_for, remembered


def tuned_for(
    model: Denoiser, *, solver: str, calls: int, steps: int, measure: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings of a tuning, JSON-ready, as a plan's ``tuned_for``.

    Args:
        model: The model, with its guidance and its conditions.
        solver: The solver's own name.
        calls: Network calls per image that the plan may take.
        steps: N.
        measure: The name and the options of the measure of its error, if it was tuned noise by noise.
    """
    return {
        "calls": calls,
        "steps": steps,
        "solver": solver,
        "shape": list(model.shape),
        **({} if measure is None else {"measure": dict(measure)}),
        "guidance": model.guidance,
        **(model.conditioning or {}),
        **made_for(model),
        **remembered(model),
    }


def solver_of(plan: Plan) -> str:
    """The solver of a plan; for learned coefficients, the solver from which they were tuned."""
    return str((plan.tuned_for or {}).get("solver", "euler")) if plan.solver == "custom" else plan.solver
