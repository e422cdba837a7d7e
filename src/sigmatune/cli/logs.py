"""``--verbose``: shows the library's log on stderr while a command runs.

Every module logs to a child of the logger ``sigmatune``, which is silent without a handler: this module adds one for
the command line, ``logging.basicConfig(level=logging.INFO)`` in a program.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sigmatune.support.progress import console

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
"""Log levels without ``--verbose``, with it, and with it twice."""

_VISIBLE = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}


@contextmanager
def logged(verbosity: int) -> Iterator[None]:
    """Shows the log while the block runs.

    Args:
        verbosity: How often ``--verbose`` was given; 0 changes nothing.
    """
    if not verbosity:
        yield
        return
    logger, handler = logging.getLogger("sigmatune"), _handler()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(LEVELS[min(verbosity, len(LEVELS) - 1)])
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class OneLine(logging.Formatter):
    """Formats a record as one line, its control characters made visible: a file's name cannot forge another line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return super().format(record).translate(_VISIBLE)


def _handler() -> logging.Handler:
    """Coloured lines for a terminal; elsewhere plain ones of any length, which a program can search."""
    handler: logging.Handler
    if console().is_terminal:
        from rich.logging import RichHandler

        handler = RichHandler(console=console(), show_path=False, log_time_format="%H:%M:%S", omit_repeated_times=False)
        handler.setFormatter(OneLine("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"))
    return handler
