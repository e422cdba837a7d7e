"""``sigmatune export``: a plan in another program's format."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from sigmatune.cli.common import may_write
from sigmatune.cli.shared_options import Force
from sigmatune.support.errors import SigmaTuneError

_OPTIONS = {"prediction": ("diffusers", "diffusers-stock"), "timesteps": ("comfyui", "a1111")}


def export(
    plan: str = typer.Argument(help="Plan file; `list` names the targets."),
    to: str = typer.Option("", "--to", help="diffusers, diffusers-stock, comfyui, a1111, k-diffusion, sd.cpp, json."),
    out: Path | None = typer.Option(None, "--out", "-o", help="File to write; printed by default."),
    prediction: str = typer.Option(
        "", help="--to diffusers, diffusers-stock: what the model predicts, epsilon, v_prediction, sample, flow."
    ),
    timesteps: str = typer.Option(
        "", help="--to comfyui, a1111: whole, as these programs round them (default), or exact, the plan's own."
    ),
    force: Force = False,
) -> None:
    """Write a plan for another program, with a line that states what its numbers mean.

    If the target cannot express the plan, the export is refused with the reason.
    """
    from sigmatune.interop.exports import TARGETS, remark
    from sigmatune.interop.exports import export as exported
    from sigmatune.plan import load_plan
    from sigmatune.support.files import write_text

    if plan == "list":
        for target in TARGETS.values():
            print(f"{target.name:16} {target.summary}")
        return
    if not to:
        raise SigmaTuneError(f"name the target by --to: {', '.join(TARGETS)}.")
    may_write((out, "plan" if TARGETS[to].name == "json" else "export"), inputs=[plan], force=force)
    options = {name: value for name, value in (("prediction", prediction), ("timesteps", timesteps)) if value}
    for name in options:
        if TARGETS[to].name not in _OPTIONS[name]:
            raise SigmaTuneError(f"--{name} belongs to --to {' or '.join(_OPTIONS[name])}.")
    loaded = load_plan(plan)
    text = exported(loaded, to, **options)
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        write_text(out, text)
        print(f"written to {out}")
    said = remark(loaded, to, **options)
    if said:
        print(said, file=sys.stdout if out else sys.stderr)
