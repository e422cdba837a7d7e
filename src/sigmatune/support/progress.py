r"""Progress of long work: one share of the whole that never falls, the time left, and the present stage.

What takes long takes a *progress*, a function (what, done, total): ``what`` names the present stage, ``done`` of ``total`` is
the work of the whole job in any unit. A job that consists of others passes each a part of its own progress (:class:`Parts`).

:func:`shown` chooses who looks: a terminal or a notebook gets a bar, other outputs get a line on stderr every few seconds, a
program gets its own function called.

The time left comes from the share p that is done after t seconds, together with the estimate T of the whole, if there is one,
which weighs as much as the first tenth of the work:

.. math:: (1 - p) \frac{T / 10 + t}{1 / 10 + p}
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from sigmatune.support.durations import about
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.errors import shown as visible_value

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int], None]
"""Called with (present stage, work done, work in all)."""

Shown = Progress | bool | None
"""What a caller may ask for: True for a bar or lines, False or None for quiet, or a function of one's own."""

FIRST, EVERY, SLOWEST = 2.0, 5.0, 60.0
"""Seconds until the first line, between lines, and between lines of a job that runs for long."""

ESTIMATED = 0.1
"""The share of the work as which an estimate counts."""

KNOWN = 0.02
"""Without an estimate, the share that has to be done before a time left is said."""

UNITS = 10_000


@cache
def console() -> Console:
    """The one console on stderr: log lines and a progress bar share it, so that neither overwrites the other."""
    from rich.console import Console

    return Console(stderr=True)


class Overall:
    """How far a job is.

    Args:
        seconds: The estimate of the whole job; None for none.
        limit: Seconds after which the job ends, however much is done.
        clock: Seconds that only grow.

    Attributes:
        share: The share that is done, 0 to 1; it never falls, whatever is reported.
        what: The present stage.
    """

    def __init__(
        self,
        seconds: float | None = None,
        limit: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self.limit, self.clock, self.began = seconds, limit, clock, clock()
        self.share, self.what = 0.0, ""

    def __call__(self, what: str, done: int, total: int) -> None:
        self.what = what
        if total > 0:
            self.share = max(self.share, min(done / total, 1.0))

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.began

    @property
    def left(self) -> float | None:
        """Seconds that are left; None if nothing is known yet."""
        prior = 0.0 if self.seconds is None else ESTIMATED
        if self.seconds is None and self.share < KNOWN:
            return None
        whole = (prior * (self.seconds or 0.0) + self.elapsed) / (prior + self.share)
        return max(min((1 - self.share) * whole, self.limit - self.elapsed), 0.0)

    @property
    def time_left(self) -> str:
        """The time left as text."""
        return "time left unknown" if self.left is None else f"about {about(self.left)} left"


class Parts:
    """Divides a job's progress among its parts, which run one after the other.

    Args:
        progress: The job's.
        work: The work of each part, in any unit, at least 0.
    """

    def __init__(self, progress: Progress | None, work: Sequence[float]) -> None:
        self.progress, self.work, self.next = progress, list(work), 0

    @property
    def over(self) -> bool:
        """Whether every part has been taken."""
        return self.next >= len(self.work)

    def take(self) -> Progress:
        """The progress of the next part, of which it reports its own whole."""
        whole, before, mine = max(sum(self.work), 1e-12), sum(self.work[: self.next]), self.work[self.next]
        self.next += 1

        def report(what: str, done: int, total: int) -> None:
            if self.progress is not None:
                share = (before + mine * min(done / total if total > 0 else 0.0, 1.0)) / whole
                self.progress(what, round(UNITS * share), UNITS)

        return report


class Count:
    """Counts what is done of one kind of work, from several threads perhaps, and reports it.

    Args:
        progress: Receives the count; None to report to no one.
        what, total: What is counted, and how many there are.
    """

    def __init__(self, progress: Progress | None, what: str, total: int) -> None:
        self.progress, self.what, self.total, self.done, self.lock = progress or quiet, what, total, 0, Lock()

    def add(self, some: int) -> None:
        """So many more are done."""
        with self.lock:
            self.done += some
            self.progress(self.what, min(self.done, self.total), self.total)


def stage(what: str, done: int, total: int) -> str:
    """A stage with its own count, as the name of a stage."""
    return f"{what}, {done:,} of {total:,}" if total > 1 else what


@contextmanager
def shown(
    progress: Shown, title: str, *, seconds: float | None = None, limit: float = float("inf")
) -> Iterator[Progress]:
    """Shows the progress of a job while the block runs, and yields the function that moves it.

    Args:
        progress: What the caller asked for.
        title: What the job is, such as "tuning".
        seconds: An estimate of the whole job.
        limit: Seconds after which the job ends, however much is done.

    Raises:
        SigmaTuneError: for anything else.
    """
    if (asked := checked_progress(progress)) is None:
        yield quiet
    elif callable(asked):
        yield asked
    elif console().is_terminal or console().is_jupyter:
        with _bar(title, Overall(seconds, limit)) as report:
            yield report
    else:
        yield _Lines(title, Overall(seconds, limit))


def checked_progress(progress: object) -> Any:
    """What a caller asked for, None for quiet.

    Raises:
        SigmaTuneError: if it is neither True, False, None nor a function.
    """
    if progress is None or isinstance(progress, bool) or callable(progress):
        return progress or None
    raise SigmaTuneError(
        f"progress is True, False or a function of what is done and how much, not {visible_value(progress)}."
    )


def quiet(what: str, done: int, total: int) -> None:
    """Shows nothing."""


class _Lines:
    """A line on stderr every few seconds, less often the longer the job runs."""

    def __init__(self, title: str, overall: Overall) -> None:
        self.title, self.overall, self.due, self.lock = title, overall, FIRST, Lock()

    def __call__(self, what: str, done: int, total: int) -> None:
        with self.lock:
            self.overall(what, done, total)
            elapsed = self.overall.elapsed
            if elapsed < self.due:
                return
            self.due = elapsed + min(max(EVERY, elapsed / 20), SLOWEST)
            stage = f" ({self.overall.what})" if self.overall.what else ""
            said = f"{self.title}: {self.overall.share:.0%}, {self.overall.time_left}{stage}"
            print(said, file=sys.stderr, flush=True)  # noqa: T201 - this is what was asked for


@contextmanager
def _bar(title: str, overall: Overall) -> Iterator[Progress]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task(title, total=1.0, left=overall.time_left)

        def report(what: str, done: int, total: int) -> None:
            overall(what, done, total)
            bar.update(
                task, completed=overall.share, description=f"{title}: {what}" if what else title, left=overall.time_left
            )

        yield report


def say(text: str) -> None:
    """Prints a line on stderr, above a bar if one is shown."""
    console().print(text, markup=False, highlight=False, soft_wrap=True)
