"""The workbench's one cache: results by name, in memory, and those that are arrays also in the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from sigmatune.noise import Array
from sigmatune.tuning.store import Store

T = TypeVar("T")

KEPT, FEWEST = 2**28, 4
"""Arrays that may be evicted: how many bytes a cache keeps at most, and how many arrays whatever their size: those that one
comparison of two plans takes with two references."""


class Cache:
    """Computes every result once; several threads may ask.

    Args:
        folder: A folder for arrays; None keeps them in memory only.
    """

    def __init__(self, folder: Path | None) -> None:
        self.store = Store(folder)
        self._results: dict[str, Any] = {}
        self._evictable: list[str] = []
        self._lock = Lock()
        self._turns: dict[str, Lock] = {}

    def __contains__(self, name: str) -> bool:
        """Whether the result of a name is in memory."""
        return name in self._results

    def once(self, name: str, make: Callable[[], T]) -> T:
        """The result of a name, which lives in memory only."""
        if name not in self._results:
            self._results[name] = make()
        result: T = self._results[name]
        return result

    def arrays(self, names: Sequence[str], make: Callable[[], Sequence[Array]], pay: Callable[[], None]) -> list[Array]:
        """Arrays that one computation gives together: from memory, from the store, or computed.

        Args:
            names: Their names, at least one.
            make: Computes all of them, in this order.
            pay: Counts their cost. A run counts it once, even if the arrays come from the store: then a stopped run has
                paid, and this run has to make the same decisions.
        """
        with self._turn(names[0]):
            if not all(name in self._results for name in names):
                pay()
                self._results.update(zip(names, self._stored(names, make), strict=True))
            return [self._results[name] for name in names]

    def _stored(self, names: Sequence[str], make: Callable[[], Sequence[Array]]) -> Sequence[Array]:
        stored = [array for name in names if (array := self.store.read(name)) is not None]
        if len(stored) == len(names):
            return stored
        arrays = make()
        for name, array in zip(names, arrays, strict=True):
            self.store.write(name, array)
        return arrays

    def _turn(self, name: str) -> Lock:
        """The lock of one computation: of two equal plans in parallel, as two families may give, one waits."""
        with self._lock:
            return self._turns.setdefault(name, Lock())

    def make_room(self, name: str) -> None:
        """Marks an array as one that may be evicted, and evicts others, least recently asked for first, to make room."""
        with self._lock:
            self._evictable = [*(known for known in self._evictable if known != name), name]
            kept = self.evictable
            size = sum(self._results[known].nbytes for known in kept)
            while size > KEPT and len(kept) >= FEWEST and kept[0] != name:
                size -= self._results.pop(kept.pop(0)).nbytes

    @property
    def evictable(self) -> list[str]:
        """The arrays in memory that may be evicted, least recently asked for first."""
        return [name for name in self._evictable if name in self._results]
