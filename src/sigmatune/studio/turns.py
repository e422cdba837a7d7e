"""One queue per model: tasks take turns, in the order in which they came, and a long one lets others in between its calls.

Everything that calls a network reports its progress after every call. There :meth:`TaskTurn.report` stops a task that was
cancelled, and gives way to tasks that wait: an exploration takes its second while a tuning of minutes runs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sigmatune.support.progress import Overall

T = TypeVar("T")

EVERY = 0.25
"""Seconds between two updates of the page."""


class Cancelled(Exception):
    """A user stopped the task."""


class Turns:
    """The queue of one model."""

    def __init__(self) -> None:
        self._waiting: deque[object] = deque()
        self._condition = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[object]:
        """Waits for its turn, and holds it while the block runs."""
        ticket = object()
        self._enter(ticket)
        try:
            yield ticket
        finally:
            self._leave(ticket)

    @property
    def length(self) -> int:
        """Tasks that run or wait."""
        return len(self._waiting)

    def give_way(self, ticket: object) -> None:
        """Lets the tasks that wait run first."""
        if len(self._waiting) > 1 and self._waiting[0] is ticket:
            self._leave(ticket)
            self._enter(ticket)

    def _enter(self, ticket: object) -> None:
        with self._condition:
            self._waiting.append(ticket)
            self._condition.wait_for(lambda: self._waiting[0] is ticket)

    def _leave(self, ticket: object) -> None:
        with self._condition:
            self._waiting.remove(ticket)
            self._condition.notify_all()


@dataclass
class TaskTurn:
    """What a running task reports to.

    Attributes:
        turns, ticket: Its queue and its place in it.
        stop: Set when the user cancels.
        overall: How far it is.
    """

    turns: Turns
    stop: threading.Event
    overall: Overall = field(default_factory=Overall)
    ticket: object = None

    def report(self, what: str, done: int, total: int) -> None:
        """The task's progress.

        Raises:
            Cancelled: if the user stopped the task.
        """
        self.overall(what, done, total)
        if self.stop.is_set():
            raise Cancelled
        self.turns.give_way(self.ticket)
        if self.stop.is_set():
            raise Cancelled


class QueuedTask(Generic[T]):
    """A job in a thread of its own, on a model's turn.

    Args:
        turns: The model's queue.
        stop: Set it to cancel.
        job: Receives the turn.
    """

    def __init__(self, turns: Turns, stop: threading.Event, job: Callable[[TaskTurn], T]) -> None:
        self.turn, self._job = TaskTurn(turns, stop), job
        self._result: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self.turn.turns.turn() as ticket:
                self.turn.ticket = ticket
                if self.turn.stop.is_set():
                    raise Cancelled
                self._result.append(self._job(self.turn))
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error

    def updates(self) -> Iterator[Overall]:
        """Yields how far it is, every quarter of a second until it ends."""
        while self._thread.is_alive():
            self._thread.join(EVERY)
            if self._thread.is_alive():
                waits = self.turn.ticket is None and self.turn.turns.length > 1
                self.turn.overall.what = "waiting for the model" if waits else self.turn.overall.what
                yield self.turn.overall

    def result(self) -> T:
        """Its result, after it ended.

        Raises:
            Cancelled: if it was stopped.
            Exception: whatever it raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result[0]
