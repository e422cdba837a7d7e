r"""The cost of calls, and the number of steps that a budget of network evaluations allows.

A call at level sigma costs :meth:`~sigmatune.core.denoiser.Denoiser.calls_at` network evaluations per image: one, or with
guidance two inside its interval and one outside. A plan costs the sum over its levels
(:meth:`~sigmatune.plan.Plan.network_calls`). So the number of steps within a budget depends on the levels:

- for a known schedule, :func:`largest` takes the most steps whose own levels fit;
- before a search for levels, :func:`most_per_call` gives the highest cost of a call in the range.
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
"""Levels at which the costs of a model are evaluated, besides the ends of its guidance intervals."""


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


def steps_for(solver: Solver, calls: int, model: Denoiser) -> int:
    """The most steps within some network evaluations per image, if every call costs as much as the most expensive one.

    Raises:
        SigmaTuneError: if not one step fits, or more than a schedule may have.
    """
    each = most_per_call(model)
    if each > 1 and calls < solver.calls(1) * each:
        least = solver.calls(1) * each
        raise SigmaTuneError(
            f"calls = {calls} pays for no step of {solver.name}: under guidance it takes {least}; pass at least as many."
        )
    return solver.steps_for(calls // each)


def largest(build: Callable[[int], Plan], solver: Solver, calls: int, model: Denoiser) -> Plan:
    """The plan with the most steps within some network evaluations per image.

    Args:
        build: Builds the plan of N steps.
        solver: Its solver.
        calls: Network evaluations per image.
        model: Its model.

    Raises:
        SigmaTuneError: if a plan of one step takes more.
    """
    call_costs = costs(model)
    few, many = calls // max(call_costs), calls // max(min(call_costs), 1)
    if few == many >= solver.calls(1) or max(call_costs) == 1:
        return build(solver.steps_for(many))  # every call costs the same
    refused: SigmaTuneError | None = None
    for steps in range(solver.steps_for(max(many, solver.calls(1))), 0, -1):
        try:
            plan = build(steps)
        except SigmaTuneError as error:  # undefined for so many steps
            refused = error
            continue
        if plan.network_calls(model) <= calls:
            return plan
    raise refused or SigmaTuneError(
        f"one step of {solver.name} takes {solver.calls(1) * max(call_costs)} network calls under this guidance, more "
        f"than {calls}; ask for more."
    )
