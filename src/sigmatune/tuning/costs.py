"""What a workbench has spent: network evaluations of single images, by purpose."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

ENOUGH = 500
"""Evaluations after which their own pace counts, instead of that of a call measured before."""


class Costs:
    """Counts network evaluations by purpose; several threads may count at once.

    Args:
        device: Of the model.

    Attributes:
        spent: Network evaluations of single images, padding included, by purpose. They are counted before they are done,
            and even if their result comes from a store.
        call_seconds: Seconds of an evaluation, measured before the work; 0 if not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[str, int] = {}
        self._lock = Lock()
        self.call_seconds = 0.0
        self._pending, self._worked, self._active, self._since, self._busy = 0, 0, 0, 0.0, 0.0

    def spend(self, purpose: str, evaluations: int) -> None:
        """Counts network evaluations of single images for a purpose."""
        with self._lock:
            self.spent[purpose] = self.spent.get(purpose, 0) + evaluations

    def total(self, *purposes: str) -> int:
        """The network evaluations so far for some purposes."""
        return sum(self.spent.get(purpose, 0) for purpose in purposes)

    @property
    def done(self) -> int:
        """The network evaluations so far without those that are counted but still being done."""
        return sum(self.spent.values()) - self._pending

    @contextmanager
    def working(self, evaluations: int) -> Iterator[Callable[[int], None]]:
        """While counted evaluations are really being done; yields a function that says how many of them have been."""
        left = evaluations
        with self._lock:
            self._pending += evaluations
            self._since = self._since if self._active else time.monotonic()
            self._active += 1

        def tick(some: int) -> None:
            nonlocal left
            with self._lock:
                some = min(some, left)
                left -= some
                self._pending -= some
                self._worked += some

        try:
            yield tick
        finally:
            tick(left)
            with self._lock:
                self._active -= 1
                self._busy += 0.0 if self._active else time.monotonic() - self._since

    @property
    def pace(self) -> float:
        """Seconds of a network evaluation of a single image: as this process has needed so far, or else as measured before."""
        return self._busy / self._worked if self._worked >= ENOUGH else self.call_seconds

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
