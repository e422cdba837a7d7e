"""What belongs to one tab of a browser: its present plan, its tasks, its film. Tabs share models, and nothing else."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sigmatune.plan import Plan
from sigmatune.studio.page_state import PageState
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import make_folder

if TYPE_CHECKING:
    from sigmatune.studio.comparing import Compared
    from sigmatune.studio.film import Film
    from sigmatune.studio.held_models import HeldModel

MOST_SESSIONS, MOST_PAST = 64, 100

PATIENCE = 5.0
"""Seconds for which a task waits for the one before it to fall silent; only one that is stuck takes longer."""


@dataclass(eq=False)
class PageTask:
    """A callback at work.

    Attributes:
        stop: Set when it is cancelled.
        ended: Set when it says nothing more.
        superseded: Whether another one of its kind has begun, and speaks for itself.
        number: The number that the page gave to the change; 0 if it gave none.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    superseded: bool = False
    number: int = 0


@dataclass(eq=False)
class Session:
    """One tab.

    Attributes:
        folder: Its files.
        state: What it shows.
        settled: What it shows to the end, errors and all; None while it works or says what is wrong.
        plan: The plan that it explores.
        past: What it showed before, the latest last.
        curves: By levels for another number of calls, those that were moved or typed before.
        tuned: The plan of its last tuning.
        best: The best levels so far of a tuning that runs or was cancelled.
        film: The steps of one sampling.
        compared: The last comparison, and its model.
    """

    folder: Path
    state: PageState | None = None
    settled: PageState | None = None
    plan: Plan | None = None
    past: list[PageState] = field(default_factory=list)
    curves: dict[tuple[float, ...], tuple[float, ...]] = field(default_factory=dict)
    tuned: Plan | None = None
    best: Plan | None = None
    film: Film | None = None
    compared: tuple[Compared, HeldModel] | None = None
    _tasks: dict[str, PageTask] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def show(self, state: PageState, plan: Plan) -> None:
        """Notes what it shows from now on, and keeps what it showed for :meth:`back`."""
        if self.state is not None and self.state != state:
            self.past = [*self.past, self.state][-MOST_PAST:]
        self.state, self.plan = state, plan

    def back(self) -> PageState:
        """Takes back the last change and returns the state before it.

        Raises:
            SigmaTuneError: if there is none.
        """
        if not self.past:
            raise SigmaTuneError("there is nothing to undo on this page.")
        self.state, self.plan = self.past.pop(), None
        return self.state

    @contextmanager
    def task(self, what: str, number: int | None = None) -> Iterator[PageTask]:
        """Runs a task of a kind: cancels the one before it, and waits until that is silent.

        Without the wait, what the earlier one said last could reach the page after what this one says first. Requests of one
        page can overtake each other on their way: a task whose ``number`` is below that of the present one comes too late,
        begins superseded and cancels nothing. One without a number is the latest.
        """
        with self._lock:
            before = self._tasks.get(what)
            latest = 0 if before is None else before.number
            task = PageTask(number=latest if number is None else number)
            task.superseded = task.number < latest
            if not task.superseded:
                self._tasks[what] = task
        try:
            if before is not None and not task.superseded:
                before.superseded = True
                before.stop.set()
                before.ended.wait(PATIENCE)
            yield task
        finally:
            task.ended.set()

    def cancel(self, what: str = "") -> None:
        """Cancels the task of a kind, or all."""
        for name, task in self._tasks.items():
            if what in ("", name):
                task.stop.set()

    def save(self, plan: Plan, name: str) -> str:
        """Writes a plan for download and returns the file's name."""
        file = make_folder(self.folder) / name
        plan.save(file, force=True)
        return str(file)


class Sessions:
    """All tabs that are open."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._open: dict[str, Session] = {}

    def of(self, key: str | None) -> Session:
        """The session of a tab; the oldest one is closed where there are too many."""
        name = "".join(c for c in key or "" if c.isalnum())[:40] or "none"
        with self._lock:
            if name not in self._open:
                while len(self._open) >= MOST_SESSIONS:
                    self._end(next(iter(self._open)))
                self._open[name] = Session(self._folder / name)
            return self._open[name]

    def close(self, key: str | None) -> None:
        """Cancels the tasks of a tab that was closed, and removes its files."""
        name = "".join(c for c in key or "" if c.isalnum())[:40] or "none"
        with self._lock:
            if name in self._open:
                self._end(name)

    def _end(self, name: str) -> None:
        session = self._open.pop(name)
        session.cancel()
        shutil.rmtree(session.folder, ignore_errors=True)
