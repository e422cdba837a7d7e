"""The fields of a plan file, version 1, as they stand in its JSON.

Levels are written in their shortest form that reads back to the same float64 (an infinite first level as ``"inf"``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field, PlainSerializer

from sigmatune.core.table import Coefficients
from sigmatune.support import json_file
from sigmatune.support.json_file import Strict

FORMAT: Final = "sigmatune/plan"
VERSION: Final = 1
MOST_ROWS = 2**20
"""Most rows per network call: more than any memory holds, and few enough to be counted in."""


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
    """The coefficient arrays of the linear state machine, as nested lists."""

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
        description="descending, ending in an explicit 0; a run starts at x = sigmas[0] times unit noise, or where it is inf, "
        "at unit noise in the network's own scale"
    )
    steps: int = Field(ge=1, description="N; there are N + 1 sigmas")
    calls: int = Field(ge=1, description="network calls, each at one entry of network_sigmas")
    network_sigmas: Levels | Annotated[list[Levels], Field(fail_fast=True)] = Field(
        description="the level of each network call"
    )
    network_times: Numbers | Twice | None = Field(
        default=None,
        description="the t that the network receives at each call, if the noise path is known; a function whose t runs from "
        "0 to 1 receives a thousandth of it",
    )
    solver: str = Field(
        description="the steps between the levels: euler is of first order; multistep solvers such as dpmpp2m take first-order "
        "steps until they have earlier outputs, and to 0; custom stands in the table"
    )
    solver_options: dict[str, Any] = Field(default_factory=dict)
    family: str
    family_options: dict[str, Any]
    noise_path: dict[str, Any] | None = None
    model: str | None = Field(default=None, description="fingerprint of the model that the plan was made for")
    micro_batch: int = Field(
        ge=1, le=MOST_ROWS, description="rows per network call; images are bit-equal only at equal sizes"
    )
    noise: Literal["level"] | None = Field(
        default=None,
        description="level: the noise of a step is that of a Brownian path over the levels, not of its call",
    )
    table: TableFields | None = Field(
        default=None,
        description="learned coefficients: S = start * noise; at each call z = c S, x0 = D(z, q), S = A S + b x0 (+ G noise); "
        "the image is the last c S",
    )
    tuned_for: dict[str, Any] | None = Field(
        default=None,
        description="what the model predicts; and if it was tuned, its calls, guidance, shape, measure, and under load the "
        "prompts or labels and the size",
    )
    evidence: dict[str, Any] | None = None
    cost: dict[str, Any] | None = None

    def text(self) -> str:
        """The text of the file."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2, allow_nan=False) + "\n"


def parse(text: str) -> PlanFile:
    """Validates the text of a plan file.

    Raises:
        SigmaTuneError: in one sentence that lists every problem with its place in the file.
    """
    return json_file.parse(text, PlanFile, kind="plan", form=FORMAT, version=VERSION)


def schema() -> dict[str, Any]:
    """The JSON Schema of plan files, as published in ``plan.schema.json``."""
    return json_file.schema(PlanFile)


def plain(notes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Notes as JSON has them."""
    return None if notes is None else dict(notes)


def lists(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in JSON types."""
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in options.items()}


def table_of(coefficients: Coefficients) -> TableFields:
    """The fields of a table of coefficients."""
    lists = {name: getattr(coefficients, name).tolist() for name in ("q", "A", "b", "c", "start", "origin")}
    channels = int(coefficients.G.shape[-1])
    return TableFields(
        **lists, noise_channels=channels, G=coefficients.G.tolist() if channels else None, double=coefficients.double
    )


def coefficients_of(fields: TableFields) -> Coefficients:
    """The coefficients that :func:`table_of` wrote."""
    names = ("q", "A", "b", "c", "start", "origin")
    arrays = {name: torch.tensor(getattr(fields, name), dtype=torch.float64) for name in names}
    empty = torch.zeros(*arrays["b"].shape, 0, dtype=torch.float64)
    G = empty if fields.G is None else torch.tensor(fields.G, dtype=torch.float64)
    return Coefficients(**arrays, G=G, double=fields.double)  # type: ignore[arg-type]
