"""The fields of a rule file, version 1, as they stand in its JSON."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import Field

from sigmatune.plan import MOST_ROWS
from sigmatune.spectra.mixture import MixtureFields
from sigmatune.support import json_file
from sigmatune.support.json_file import Strict

FORMAT: Final = "sigmatune/rule"
VERSION: Final = 1


class ControlFields(Strict):
    """The controls of the spectra: :class:`sigmatune.rules.Control`."""

    label: str | None = Field(default=None, description="the class whose spectra are drawn; all data by default")
    mean: bool = Field(default=False, description="the mean spectrum in every row instead of a draw")
    texture: float = Field(default=0.0, description="every spectrum is multiplied by k to this power")
    amplitude: float = Field(default=1.0, gt=0, description="every spectrum is multiplied by this")
    by_class: bool = Field(default=False, description="draw a class for every row and condition the network on it")
    shuffled: bool = Field(
        default=False, description="with by_class, spectra of another class than the network's condition"
    )


class RuleFile(Strict):
    """The fields of a rule file, version 1."""

    format: Literal["sigmatune/rule"]
    version: Literal[1]
    family: str = Field(description="the schedule family that turns a spectrum into levels")
    options: dict[str, Any] = Field(description="the family's options, and ends that are fixed")
    steps: int = Field(ge=1, description="N")
    solver: str
    solver_options: dict[str, Any] = Field(default_factory=dict)
    spectra: MixtureFields = Field(description="the Gaussian mixture that spectra are drawn from by (seed, index)")
    control: ControlFields = Field(default_factory=ControlFields)
    noise_path: dict[str, Any]
    model: str | None = Field(default=None, description="fingerprint of the model that the rule was made for")
    micro_batch: int = Field(
        ge=1, le=MOST_ROWS, description="rows per network call; images are bit-equal only at equal sizes"
    )

    def text(self) -> str:
        """The text of the file."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of rule files, as published in ``rule.schema.json``."""
    return json_file.schema(RuleFile)
