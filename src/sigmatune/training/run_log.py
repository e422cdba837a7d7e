"""The log of a training: one JSON object per line in ``log.jsonl``, and the report that a caller sees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigmatune.support import reading
from sigmatune.support.errors import SigmaTuneError

LOG = "log.jsonl"


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


def _is_line(line: Any) -> bool:
    """Whether a line of a log has the fields that are read back."""
    if not isinstance(line, dict) or type(line.get("step")) is not int or not isinstance(line.get("losses"), list):
        return False
    return all(isinstance(loss, float | int) for loss in line["losses"])
