"""What a workbench has spent: network evaluations of single images, by purpose."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from threading import Lock
from typing import Any

import torch


class Costs:
    """Counts network evaluations by purpose; several threads may count at once.

    Args:
        device: Of the model.

    Attributes:
        spent: Network evaluations of single images, padding included, by purpose.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[str, int] = {}
        self._lock = Lock()

    def spend(self, purpose: str, evaluations: int) -> None:
        """Counts network evaluations of single images for a purpose."""
        with self._lock:
            self.spent[purpose] = self.spent.get(purpose, 0) + evaluations

    def total(self, *purposes: str) -> int:
        """The network evaluations so far for some purposes."""
        return sum(self.spent.get(purpose, 0) for purpose in purposes)

    def peak_memory(self) -> int:
        """The most memory that was in use so far, MiB: of the accelerator, or of the process; 0 if unknown."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device)) >> 20
        if sys.platform == "win32":
            return 0
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak >> (20 if sys.platform == "darwin" else 10)  # bytes there, KiB on Linux

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Starts counting and returns a function that reads the cost of one plan.

        Evaluations are network evaluations of single images, padding included, by purpose. The references of tuning and
        validation are shared by all plans of a workbench and included in the cost of each; the seconds are those of
        this run.
        """
        before, began = dict(self.spent), time.monotonic()
        shared = before.get("reference", 0)

        def read() -> dict[str, Any]:
            spent = {purpose: count - before.get(purpose, 0) for purpose, count in self.spent.items()}
            spent["reference"] = spent.get("reference", 0) + shared
            return {
                "network_evaluations": {**spent, "total": sum(spent.values())},
                "seconds": round(time.monotonic() - began, 1),
                "device": str(self.device),
                "threads": torch.get_num_threads(),
                "peak_memory_mib": self.peak_memory(),
            }

        return read
