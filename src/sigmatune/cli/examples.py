"""One command to copy for each command of the program, at the end of its ``--help``."""

from __future__ import annotations

import inspect
from typing import Any

EXAMPLES = {
    "tune": "tune emoji --calls 6 --solver dpmpp2m -o plan.json",
    "sample": "sample emoji plan.json -n 64 -o grid.png",
    "evaluate": "evaluate emoji --plan plan.json -n 256 --against karras:rho=7",
    "bench": "bench emoji --families karras,beta-open --solvers dpmpp2m --calls 4 6 --plans plan.json -n 256",
    "schedule": "schedule karras -N 8 --model emoji --plan untuned.json",
    "spectrum": "spectrum FOLDER -o spectrum.json",
    "analyze": "analyze emoji -o analysis.npz",
    "train": "train --data FOLDER -o new.run --set training.images=200000",
    "finetune": "finetune MODEL --data FOLDER --calls 6 -o finetuned",
    "check": "check plan.json --model emoji",
    "export": "export plan.json --to comfyui",
    "import": "import ays-sdxl --path vp-scaled-linear -N 8 -o ays.json",
    "push": "push plan.json USER/NAME --dry-run FOLDER",
    "conformance": "conformance core",
    "demo": "demo",
    "studio": "studio emoji",
    "models": "models",
    "doctor": "doctor",
}
"""The arguments by command; words in capitals are the reader's own."""


def texts(name: str, function: Any) -> dict[str, str]:
    """The help of a command and its last line, as typer takes them.

    Typer keeps the line breaks of all paragraphs but the first, which fit no terminal but the docstring's.
    """
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    joined = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return {"help": joined, "epilog": f"For example: sigmatune {EXAMPLES[name]}"}
