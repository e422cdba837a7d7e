r"""What a call costs, and how many steps a number of network evaluations pays for.

A call at level sigma costs :meth:`~sigmatune.core.denoiser.Denoiser.calls_at` network evaluations per image: one, or what
guidance asks for there, two inside its interval and one outside. A plan costs the sum over its levels
(:meth:`~sigmatune.plan.Plan.network_calls`). So the number of steps that a budget pays for depends on where the levels
are:

- of a schedule that is known, :func:`largest` takes the most steps whose own levels fit;
- where levels are yet to be searched, :func:`most_per_call` says what a call costs at worst, anywhere in the range.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.identity import HIGHEST
from sigmatune.core.solver import Solver
from sigmatune.plan.plan import Plan
from sigmatune.support.errors import SigmaTuneError

LEVELS = 200
"""Levels at which the costs of a model are read, besides the ends of its guidance intervals."""


def costs(model: Denoiser) -> list[int]:
    """Network evaluations of a call at levels over the model's whole range, and at and above each end of an interval."""
    low, high = model.path.sigma_min, min(model.path.sigma_max, HIGHEST)
    ends = [side for end in model.cost_changes() for side in (end, np.nextafter(end, np.inf))]
    levels = [*np.geomspace(low, high, LEVELS), *(end for end in ends if low <= end <= model.path.sigma_max)]
    levels.append(model.path.sigma_max)
    return [model.calls_at(float(level)) for level in levels]


def most_per_call(model: Denoiser) -> int:
    """The most network evaluations that one call can cost: 2 if guidance is on anywhere in the model's range."""
    return max(costs(model))


def largest(build: Callable[[int], Plan], solver: Solver, calls: int, model: Denoiser) -> Plan:
    """The plan of most steps that takes no more than some network evaluations per image.

    Args:
        build: Makes the plan of N steps.
        solver: Its solver.
        calls: Network evaluations per image.
        model: What it is for.

    Raises:
        SigmaTuneError: if a plan of one step takes more.
    """
    found = costs(model)
    few, many = calls // max(found), calls // max(min(found), 1)
    if few == many >= solver.calls(1) or max(found) == 1:
        return build(solver.steps_for(many))  # every call costs the same
    refused: SigmaTuneError | None = None
    for steps in range(solver.steps_for(max(many, solver.calls(1))), 0, -1):
        try:
            plan = build(steps)
        except SigmaTuneError as error:  # so many steps are not defined here
            refused = error
            continue
        if plan.network_calls(model) <= calls:
            return plan
    raise refused or SigmaTuneError(
        f"one step of {solver.name} takes {solver.calls(1) * max(found)} network calls under this guidance, more than {calls}; "
        "ask for more."
    )
