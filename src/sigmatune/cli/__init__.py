"""The command line: one small file per command, nothing heavy imported before a command runs."""

from __future__ import annotations

import os
import sys
import warnings

# Waiting OpenMP threads that spin make torch ten times slower next to one busy process. Must be set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer

from sigmatune.cli import check, demo, sample, schedule, tune
from sigmatune.errors import SigmaTuneError

app = typer.Typer(
    name="sigmatune",
    help="Give it a diffusion model and a budget of network calls; it returns the noise levels that get the most out of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (tune, sample, schedule, check, demo):
    app.command()(getattr(command, command.__name__.rpartition(".")[2]))


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
    try:
        app()
    except SigmaTuneError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("stopped; the same command goes on where it was.", file=sys.stderr)
        raise


__all__ = ["app", "main"]
