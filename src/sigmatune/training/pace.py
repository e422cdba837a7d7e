"""What is said while a network is trained: its size first, then the step, images per second and the loss."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sigmatune.support.progress import Progress
from sigmatune.training.networks import parameters
from sigmatune.training.run_log import Report

if TYPE_CHECKING:
    from sigmatune.training.trainer import Trainer


class TrainingPace:
    """Reports every step of a training.

    Args:
        progress: Receives the step with its speed and loss, and the work of the whole.
        trainer: What trains.
        log: Sees every line of the log, too.
    """

    def __init__(self, progress: Progress, trainer: Trainer, log: Callable[[Report], None] | None = None) -> None:
        self.progress, self.trainer, self.further = progress, trainer, log
        self.first, self.began, self.loss = trainer.step, time.monotonic(), ""

    def log(self, report: Report) -> None:
        """Keeps the loss of a line of the log."""
        self.loss = f", loss {report.loss:.4f}"
        if self.further is not None:
            self.further(report)

    def after(self, step: int) -> None:
        """Reports a step that is done."""
        done, steps = step - self.first, self.trainer.steps
        speed = done * self.trainer.settings.batch / max(time.monotonic() - self.began, 1e-9)
        self.progress(f"step {step:,} of {steps:,}, {speed:,.3g} images/s{self.loss}", done, steps - self.first)


def headline(job: Any, trainer: Trainer) -> str:
    """What is going to be trained, in one line."""
    settings, start = trainer.settings, f"from step {trainer.step:,} " if trainer.step else ""
    shape = " x ".join(map(str, job.data.shape))
    if trainer.step >= trainer.steps:
        return f"training: complete, all {trainer.steps:,} steps; its model is written again"
    return (
        f"training: {parameters(job.network):,} parameters on {len(job.data):,} images of {shape}, {start}to step "
        f"{trainer.steps:,}, {settings.batch} images each, on {trainer.accelerator.device}"
    )
