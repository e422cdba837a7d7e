"""A worker of the Ray engine: a process that loads once what is held, and works on one piece at a time.

It imports nothing large itself: a piece that needs no torch runs in a process without it.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import ray

from sigmatune.support.engine.base import Loader
from sigmatune.support.errors import SigmaTuneError, reason
from sigmatune.support.imports import imported


class Actor:
    """A worker: one process, in which what is held stays loaded.

    Args:
        threads: Of torch.
        accelerated: It has accelerators: those that Ray assigned to it, which are all that it sees.
    """

    def __init__(self, threads: int, *, accelerated: bool = False) -> None:
        self.threads, self.held = threads, dict[str, Any]()
        if not accelerated:  # else every CPU worker of a machine would take its first GPU
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def ready(self) -> None:
        """Answers once the process runs."""

    def work(self, function: str, piece: Any, *loaders: Loader) -> tuple[Any, int, list[str]]:
        """The result of a piece, the units of work that it took, and its warnings."""
        if not all(loader.name in self.held for loader in loaders):  # another model: those before it are not needed now
            self.held = {loader.name: self.held.get(loader.name) or self._loaded(loader) for loader in loaders}
        units = 0

        def tick(done: int) -> None:
            nonlocal units
            units += done

        held, run = [self.held[loader.name] for loader in loaders], imported(function)
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(self.threads)
        with warnings.catch_warnings(record=True) as caught:
            value = run(*held, piece, tick)
        return value, units, [str(one.message) for one in caught if one.category is UserWarning]

    @staticmethod
    def _loaded(loader: Loader) -> Any:
        try:
            return loader.load()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the run with one sentence
            said = str(error) if isinstance(error, SigmaTuneError) else f"{reason(error)}."
            raise SigmaTuneError(f"on the worker {ray.util.get_node_ip_address()}: {said}") from None
