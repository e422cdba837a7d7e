"""Ctrl-C that lets a step end, so that what it has done can be kept."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def deferred_interrupt(notice: str, *, defer: bool = True) -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT into an answer that the work asks for between its steps; the second interrupts at once.

    Outside the main thread, and where SIGINT is ignored (``nohup``), nothing changes.

    Args:
        notice: What to say on stderr at the first signal.
        defer: False changes nothing, either.

    Yields:
        A function that says whether the signal came; the work then keeps what it has done and raises KeyboardInterrupt.
    """
    asked, before = threading.Event(), signal.getsignal(signal.SIGINT)
    handled = callable(before) and threading.current_thread() is threading.main_thread()
    if not (defer and handled):
        yield asked.is_set
        return

    def first(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        asked.set()
        with suppress(OSError):
            os.write(2, f"\n{notice}\n".encode())  # sys.stderr may be in the middle of a line of the progress

    signal.signal(signal.SIGINT, first)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
