"""Plan files: JSON that loads back bit for bit, states its meaning, and is refused when it is not understood.

Levels are written in their shortest form that reads back to the same float64 (an infinite first level as ``"inf"``).
Next to them stand the pairs (t, sigma) that the network is to receive. They are what runs, on any machine: the noise path,
which another processor or library may have rounded in another way, is only compared with them, by
:meth:`NoisePath.agrees <sigmatune.noise.path.NoisePath.agrees>`. Writing is atomic: a reader sees the old file or the new one,
never half of one.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field, PlainSerializer

from sigmatune import json_file, noise
from sigmatune.errors import PlanMismatch, SigmaTuneError
from sigmatune.files import write_text
from sigmatune.json_file import Strict
from sigmatune.machine import Coefficients
from sigmatune.plan import MOST_ROWS, Plan
from sigmatune.schedule import Schedule

Build = Callable[[Schedule, str, Mapping[str, Any]], Coefficients]
FORMAT: Final = "sigmatune/plan"
VERSION: Final = 1


def _read_level(value: Any) -> Any:
    return float("inf") if value == "inf" else value


Level = Annotated[
    float,
    BeforeValidator(_read_level, json_schema_input_type=float | Literal["inf"]),
    PlainSerializer(lambda value: "inf" if np.isinf(value) else value),
    Field(ge=0),
]
Levels = Annotated[list[Level], Field(fail_fast=True)]
Numbers = Annotated[list[float], Field(fail_fast=True)]
Twice = Annotated[list[Numbers], Field(fail_fast=True)]
Thrice = Annotated[list[Twice], Field(fail_fast=True)]
Nested = Numbers | Twice | Thrice | Annotated[list[Thrice], Field(fail_fast=True)]


class TableFields(Strict):
    """The coefficient arrays of :class:`sigmatune.machine.Coefficients`, as nested lists."""

    q: Levels | Annotated[list[Levels], Field(fail_fast=True)]
    A: Nested
    b: Nested
    c: Nested
    start: Nested
    origin: Nested
    noise_channels: int = Field(ge=0)
    G: Nested | None = None
    double: bool = Field(default=False, description="the state is kept in float64")


class PlanFile(Strict):
    """The fields of a plan file, version 1."""

    format: Literal["sigmatune/plan"]
    version: Literal[1]
    sigma_kind: Literal["ve"] = Field(
        description="sigma is the noise level of x0 + sigma eps, whatever the model's own scaling; flow time is "
        "sigma / (1 + sigma), after the shift"
    )
    sigmas: Levels | Annotated[list[Levels], Field(fail_fast=True)] = Field(
        description="descending, ending in an explicit 0"
    )
    steps: int = Field(ge=1, description="N; there are N + 1 sigmas")
    calls: int = Field(ge=1, description="network calls, each at one entry of network_sigmas")
    network_sigmas: Levels | Annotated[list[Levels], Field(fail_fast=True)] = Field(
        description="the level of each network call"
    )
    network_times: Numbers | Twice | None = Field(
        default=None, description="the t that the network receives at each call, if the noise path is known"
    )
    solver: str
    solver_options: dict[str, Any] = Field(default_factory=dict)
    family: str
    family_options: dict[str, Any]
    noise_path: dict[str, Any] | None = None
    model: str | None = Field(default=None, description="fingerprint of the model that the plan was made for")
    micro_batch: int = Field(
        ge=1, le=MOST_ROWS, description="rows per network call; images are bit-equal only at equal sizes"
    )
    table: TableFields | None = Field(default=None, description="coefficients that no formula gives")
    tuned_for: dict[str, Any] | None = None
    evidence: dict[str, Any] | None = None
    cost: dict[str, Any] | None = None


def write(plan: Plan, path: str | Path) -> None:
    """Writes a plan file atomically.

    Raises:
        SigmaTuneError: if the folder does not exist or cannot be written to.
    """
    write_text(path, dumps(plan))


def dumps(plan: Plan) -> str:
    """Returns the text of a plan file."""
    q = plan.coefficients.q.numpy()
    path = plan.noise_path()
    times = None if path is None else path.time(q).tolist()
    fields = PlanFile(
        format=FORMAT,
        version=VERSION,
        sigma_kind="ve",
        sigmas=plan.schedule.sigmas.tolist(),
        steps=plan.steps,
        calls=plan.calls,
        network_sigmas=q.tolist(),
        network_times=times,
        solver=plan.solver,
        solver_options=_lists(plan.solver_options),
        family=plan.schedule.family,
        family_options=dict(plan.schedule.options),
        noise_path=None if plan.path is None else dict(plan.path),
        model=plan.fingerprint,
        micro_batch=plan.micro_batch,
        table=_table(plan.coefficients) if plan.solver == "custom" else None,
        tuned_for=_plain(plan.tuned_for),
        evidence=_plain(plan.evidence),
        cost=_plain(plan.cost),
    )
    return json.dumps(fields.model_dump(mode="json", exclude_none=True), indent=2, allow_nan=False) + "\n"


def read(
    path: str | Path,
    build: Build,
    *,
    solver: str | None = None,
) -> Plan:
    """Reads a plan file.

    Args:
        path: The file.
        build: Makes the coefficients of a named solver with its options for a schedule.
        solver: Use this solver instead of the file's; warns, because the levels were chosen for the file's.

    Raises:
        SigmaTuneError: in one sentence, for anything that is no plan of a known version.
    """
    return json_file.read(path, lambda text: loads(text, build, solver=solver), kind="plan")


def loads(text: str, build: Build, *, solver: str | None = None) -> Plan:
    """Reads the text of a plan file; see :func:`read`."""
    return json_file.guarded(lambda: _loads(text, build, solver), kind="plan")


def _loads(text: str, build: Build, solver: str | None) -> Plan:
    fields = parse(text)
    schedule = Schedule(fields.sigmas, fields.family, fields.family_options)  # type: ignore[arg-type]  # lists are read
    if solver is not None and solver != fields.solver:
        warnings.warn(
            f"this plan was tuned for the solver {fields.solver}, not {solver}; its evidence does not carry over.",
            PlanMismatch,
            stacklevel=9,
        )
    name = solver or fields.solver
    if (fields.table is None) == (fields.solver == "custom"):
        raise SigmaTuneError('a table of coefficients belongs to the solver "custom" and to no other.')
    table = fields.table if name == "custom" else None
    options = fields.solver_options if solver is None or solver == fields.solver else {}
    coefficients = build(schedule, name, options) if table is None else _untable(table)
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


def parse(text: str) -> PlanFile:
    """Validates the text of a plan file.

    Raises:
        SigmaTuneError: in one sentence that lists every problem with its place in the file.
    """
    return json_file.parse(text, PlanFile, kind="plan", form=FORMAT, version=VERSION)


def schema() -> dict[str, Any]:
    """The JSON Schema of plan files, as published in ``plan.schema.json``."""
    return json_file.schema(PlanFile)


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
        raise SigmaTuneError("network_sigmas contradict the levels that the solver asks the network at.")
    if fields.noise_path is None:
        return
    path = noise.from_spec(fields.noise_path)
    path.check(levels)
    if fields.network_times is not None:
        times = np.array(fields.network_times, dtype=np.float64)
        if times.shape != levels.shape or not path.agrees(levels, times).all():
            raise SigmaTuneError("network_times contradict the noise path and the levels.")


def _plain(notes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if notes is None else dict(notes)


def _lists(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON has them."""
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in options.items()}


def _table(coefficients: Coefficients) -> TableFields:
    lists = {name: getattr(coefficients, name).tolist() for name in ("q", "A", "b", "c", "start", "origin")}
    channels = int(coefficients.G.shape[-1])
    return TableFields(
        **lists, noise_channels=channels, G=coefficients.G.tolist() if channels else None, double=coefficients.double
    )


def _untable(fields: TableFields) -> Coefficients:
    names = ("q", "A", "b", "c", "start", "origin")
    arrays = {name: torch.tensor(getattr(fields, name), dtype=torch.float64) for name in names}
    empty = torch.zeros(*arrays["b"].shape, 0, dtype=torch.float64)
    G = empty if fields.G is None else torch.tensor(fields.G, dtype=torch.float64)
    return Coefficients(**arrays, G=G, double=fields.double)
