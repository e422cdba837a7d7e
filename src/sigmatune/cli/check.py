"""``sigmatune check``: validates a plan or rule file and prints its content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sigmatune.cli.remembered import load_for
from sigmatune.cli.shared_options import JsonForText

if TYPE_CHECKING:
    from sigmatune.plan import Plan
    from sigmatune.rules import SpectralRule

ROWS = 64
"""Rows of a rule that the check tries on a model."""


def check(
    plan: Path = typer.Argument(help="Plan file or rule file."),
    model: str = typer.Option("", help="Also check that this model can run it."),
    as_json: JsonForText = False,
) -> None:
    """Validate a plan or rule file and print its content; exit code 2 and one sentence if it is invalid."""
    from sigmatune.plan import Plan, check_fit
    from sigmatune.rules.rule_file import load_any

    loaded = load_any(plan)
    if model:
        denoiser = load_for(loaded, model, "cpu")
        check_fit(loaded if isinstance(loaded, Plan) else loaded.plan(0, range(ROWS), denoiser), denoiser)
    summary = _of_plan(loaded) if isinstance(loaded, Plan) else _of_rule(loaded)
    if as_json:
        print(json.dumps({"valid": True, **summary}))
        return
    kind = "plan" if isinstance(loaded, Plan) else "rule"
    print(
        f"{plan} is a valid {kind}: {summary['steps']} steps, {summary['calls']} calls, {loaded.solver}, {summary['family']}."
    )
    for line in (*summary["lead"], *summary.get("evidence", ())):
        print(line)
    if isinstance(loaded, Plan):
        said = [line for line in loaded.describe().splitlines() if not line.startswith("  evidence:")]
        print("\n".join(said))


def _of_plan(plan: Plan) -> dict[str, Any]:
    from sigmatune.tuning.both_numbers import both_numbers, lead
    from sigmatune.tuning.guard_evidence import statement

    both = both_numbers(plan.evidence)
    return {
        "steps": plan.steps,
        "calls": plan.calls,
        "solver": plan.solver,
        "family": plan.schedule.family,
        "deterministic": plan.coefficients.deterministic,
        **_measure_of(plan),
        "verdict": (plan.evidence or {}).get("verdict", "this plan carries no evidence."),
        **({} if both is None else {"both_numbers": both.to_dict()}),
        "lead": lead(plan.evidence),
        "evidence": statement(plan.evidence or {}),
    }


def _measure_of(plan: Plan) -> dict[str, Any]:
    """The measure that a plan was tuned with, and its options; nothing for a plan without evidence of pairs.

    Raises:
        SigmaTuneError: if the plan's measure is none.
    """
    from sigmatune.measures import from_dict

    stated = (plan.evidence or {}).get("measure")
    if stated is None:
        return {}
    fitted = from_dict(stated)
    return {"measure": {"name": fitted.name, "options": dict(fitted.options)}}


def _of_rule(rule: SpectralRule) -> dict[str, Any]:
    from dataclasses import asdict

    from sigmatune import solvers

    spectra, solver = rule.spectra, solvers.solver(rule.solver)
    verdict = f"a schedule per image, drawn like the spectra of {spectra.part(rule.control.label).images} images."
    return {
        "steps": rule.steps,
        "calls": solver.calls(rule.steps),
        "solver": rule.solver,
        "family": rule.family,
        "deterministic": solver.deterministic(**rule.solver_options),
        "control": asdict(rule.control),
        "classes": list(spectra.classes),
        "images": spectra.everything.images,
        "verdict": verdict,
        "lead": [verdict],
    }
