"""``sigmatune export``: a plan in another program's format."""

from __future__ import annotations

from pathlib import Path

import typer

from sigmatune.cli.common import may_write
from sigmatune.cli.shared_options import Force
from sigmatune.support.errors import SigmaTuneError


def export(
    plan: str = typer.Argument(help="Plan file; `list` names the targets."),
    to: str = typer.Option("", "--to", help="diffusers, diffusers-stock, comfyui, a1111, k-diffusion, sd.cpp, json."),
    out: Path | None = typer.Option(None, "--out", "-o", help="File to write; printed by default."),
    prediction: str = typer.Option(
        "", help="--to diffusers, diffusers-stock: what the model predicts, epsilon, v_prediction, sample, flow."
    ),
    force: Force = False,
) -> None:
    """Write a plan for another program, with a line that states what its numbers mean.

    Refused, with the reason, where the target cannot express the plan.
    """
    from sigmatune.interop.exports import TARGETS
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
    if prediction and TARGETS[to].name not in ("diffusers", "diffusers-stock"):
        raise SigmaTuneError("--prediction belongs to --to diffusers and diffusers-stock.")
    text = exported(load_plan(plan), to, **({"prediction": prediction} if prediction else {}))
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
        return
    write_text(out, text)
    print(f"written to {out}")
