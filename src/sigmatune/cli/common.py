"""What several commands share: the progress bar, checks of output places, options in ``name=value`` form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sigmatune.errors import SigmaTuneError

if TYPE_CHECKING:
    from sigmatune.denoiser import Denoiser


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Shows a bar on stderr and yields the function (what, done, total) that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        tasks: dict[str, int] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        yield report


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


def load_model(source: str, device: str) -> Denoiser:
    """Loads a model for a command.

    Raises:
        SigmaTuneError: if there is no such model or device.
    """
    from sigmatune.models import load

    return load(source, device=None if device == "auto" else device)


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
