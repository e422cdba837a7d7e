"""The command line: one small file per command, nothing heavy imported before a command runs."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, NoReturn

# Waiting OpenMP threads that spin make torch ten times slower next to one busy process. Must be set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer

from sigmatune.cli import (
    analyze,
    bench,
    check,
    conformance,
    demo,
    evaluate,
    export,
    finetune,
    import_,
    sample,
    schedule,
    spectrum,
    train,
    tune,
)
from sigmatune.errors import SigmaTuneError

app = typer.Typer(
    name="sigmatune",
    help="Give it a diffusion model and a budget of network calls; it returns the noise levels that get the most out of it.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    tune,
    sample,
    evaluate,
    bench,
    schedule,
    spectrum,
    analyze,
    train,
    finetune,
    check,
    export,
    import_,
    conformance,
    demo,
):
    function = command.__name__.rpartition(".")[2]
    app.command(function.strip("_"), cls=getattr(command, "Command", None))(getattr(command, function))


BadUsage: Any = typer.BadParameter.__mro__[2]
"""What every usage error is; typer brings its own copy of click, so the class is found from one that typer exports."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, by the shells' convention."""


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from sigmatune import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Runs the command line: exit code 0, or 2 with one sentence for bad input."""
    warnings.showwarning = lambda message, *_args, **_kwargs: print(f"warning: {message}", file=sys.stderr)
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
    except SigmaTuneError as error:
        _fail(str(error))
    except BadUsage as error:
        _fail(error.format_message())
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print(
            "stopped; a tune, an analysis, a training or a fine-tuning that is run again goes on where it was.",
            file=sys.stderr,
        )
    sys.exit(code)


def _fail(sentence: str) -> NoReturn:
    print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(2)


__all__ = ["app", "main"]
