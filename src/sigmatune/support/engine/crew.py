"""Which worker elsewhere takes the next piece.

An idle worker does. While more pieces wait than there are workers, a worker at its first piece takes a second one, too, which
lies there when the first is done: so it never waits for the command, however many workers the command has to answer. The last
pieces go to idle workers alone, so that none lies behind another while a worker has nothing to do.

A worker does its pieces in the order in which it took them. If it is lost, the first of them is to blame.
"""

from __future__ import annotations

from collections.abc import Hashable
from threading import Condition

from sigmatune.support.errors import SigmaTuneError

AHEAD = 2
"""Most pieces of a worker."""

PATIENCE = 600
"""Seconds without any worker after which the run ends."""


class Crew:
    """The workers that have started, and the pieces that each of them has; threads share it.

    Attributes:
        pieces: By worker its pieces, the one that it works on first.
        waiting: How many pieces no worker has taken.
    """

    def __init__(self) -> None:
        self.pieces, self.waiting = dict[Hashable, list[object]](), 0
        self._changed, self._lost = Condition(), dict[Hashable, object]()
        self._error: SigmaTuneError | None = None

    def expect(self, pieces: int) -> None:
        """So many more pieces wait; fewer, if negative."""
        with self._changed:
            self.waiting += pieces
            self._changed.notify_all()

    def join(self, worker: Hashable) -> None:
        """A worker has started."""
        with self._changed:
            self.pieces[worker] = []
            self._changed.notify_all()

    def end(self, error: SigmaTuneError) -> None:
        """From now on whoever asks for a worker gets an error."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def take(self, piece: object) -> Hashable:
        """Waits for a worker and gives it a piece.

        Raises:
            SigmaTuneError: if the crew was ended, or has had no worker for long.
        """
        idle_seconds = 0
        with self._changed:
            while self._error is None:
                if (worker := self._next()) is not None:
                    self.pieces[worker].append(piece)
                    self.waiting -= 1
                    return worker
                if not self._changed.wait(1):
                    idle_seconds = 0 if self.pieces else idle_seconds + 1
                    if idle_seconds >= PATIENCE:
                        raise SigmaTuneError("the Ray cluster has had no room for a worker for long; see `ray status`.")
            raise self._error

    def give(self, worker: Hashable, piece: object) -> None:
        """A worker is done with a piece."""
        with self._changed:
            if worker in self.pieces:
                self.pieces[worker].remove(piece)
                self._changed.notify()

    def lost(self, worker: Hashable, piece: object) -> tuple[bool, bool]:
        """A worker was lost: whether this is news, and whether it was at this piece."""
        with self._changed:
            if news := worker in self.pieces:
                self._lost[worker] = self.pieces.pop(worker)[0]
            return news, self._lost.get(worker) == piece

    def _next(self) -> Hashable | None:
        """The worker with the fewest pieces, if it may have another one."""
        most = AHEAD if self.waiting > len(self.pieces) else 1
        worker = min(self.pieces, key=lambda one: len(self.pieces[one]), default=None)
        return worker if worker is not None and len(self.pieces[worker]) < most else None
