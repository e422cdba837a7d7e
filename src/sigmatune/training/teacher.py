r"""The teacher's plan, and the plans that can follow it (:mod:`sigmatune.training.distillation`).

A teacher has to pass the levels of the student's plan. Between them its own levels are as even in log sigma as
possible, over the model's whole range: it is the tuning reference (:mod:`sigmatune.plan.reference`) with fewer calls.
"""

from __future__ import annotations

import numpy as np
import torch

from sigmatune import solvers
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import Schedule, whole
from sigmatune.core.unrolled import Unrolled, unrolled
from sigmatune.noise import Array, close
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan.reference import HIGHEST, REFERENCE_SOLVER
from sigmatune.support.errors import SigmaTuneError

CALLS = 32
"""Default network calls of a teacher."""


def teacher_plan(teacher: Denoiser, plan: Plan, calls: int = CALLS, solver: str = REFERENCE_SOLVER) -> Plan:
    """Builds a teacher's plan, from sigma_max to sigma_min and 0, whatever the ends of the student's plan.

    Args:
        teacher: The model; a whole-timestep model uses every timestep once where the grid would be finer.
        plan: The student's plan, whose levels, except the first, are among the teacher's.
        calls: The largest number of network calls.
        solver: A deterministic solver.

    Raises:
        SigmaTuneError: if these calls do not suffice for the levels.
    """
    path, chosen = teacher.path, solvers.solver(solver)
    inner = np.asarray(followed(plan).q[1:].numpy())
    ends = [path.sigma_min, path.sigma_max, *([HIGHEST] if np.isinf(path.sigma_max) else [])]
    fixed = np.unique([*inner, *(end for end in ends if not close(end, inner).any())])[::-1]
    steps = chosen.steps_for(whole(calls, "calls"))
    if steps < len(fixed):
        raise SigmaTuneError(
            f"a teacher that stops at the plan's levels and both ends of the range needs {chosen.calls(len(fixed))} "
            f"calls or more, not {calls}."
        )
    levels = _refined(fixed, steps)
    if teacher.integer_time:
        times = np.unique(np.rint(path.time(levels)))[::-1]
        levels = path.sigma(times)
        for q in inner:  # to the bit
            levels[times == np.rint(path.time(q))] = q
    return compile_plan(Schedule(np.append(levels, 0.0), "teacher", {"calls": calls}), solver)


def _refined(fixed: Array, steps: int) -> Array:
    """Refines fixed levels to a number of steps by repeatedly splitting the widest interval of log sigma.

    The interval from infinity, which has no width, stays whole.
    """
    width = np.abs(np.diff(np.log(fixed)))
    width[np.isinf(width)] = 0
    pieces = np.ones(len(width))
    for _ in range(steps - len(fixed)):
        pieces[np.argmax(width / pieces)] += 1
    parts = [
        [high, *(np.geomspace(high, low, int(count) + 1)[1:-1] if count > 1 else ())]
        for high, low, count in zip(fixed[:-1], fixed[1:], pieces, strict=True)
    ]
    return np.concatenate([*parts, fixed[-1:]])


def followed(plan: Plan) -> Unrolled:
    """The plan's triangular form.

    Raises:
        SigmaTuneError: for a plan that no network can make follow a teacher.
    """
    form = unrolled(plan.coefficients)
    q, effect = form.q, torch.diagonal(form.W, offset=-1)
    if not bool((q[1:] < q[:-1]).all()):
        raise SigmaTuneError(
            "the plan calls the network at one level twice, or at a higher level after a lower one, so one state would "
            "have two targets; take a plan with falling levels, such as one of dpmpp2m."
        )
    if bool((effect == 0).any()):
        k = int((effect == 0).nonzero()[0])
        raise SigmaTuneError(
            f"the output of the plan's call {k + 1} does not affect the next call, so the network cannot learn there; "
            "take a plan whose every step uses its own output."
        )
    return form
