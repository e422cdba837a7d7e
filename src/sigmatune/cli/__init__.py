"""The command line: one small file per command, nothing heavy imported before a command runs."""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from pathlib import Path
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
    doctor,
    evaluate,
    examples,
    export,
    finetune,
    import_,
    logs,
    models,
    outside,
    push,
    sample,
    schedule,
    spectrum,
    studio,
    train,
    tune,
)
from sigmatune.cli.other_names import known_as
from sigmatune.support.errors import SigmaTuneError, sentence

app = typer.Typer(
    name="sigmatune",
    help="Give it a diffusion model and a budget of network calls; it returns the noise levels that make the most of it.",
    context_settings={"help_option_names": ["-h", "--help"]},  # commands inherit it
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
    push,
    conformance,
    demo,
    studio,
    models,
    doctor,
):
    function = command.__name__.rpartition(".")[2]
    name, does = function.strip("_"), getattr(command, function)
    app.command(name, cls=getattr(command, "COMMAND", None), help=examples.text(does), epilog=examples.example(name))(
        does
    )


BadUsage: Any = typer.BadParameter.__mro__[2]
"""The base class of usage errors, found through a class that typer exports, because typer has its own copy of click."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, by the shells' convention."""

CUT_OFF = 1
"""The exit code after the output was closed, as by ``| head``; the same as typer's own."""


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
    verbose: int = typer.Option(
        0, "--verbose", "-v", count=True, show_default=False, metavar="",
        help="Log progress to stderr; -vv logs more. Put it before the command.",
    ),
) -> None:  # fmt: skip
    if version:
        from sigmatune import __version__

        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise SigmaTuneError("name a command, such as tune; sigmatune --help lists them.")
    context.with_resource(logs.logged(verbose))


def main() -> None:
    """Runs the command line: exit code 0, or 2 with one sentence for bad input.

    Refusals by the machine (memory, permissions, a full disk) become a sentence, too. Only a bug prints a traceback.
    """
    warnings.showwarning = _warn
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal with fewer characters gets escapes
            stream.reconfigure(errors="backslashreplace")
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        outside.check_memory()
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except SigmaTuneError as error:
        _fail(str(error))
    except BadUsage as error:
        _fail(_usage(error))
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader closed our output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = CUT_OFF
    except Exception as error:
        said = outside.refusal(error)
        if said is None:
            raise
        _fail(said)
    if code == INTERRUPTED:
        print(
            "stopped; run the same command again: it resumes where it was, if it keeps measurements, images or a training.",
            file=sys.stderr,
        )
    sys.exit(code)


def _warn(message: Warning | str, *_args: Any, **_kwargs: Any) -> None:
    print(f"warning: {sentence(str(message))}", file=sys.stderr)


def _open_closed() -> None:
    """Sends nowhere what would go to an output that the shell has closed (``>&-``), which Python leaves as None."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open to the end of the process


NUMBERS = {"integer": "a whole number, such as 8", "number": "a number, such as 2.5"}
"""What an option takes instead of a text, by the word of the library that parses options."""


def _usage(error: Any) -> str:
    """The message of a usage error; for a misplaced global option, it says where the option belongs."""
    option = getattr(error, "option_name", None)
    if option in ("-v", "--verbose"):
        return f"{option} goes before the command, as in sigmatune {option} {getattr(error.ctx, 'info_name', None)} ..."
    said = str(error.format_message())
    options = {name for one in getattr(getattr(error.ctx, "command", None), "params", ()) for name in one.opts}
    if said.startswith("Got unexpected extra argument") and (takes := options & {"--plan", "--plans"}):
        return f"{said.rstrip('.')}; pass a plan with {takes.pop()}."
    if said.startswith("No such option") and (known := known_as(str(option), options)):
        return f"No such option: {option}; here it is {known}."
    if said.startswith("No such option") and (
        file := next((a for a in sys.argv[1:] if a[:1] == "-" and Path(a).exists()), "")
    ):
        return f"No such option: {option}; the file {file} is written ./{file}."
    return re.sub("Input should be a valid (integer|number).*", lambda kind: f"it takes {NUMBERS[kind[1]]}.", said)


def _fail(said: str) -> NoReturn:
    print(f"error: {sentence(said)}", file=sys.stderr)
    sys.exit(2)


__all__ = ["app", "main"]
