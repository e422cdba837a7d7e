"""Parts of a plan: where a program cuts the list of levels, between two samplers or for a start from an image."""

from __future__ import annotations

import numpy as np
import torch

from sigmatune import solvers
from sigmatune.core.table import Coefficients
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.support.errors import SigmaTuneError


def place_of(levels: Array, given: Array) -> int | None:
    """Where a list of at least two levels stands inside another; None if it does not, float32 being enough."""
    for i in range(len(levels) - len(given) + 1 if len(given) > 1 else 0):
        if np.allclose(given, levels[i : i + len(given)], rtol=1e-4, atol=1e-6):
            return i
    return None


def part_of(plan: Plan, first: int, last: int) -> Coefficients:
    """The coefficients between two points of a plan's schedule, by its solver, which starts afresh.

    Args:
        plan: The plan.
        first, last: Points, 0 <= first < last <= N; at N the part ends in 0, before it at a noise level.

    Raises:
        SigmaTuneError: if the plan's coefficients are no solver's, unless the part is the whole.
    """
    if (first, last) == (0, plan.steps):
        return plan.coefficients
    if plan.solver == "custom" or plan.solver_options.get("weights") is not None:
        raise SigmaTuneError(
            "this plan's coefficients were learned for its own levels, all in one run; connect its SIGMAS complete, or use "
            "a plan of one of the solvers."
        )
    levels = torch.from_numpy(plan.schedule.sigmas[first : last + 1].copy())
    return solvers.solver(plan.solver).build(levels, **plan.solver_options)
