"""One command to copy for each command of the program, at the end of its ``--help``."""

from __future__ import annotations

import inspect
from collections.abc import Callable

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


def text(function: Callable[..., object]) -> str:
    """The help of a command: its docstring without the line breaks of its paragraphs.

    Typer keeps those of all paragraphs but the first, and they fit no terminal.
    """
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def example(name: str) -> str:
    """The last line of a command's help."""
    return f"For example: sigmatune {EXAMPLES[name]}"
