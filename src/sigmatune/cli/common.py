"""Shared by several commands: progress, checks of outputs, options in ``name=value`` form."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from sigmatune.support.errors import SigmaTuneError

if TYPE_CHECKING:
    from sigmatune.core.denoiser import Denoiser
    from sigmatune.plan.estimate import CostEstimate


class Several(TyperCommand):
    """A command with options that take several values at once, as in ``--calls 4 6 8``.

    Attributes:
        options: These options of numbers, for each of which the command has a list.
        texts: The same for options of texts, which take every word up to the next option.
    """

    options: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeats the option's name before every value after the first, then parses as usual."""
        repeated: list[str] = []
        name = None
        for i, word in enumerate(args):
            if word.startswith("-") and not word[1:2].isdigit():
                name = word if word in (*self.options, *self.texts) else None
            elif name is not None and args[i - 1] != name:
                if (
                    name not in self.texts and not word.lstrip("-").replace(".", "", 1).isdigit()
                ):  # the model, after the list
                    name = None
                else:
                    repeated.append(name)
            repeated.append(word)
        return list(super().parse_args(ctx, repeated))


def progress_bar(
    title: str, *, quiet: bool = False, estimate: CostEstimate | None = None
) -> AbstractContextManager[Callable[[str, int, int], None]]:
    """Shows the progress of a command on stderr, after its estimate, and yields the function that moves it.

    Args:
        title: What the command does.
        quiet: Shows nothing, for a command whose output a program reads.
        estimate: What it will cost, if this is known.
    """
    from sigmatune.plan.estimate import shown

    return shown(not quiet, title, estimate=estimate)


def may_write(
    *files: tuple[Path | None, str],
    model: str = "",
    inputs: Sequence[str | Path | None] = (),
    folders: Sequence[Path] = (),
    homes: Sequence[Path] = (),
    force: bool,
) -> None:
    """Decides whether a command may write, before any work is done; see :func:`sigmatune.support.outputs.check`.

    Args:
        files: Its outputs, each with its kind.
        model: The model that it reads; a bundled name is not a folder of the user's, even if one has the same name.
        inputs: Its other inputs.
        folders, homes: The run folders that it writes to.
        force: The option ``--force``.

    Raises:
        SigmaTuneError: if it may not.
    """
    from sigmatune.models.bundled import bundled_names
    from sigmatune.support import outputs

    read = [*inputs, *([] if model in bundled_names() else [model])]
    outputs.check(files, folders=folders, homes=homes, inputs=read, force=force)


def check_run(work: Path, option: str = "--run") -> None:
    """Refuses a run folder that holds a trained model; a command asks before it loads its own.

    Args:
        work: The folder.
        option: What names another one.

    Raises:
        SigmaTuneError: if it does.
    """
    if (work / "model").is_dir():
        other = work.with_name(f"{work.stem}-measured.run")
        raise SigmaTuneError(
            f"{work} holds a trained model, so no measurements go there; pass another -o, or {option} {other}."
        )


@contextmanager
def measuring(work: Path) -> Iterator[None]:
    """Holds the run folder of a command; if the result cannot be written, the message says that the measurements stay.

    Raises:
        SigmaTuneError: if another process holds it, it cannot be written to, or it holds a trained model, beside which nothing
            should lie that may be deleted.
    """
    from sigmatune.support.run_folder import LOCK, held

    check_run(work)
    with held(work):
        try:
            yield
        except SigmaTuneError as error:
            kept = work.is_dir() and any(path.name != LOCK for path in work.iterdir())
            if not kept or not str(error).startswith("cannot write"):
                raise
            raise SigmaTuneError(f"{str(error).rstrip('.')}; the measurements so far are kept in {work}.") from None


def load_model(source: str, device: str, condition: dict[str, Any] | None = None) -> Denoiser:
    """Loads a model for a command.

    Args:
        source: Its name.
        device: Where to run it.
        condition: The result of :func:`conditions` for the command's options.

    Raises:
        SigmaTuneError: if there is no such model or device, or it takes no such condition.
    """
    from sigmatune.models import load

    try:
        return load(source, device=device, **(condition or {}))
    except SigmaTuneError as error:
        from sigmatune.models.load_pipeline import MissingCondition

        if not isinstance(error, MissingCondition):
            raise
        how = {"prompts": "--prompts FILE, one prompt per line", "labels": "--labels, such as --labels 0 1 2"}
        raise SigmaTuneError(f"a {error.pipeline} needs {error.kind}; pass {how[error.kind]}.") from None
    except TypeError:
        if not condition:
            raise
        names = ", ".join(f"--{name.replace('_', '-')}" for name in condition)
        raise SigmaTuneError(f"{source} is an unconditional model and takes none of {names}.") from None


def conditions(
    prompts: Path | None,
    labels: list[int],
    negative: str | None,
    guidance: float | None,
    interval: tuple[float, float] | None,
    size: int,
) -> dict[str, Any]:
    """Maps the options of conditional models to arguments of :func:`sigmatune.load`, without options that were not given.

    Raises:
        SigmaTuneError: if the file of prompts is not there, cannot be read or holds none.
    """
    given: dict[str, Any] = {"negative_prompt": negative, "guidance": guidance, "interval": interval}
    if prompts is not None:
        from sigmatune.support.reading import WORDS, text_of

        if not os.path.lexists(prompts):
            raise SigmaTuneError(
                f"--prompts takes a text file with one prompt per line; there is no file {str(prompts)!r}."
            )
        text = text_of(prompts, kind="prompts", most=WORDS)
        lines = [line.strip() for line in text.split("\n")]
        given["prompts"] = [line for line in lines if line]
        if not given["prompts"]:
            raise SigmaTuneError(f"{prompts} holds no prompts; write one per line.")
    given |= {"labels": labels or None} | ({"height": size, "width": size} if size else {})
    return {name: value for name, value in given.items() if value is not None}


def measure_of(text: str) -> dict[str, Any]:
    """Reads a measure with its options, ``whitened:exponent=1``, as the arguments of a workbench; none for "".

    Raises:
        SigmaTuneError: for an option that is not written name=value, or an unknown measure or option.
    """
    name, *given = text.split(":")
    stated = dict(option.partition("=")[::2] for option in given)
    if "" in stated or "" in stated.values():
        raise SigmaTuneError(f"a measure is written name:option=value, such as whitened:exponent=1, not {text!r}.")
    if not text:
        return {}
    from sigmatune.measures import MEASURES

    options = {key: _value(value) for key, value in stated.items()}
    MEASURES[name].complete(options)
    return {"measure": name, "measure_options": options}


def _value(text: str) -> float | str:
    """A number where a text is one."""
    try:
        return float(text)
    except ValueError:
        return text
