"""The log of a training: one JSON object per line in ``log.jsonl``, and the report that a caller sees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigmatune.support import reading
from sigmatune.support.errors import SigmaTuneError

LOG = "log.jsonl"

HARDLY = 0.8
"""The share of the first step's loss above which little is learned; trainings of 100,000 images and more end below a third."""


@dataclass(frozen=True)
class Report:
    """The state of a run at a line of the log.

    Attributes:
        step, steps: Steps done, and in all.
        loss: Mean over the steps since the last report.
        rate: Learning rate.
        norm: Norm of the last gradient before clipping.
        images_per_second: Since this process started.
        left: Seconds that remain at this speed.
    """

    step: int
    steps: int
    loss: float
    rate: float
    norm: float
    images_per_second: float
    left: float


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without a last line that a kill truncated."""
    if not os.path.lexists(folder / LOG):
        return []
    entries: list[dict[str, Any]] = []
    for text in reading.data_of(folder / LOG, most=reading.ARRAYS).decode("utf-8", "replace").splitlines():
        try:
            line = reading.parsed(text, finite=False)
        except SigmaTuneError:  # the lines before the broken one stay
            break
        if not _is_line(line):
            break
        entries.append(line)
    return entries


def unlearned(folder: Path, loss: float | None) -> str:
    """A sentence if a training's loss has hardly fallen, so that its model draws little but noise; "" otherwise.

    Args:
        folder: The run.
        loss: The loss of its last steps; None if unknown.
    """
    first = next((losses[0] for line in lines(folder) if (losses := line["losses"])), None)
    if loss is None or first is None or loss < HARDLY * first:
        return ""
    return (
        f"The loss has hardly fallen (from {first:.2f} at the first step to {loss:.2f}), so the model draws little but noise: "
        "raise training.images, to 100,000 and more as in the recipes."
    )


def _is_line(line: Any) -> bool:
    """Whether a line of a log has the fields that are read back."""
    if not isinstance(line, dict) or type(line.get("step")) is not int or not isinstance(line.get("losses"), list):
        return False
    return all(isinstance(loss, float | int) for loss in line["losses"])
