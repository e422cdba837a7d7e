"""Plan files: JSON that loads back bit for bit, states its meaning, and is refused when it is not understood.

Next to the levels stand the pairs (t, sigma) that the network is to receive. They are what runs, on any machine: the noise
path, which another processor or library may have rounded in another way, is only compared with them, by :meth:`NoisePath.agrees
<sigmatune.noise.path.NoisePath.agrees>`. Writing is atomic: a reader sees the old file or the new one, never half of one.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sigmatune import noise
from sigmatune.core.schedule import Schedule
from sigmatune.core.table import Coefficients
from sigmatune.plan.compiler import compile_plan
from sigmatune.plan.document import PlanFile, coefficients_of, parse
from sigmatune.plan.plan import Plan
from sigmatune.plan.repository import fetch, is_hub_id
from sigmatune.support import json_file
from sigmatune.support.errors import PlanMismatch, SigmaTuneError


def dumps(plan: Plan) -> str:
    """Returns the text of a plan file."""
    return plan.document().text()


def load_plan(path: str | Path, *, solver: str | None = None, revision: str | None = None) -> Plan:
    """Reads a plan file and compiles it; the levels are those of the file, bit for bit.

    Args:
        path: A file that :meth:`Plan.save` wrote, or ``owner/name``, a repository that :meth:`Plan.push_to_hub` wrote.
        solver: Run the levels with another solver than they were tuned for; warns.
        revision: Branch, tag or commit on the hub.

    Raises:
        SigmaTuneError: in one sentence, if the file is no plan of a known version, or names an unknown solver.
    """
    if revision is not None or (is_hub_id(path) and not str(path).endswith(".json")):
        path = fetch(str(path), revision)
    return json_file.read(path, lambda text: loads(text, solver=solver), kind="plan")


def loads(text: str, *, solver: str | None = None) -> Plan:
    """Reads the text of a plan file; see :func:`load_plan`."""
    return json_file.guarded(lambda: _plan_of(parse(text), solver), kind="plan")


def _plan_of(fields: PlanFile, solver: str | None) -> Plan:
    schedule = Schedule(fields.sigmas, fields.family, fields.family_options)  # type: ignore[arg-type]  # lists are read
    if solver is not None and solver != fields.solver:
        warnings.warn(
            f"this plan was tuned for the solver {fields.solver}, not {solver}; its evidence does not carry over.",
            PlanMismatch,
            stacklevel=8,
        )
    name = solver or fields.solver
    if (fields.table is None) == (fields.solver == "custom"):
        raise SigmaTuneError('a table of coefficients belongs to the solver "custom" and to no other.')
    table = fields.table if name == "custom" else None
    options = fields.solver_options if solver is None or solver == fields.solver else {}
    coefficients = compile_plan(schedule, name, **options).coefficients if table is None else coefficients_of(table)
    coefficients = replace(coefficients, by_level=fields.noise == "level")
    pairs = None
    if solver is None:
        _check_stated(fields, schedule, coefficients)
        stated = np.array(fields.network_sigmas, dtype=np.float64)
        coefficients = replace(coefficients, q=torch.from_numpy(stated))
        if fields.noise_path is not None and fields.network_times is not None:
            pairs = np.stack([stated.ravel(), np.array(fields.network_times, dtype=np.float64).ravel()], axis=1)
    return Plan(
        schedule,
        name,
        coefficients,
        fields.noise_path,
        fields.model,
        fields.tuned_for,
        fields.evidence,
        fields.cost,
        fields.micro_batch,
        options,
        pairs,
    )


def _check_stated(fields: PlanFile, schedule: Schedule, coefficients: Coefficients) -> None:
    """Refuses a file whose stated steps, calls or network pairs contradict its levels."""
    q = coefficients.q.numpy()
    if fields.steps != schedule.steps or fields.calls != coefficients.calls:
        raise SigmaTuneError(
            f"the file states {fields.steps} steps and {fields.calls} calls, but its levels make "
            f"{schedule.steps} steps and {coefficients.calls} calls."
        )
    levels = np.array(fields.network_sigmas, dtype=np.float64)
    if levels.shape != q.shape or not noise.close(levels, q).all():
        raise SigmaTuneError("network_sigmas contradict the levels at which the solver calls the network.")
    if fields.noise_path is None:
        return
    path = noise.from_spec(fields.noise_path)
    path.check(levels)
    if fields.network_times is not None:
        times = np.array(fields.network_times, dtype=np.float64)
        if times.shape != levels.shape or not path.agrees(levels, times).all():
            raise SigmaTuneError("network_times contradict the noise path and the levels.")
