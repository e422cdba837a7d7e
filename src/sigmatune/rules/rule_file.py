"""Rule files: JSON from which the schedules of every (seed, index) follow.

The file holds family, solver, noise path, the mixture of spectra and the controls. Running it needs neither the images
nor the library that fitted the mixture. Written atomically, read strictly.
"""

from __future__ import annotations

from pathlib import Path

from sigmatune import noise
from sigmatune.plan import Plan, load_plan
from sigmatune.rules.rule import Control, SpectralRule
from sigmatune.rules.rule_document import FORMAT, VERSION, RuleFile
from sigmatune.spectra.mixture import Mixture
from sigmatune.support import json_file


def dumps(rule: SpectralRule) -> str:
    """Returns the text of a rule file."""
    return rule.document().text()


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
        SigmaTuneError: if the file is not a rule of a known version, or names an unknown family or solver.
    """
    return json_file.read(path, loads, kind="rule")


def load_any(path: str | Path) -> Plan | SpectralRule:
    """Reads a plan file or a rule file, by the format that it states.

    Raises:
        SigmaTuneError: as :func:`load_rule` and :func:`sigmatune.plan.load_plan`.
    """
    return load_rule(path) if json_file.format_of(path) == FORMAT else load_plan(path)


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
