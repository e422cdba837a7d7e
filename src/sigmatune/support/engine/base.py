"""What an engine is: it runs independent pieces of one job and returns their results in order.

A piece is an argument of a function that every process can import. What all pieces need, such as a model, is *held*: here it is
an object, and a process elsewhere loads it once by a loader. A result depends on the function, what is held and the piece
alone, so it does not matter where a piece runs, how often, and in which order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self

from sigmatune.support.threads import Worker

Tick = Callable[[int], None]
"""Receives how many more units of work are done."""

Map = Callable[..., Iterator[Any]]


@dataclass(frozen=True)
class Loader:
    """How another process loads what is held.

    Attributes:
        name: Loaders of one name load the same.
        function: The function that loads it, which every process can import.
        arguments: Its arguments; they are pickled.
        accelerated: It wants an accelerator, if there is one.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    accelerated: bool = False

    def load(self) -> Any:
        """Loads it here.

        Raises:
            SigmaTuneError: if that is impossible, in one sentence.
        """
        return self.function(*self.arguments)


@dataclass(frozen=True, eq=False)
class Lazily(Sequence[Any]):
    """Pieces that are made one by one, when their turn comes, because all of them together would be large.

    Attributes:
        n: How many.
        make: Makes the one of a number.
    """

    n: int
    make: Callable[[int], Any]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: Any) -> Any:
        return self.make(range(self.n)[i])


@dataclass(frozen=True, eq=False)
class Held:
    """What all pieces of a job need.

    Attributes:
        here: The object in this process.
        loader: Returns how another process loads it; raises :class:`~sigmatune.support.errors.SigmaTuneError` if none can.
    """

    here: Any
    loader: Callable[[], Loader]


def no_tick(done: int) -> None:
    """Counts nothing."""


class Engine(ABC):
    """Runs pieces of work.

    Attributes:
        workers: How many pieces run at a time elsewhere; 0 for an engine that runs them here, on this process's threads.
    """

    workers: int = 0

    @abstractmethod
    def run(
        self,
        function: Callable[..., Any],
        held: Sequence[Held],
        pieces: Sequence[Any],
        *,
        at_once: int = 1,
        tick: Tick = no_tick,
    ) -> Iterator[Any]:
        """Yields the results of ``function(*held, piece, tick)`` in the order of the pieces.

        Closing the iterator early cancels the pieces that have not begun.

        Args:
            function: Has an import path, depends on its arguments alone, and calls ``tick(units)`` as it proceeds.
            held: What all pieces need.
            pieces: Arguments that can be pickled.
            at_once: How many pieces may divide this process's threads, if the first thing held allows concurrent calls.
            tick: Receives the units of work that are done, from several threads perhaps.

        Raises:
            SigmaTuneError: for something held that cannot be loaded elsewhere, or a piece that failed.
        """

    def crew(self, *, accelerated: bool) -> tuple[int, int]:
        """How many workers such work gets, and the CPU threads of each, 0 where each has an accelerator; (0, 0) for none.

        Args:
            accelerated: The work wants accelerators, if there are any.
        """
        del accelerated
        return 0, 0

    @abstractmethod
    def abreast(self, parts: int, worker: Worker | None = None) -> AbstractContextManager[Map]:
        """Yields a ``map`` for parts of a job that run pieces themselves, so that their pieces fill the workers together.

        Args:
            parts: How many there are.
            worker: What works on them here; without it an engine that runs pieces here takes one part after the other.
        """

    def close(self) -> None:
        """Stops the workers, if there are any; what runs elsewhere is cancelled."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
