"""``sigmatune check``: is this a plan file, and what does it say?"""

from __future__ import annotations

import json
from pathlib import Path

import typer

from sigmatune.cli.common import load_model


def check(
    plan: Path = typer.Argument(help="Plan file."),
    model: str = typer.Option("", help="Also check that this model can run it."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of text."),
) -> None:
    """Validate a plan file and say what it holds; exit code 2 and one sentence if it is none."""
    from sigmatune.solvers import load_plan

    loaded = load_plan(plan)
    if model:
        from sigmatune.plan import check_fit

        check_fit(loaded, load_model(model, "cpu"))
    evidence = loaded.evidence or {}
    summary = {
        "valid": True,
        "steps": loaded.steps,
        "calls": loaded.calls,
        "solver": loaded.solver,
        "family": loaded.schedule.family,
        "deterministic": loaded.coefficients.deterministic,
        "verdict": evidence.get("verdict", "this plan carries no evidence."),
    }
    if as_json:
        print(json.dumps(summary))
        return
    print(
        f"{plan} is a valid plan: {loaded.steps} steps, {loaded.calls} calls, {loaded.solver}, {loaded.schedule.family}."
    )
    print(summary["verdict"])
