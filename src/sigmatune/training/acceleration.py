"""The accelerator of a training: device, precision, processes and trackers, by ``accelerate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sigmatune.support import trackers
from sigmatune.support.errors import SigmaTuneError, reason
from sigmatune.training.recipe import Saving, Training


def accelerator(settings: Training, saving: Saving, folder: Path, device: str) -> Any:
    """The ``accelerate.Accelerator`` of a training.

    Args:
        settings: Precision and accumulation.
        saving: Its trackers.
        folder: The run folder.
        device: "auto" for accelerate's choice, "cpu" to force the CPU.

    Raises:
        SigmaTuneError: if accelerate is missing, a tracker is unknown, or this machine cannot train so.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError:
        raise SigmaTuneError("training needs accelerate; install the extra: pip install 'sigmatune[train]'.") from None
    trackers.check(saving.trackers)
    # accelerate keeps the first precision of a process forever; a second training may use another.
    AcceleratorState._reset_state()
    try:
        return Accelerator(
            mixed_precision=settings.precision,
            gradient_accumulation_steps=settings.accumulation,
            cpu=device == "cpu",
            log_with=saving.trackers or None,
            project_dir=str(folder),
            step_scheduler_with_optimizer=False,
        )
    except (ValueError, ImportError, RuntimeError) as error:
        raise SigmaTuneError(f"this machine cannot train with these settings: {reason(error)}.") from None
