"""How a training runs, besides what it minimises, and who watches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sigmatune.training.recipe import AverageOf, Saving
from sigmatune.training.run_log import Report


@dataclass(frozen=True)
class Hooks:
    """Callbacks during training, called on the main process only.

    Attributes:
        log: Sees every report.
        step: Called after every step with the number of steps done.
    """

    log: Callable[[Report], None] | None = None
    step: Callable[[int], None] | None = None


@dataclass(frozen=True)
class RunOptions:
    """How a training runs, besides what it minimises.

    Attributes:
        averages: Averages of the weights to keep.
        saving: When to write what.
        flip: Mirror images at random.
        identity: Names everything else that the training depends on, such as recipe and data; a checkpoint with another
            identity is refused.
        device: "auto" for accelerate's choice, "cpu" to force the CPU.
    """

    averages: Sequence[AverageOf] = (AverageOf(),)
    saving: Saving = field(default_factory=Saving)
    flip: bool = False
    identity: str = ""
    device: str = "auto"
