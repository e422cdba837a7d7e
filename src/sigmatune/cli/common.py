"""What several commands share: the progress bar, checks of output places, options in ``name=value`` form."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from sigmatune.errors import SigmaTuneError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from sigmatune.denoiser import Denoiser


class Several(TyperCommand):
    """A command some of whose options take several values at once, as in ``--calls 4 6 8``.

    Attributes:
        options: These options, for each of which the command has a list.
    """

    options: tuple[str, ...] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeats the option's name before every value after the first, then parses as usual."""
        repeated: list[str] = []
        name = None
        for i, word in enumerate(args):
            if word.startswith("-") and not word[1:2].isdigit():
                name = word if word in self.options else None
            elif name is not None and args[i - 1] != name:
                if not word.lstrip("-").replace(".", "", 1).isdigit():  # the model, after the list
                    name = None
                else:
                    repeated.append(name)
            repeated.append(word)
        return list(super().parse_args(ctx, repeated))


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Shows progress on stderr and yields the function (what, done, total) that moves it.

    A terminal gets a bar; anything else a line every quarter of a minute.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield _lines(quiet=quiet)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield report


def _lines(*, quiet: bool) -> Callable[[str, int, int], None]:
    last = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if not quiet and time.monotonic() - last > 15:
            last = time.monotonic()
            print(f"{what}: {done} of {total}", file=sys.stderr)

    return report


def writable(path: Path) -> Path:
    """Returns the path if a file can be written there, before any work is done.

    Raises:
        SigmaTuneError: if its folder does not exist or it is a folder.
    """
    if path.is_dir():
        raise SigmaTuneError(f"{path} is a folder; give the name of a file.")
    if not path.parent.is_dir():
        raise SigmaTuneError(f"there is no folder {path.parent}; make it first.")
    return path


def load_model(source: str, device: str, label: str = "") -> Denoiser:
    """Loads a model for a command, told a class if one is given.

    Raises:
        SigmaTuneError: if there is no such model, device or class.
    """
    from sigmatune.models import load

    return load(source, device=device, **({"label": label} if label else {}))


def guided(model: Denoiser, source: str, scale: float, interval: str) -> Denoiser:
    """Puts classifier-free guidance around a model.

    Args:
        model: The model.
        source: Where it came from; spectra beside its weights can propose the interval.
        scale: 1 for none.
        interval: ``low:high`` in noise levels, ``spectra``, or nothing for all levels.

    Raises:
        SigmaTuneError: for a model that cannot be guided, or an interval that is none.
    """
    from sigmatune.models.bundled import spectra_file
    from sigmatune.spectra.advice import guidance_interval
    from sigmatune.spectra.mixture import Mixture

    if scale == 1:
        if interval:
            raise SigmaTuneError("--interval is for --guidance; also give its scale.")
        return model
    maker: Any = getattr(model, "guided", None)
    if maker is None:
        raise SigmaTuneError(f"{source} knows no classes, so there is no guidance; leave --guidance out.")
    ends = (0.0, float("inf"))
    if interval == "spectra":
        file = spectra_file(source)
        if file is None:
            raise SigmaTuneError(f"no spectra lie beside the weights of {source}; give --interval as low:high.")
        ends = guidance_interval(Mixture.load(file).mean())
    elif interval:
        low, _, high = interval.partition(":")
        try:
            ends = (float(low), float(high))
        except ValueError:
            raise SigmaTuneError(
                f"--interval is written low:high, such as 0.3:3, or spectra, not {interval!r}."
            ) from None
    made: Denoiser = maker(scale, ends)
    return made


def options(given: list[str]) -> dict[str, float]:
    """Reads ``name=value`` options.

    Raises:
        SigmaTuneError: for anything else.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            equals = ""
            number = 0.0
        if not equals:
            raise SigmaTuneError(f"an option is written name=number, such as rho=7, not {text!r}.")
        found[name] = int(number) if number.is_integer() and "." not in value else number
    return found
