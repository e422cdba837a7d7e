"""Rule files: JSON that holds all that the schedules of every (seed, index) follow from.

Next to family, solver and noise path stand the numbers of the mixture that spectra are drawn from and the controls. Nothing
else is needed to run it: neither the images nor the library that fitted the mixture. Written atomically, read strictly.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from sigmatune import json_file, noise
from sigmatune.files import write_text
from sigmatune.json_file import Strict
from sigmatune.plan import MOST_ROWS
from sigmatune.rules.rule import Control, SpectralRule
from sigmatune.spectra.mixture import Mixture, MixtureFields

if TYPE_CHECKING:
    from sigmatune.plan import Plan

FORMAT: Final = "sigmatune/rule"
VERSION: Final = 1


class ControlFields(Strict):
    """What steers the spectra: :class:`sigmatune.rules.Control`."""

    label: str | None = Field(default=None, description="the class whose spectra are drawn; all data by default")
    mean: bool = Field(default=False, description="the mean spectrum in every row instead of a draw")
    texture: float = Field(default=0.0, description="every spectrum is multiplied by k to this power")
    amplitude: float = Field(default=1.0, gt=0, description="every spectrum is multiplied by this")
    by_class: bool = Field(default=False, description="a class is drawn for every row and told to the network")
    shuffled: bool = Field(
        default=False, description="with by_class, spectra of another class than the one that is told"
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


def write(rule: SpectralRule, path: str | Path) -> None:
    """Writes a rule file atomically.

    Raises:
        SigmaTuneError: if the folder does not exist or cannot be written to.
    """
    write_text(path, dumps(rule))


def dumps(rule: SpectralRule) -> str:
    """Returns the text of a rule file."""
    fields = RuleFile(
        format=FORMAT,
        version=VERSION,
        family=rule.family,
        options=dict(rule.options),
        steps=rule.steps,
        solver=rule.solver,
        solver_options=dict(rule.solver_options),
        spectra=rule.spectra.fields(),
        control=ControlFields(**asdict(rule.control)),
        noise_path=rule.path.spec(),
        model=rule.fingerprint,
        micro_batch=rule.micro_batch,
    )
    return json.dumps(fields.model_dump(mode="json", exclude_none=True), indent=2, allow_nan=False) + "\n"


def loads(text: str) -> SpectralRule:
    """Reads the text of a rule file.

    Raises:
        SigmaTuneError: in one sentence that lists every problem with its place in the file.
    """
    fields = json_file.guarded(
        lambda: json_file.parse(text, RuleFile, kind="rule", form=FORMAT, version=VERSION), kind="rule"
    )
    return json_file.guarded(lambda: _made(fields), kind="rule")


def load_rule(path: str | Path) -> SpectralRule:
    """Reads a rule file that :meth:`SpectralRule.save` wrote; it draws the same schedules, bit for bit.

    Raises:
        SigmaTuneError: if the file is no rule of a known version, or names an unknown family or solver.
    """
    return json_file.read(path, loads, kind="rule")


def load_any(path: str | Path) -> Plan | SpectralRule:
    """Reads a plan file or a rule file, by the format that it states.

    Raises:
        SigmaTuneError: as :func:`load_rule` and :func:`sigmatune.solvers.load_plan`.
    """
    from sigmatune.solvers import load_plan

    return load_rule(path) if json_file.format_of(path) == FORMAT else load_plan(path)


def schema() -> dict[str, Any]:
    """The JSON Schema of rule files, as published in ``rule.schema.json``."""
    return json_file.schema(RuleFile)


def _made(fields: RuleFile) -> SpectralRule:
    return SpectralRule(
        fields.family,
        fields.steps,
        noise.from_spec(fields.noise_path),
        Mixture.from_fields(fields.spectra),
        solver=fields.solver,
        control=Control(**dict(fields.control)),
        options=fields.options,
        solver_options=fields.solver_options,
        fingerprint=fields.model,
        micro_batch=fields.micro_batch,
    )
