"""Experiment trackers by name, by accelerate: TensorBoard, trackio, Weights & Biases and others.

What is tracked lies in the run folder where the tracker keeps files: TensorBoard's in ``sigmatune/``, those of Weights & Biases
in ``wandb/``. trackio keeps a database of its own; the environment variable ``TRACKIO_DIR`` says where.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sigmatune.support.errors import SigmaTuneError, reason, unknown_name

PROJECT = "sigmatune"

Values = Mapping[str, float]
Track = Callable[[Values, int], None]
"""Called with (values by name, step)."""


def check(names: Sequence[str]) -> None:
    """Refuses trackers that accelerate does not know or that are not installed.

    Raises:
        SigmaTuneError: naming what to install.
    """
    if not names:
        return
    try:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS
    except ImportError:
        raise SigmaTuneError("trackers need accelerate; install the extra: pip install 'sigmatune[train]'.") from None
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise unknown_name("tracker", name, LOGGER_TYPE_TO_CLASS)
        if importlib.util.find_spec(name) is None:
            raise SigmaTuneError(f"the tracker {name} is not installed; install it: pip install {name}.")


def options(names: Sequence[str], folder: Path) -> dict[str, dict[str, Any]]:
    """The arguments of every tracker that make it keep its files in a run folder."""
    return {"wandb": {"dir": str(folder)}} if "wandb" in names else {}


@contextmanager
def tracked(names: Sequence[str], folder: Path) -> Iterator[Track]:
    """Opens trackers while the block runs, and yields the function that logs values to all of them.

    Args:
        names: Their names.
        folder: The run folder.

    Raises:
        SigmaTuneError: if one is unknown, not installed, or does not start.
    """
    check(names)
    opened: list[Any] = []
    try:
        opened.extend(_started(name, folder) for name in names)

        def track(values: Values, step: int) -> None:
            for tracker in opened:
                tracker.log(dict(values), step=step)

        yield track
    finally:
        for tracker in opened:
            tracker.finish()


def _started(name: str, folder: Path) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()
    kind, given = LOGGER_TYPE_TO_CLASS[name], options([name], folder).get(name, {})
    with starting([name]):
        tracker = kind(PROJECT, str(folder), **given) if kind.requires_logging_directory else kind(PROJECT, **given)
        tracker.start()
    return tracker


@contextmanager
def starting(names: Sequence[str]) -> Iterator[None]:
    """Turns whatever a tracker's library raises while it starts into one sentence.

    Raises:
        SigmaTuneError: with the reason, and for Weights & Biases how to do without an account or a network.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 (every tracker raises its own)
        cure = "; set WANDB_MODE=offline to keep everything in the run folder" if "wandb" in names else ""
        plural = f"trackers {', '.join(names)} do" if len(names) > 1 else f"tracker {names[0]} does"
        raise SigmaTuneError(f"the {plural} not start: {reason(error)}{cure}.") from None
