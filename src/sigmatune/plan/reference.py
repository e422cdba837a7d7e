"""The fine plan with which other plans are compared: the model's own probability-flow ODE, solved to convergence."""

from __future__ import annotations

import numpy as np

from sigmatune import schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import Schedule
from sigmatune.plan.compiler import compile_plan
from sigmatune.plan.plan import Plan

REFERENCE_FAMILY, REFERENCE_SOLVER = "log-uniform", "dpmpp2m"
"""Of the published families and the solvers, this pair has the smallest error at 48-384 calls on 1/f^a spectra."""

HIGHEST = 1e3
"""Largest finite level on a path that starts at sigma = inf, for searches and the reference's log-uniform part."""


def reference_plan(model: Denoiser, steps: int) -> Plan:
    """The fine plan over a model's whole range.

    A whole-timestep network uses every timestep once where the grid would be finer.

    Args:
        model: The denoiser.
        steps: N; the caller has to check that doubling it does not change the result.
    """
    path = model.path
    if np.isinf(path.sigma_max):
        tail = schedules.build(REFERENCE_FAMILY, steps - 1, path, sigma_max=HIGHEST)
        grid = Schedule(np.insert(tail.sigmas, 0, np.inf), REFERENCE_FAMILY)
    else:
        grid = schedules.build(REFERENCE_FAMILY, steps, path)
    if model.integer_time:
        t = np.unique(np.rint(path.time(grid.sigmas[:-1])))[::-1]
        grid = grid.moved(path.sigma(t), "every whole timestep")
    return compile_plan(grid, REFERENCE_SOLVER, model)
