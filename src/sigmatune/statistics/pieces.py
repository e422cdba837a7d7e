"""Rows a few at a time, so that what is made of them in float64 stays small however large a row is."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress

import torch

LARGEST = 2**22
"""Most numbers that are converted at once, 32 MiB in float64; a single row may have more."""

LARGE = 2**19
"""Numbers of a row from which on freed memory is given back: rows of 2 to 32 MiB leave gaps that nothing larger fits into."""


def give_back(numbers: int) -> None:
    """Returns freed memory to the system after work on large rows, for glibc keeps it in pieces; elsewhere it does nothing.

    Args:
        numbers: In a row; below :data:`LARGE` nothing is done, for asking the system again takes longer than the work.
    """
    if numbers >= LARGE:
        with suppress(OSError, AttributeError, TypeError):  # no glibc
            ctypes.CDLL(None).malloc_trim(0)


def pieces(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The rows of a tensor in order, as many at a time as have :data:`LARGEST` numbers together, and at least one.

    Args:
        x: (n, ...), n >= 1. Sets of small images are one piece, so that sums over them keep their bits.
    """
    return iter(torch.split(x, max(LARGEST // max(x[0].numel(), 1), 1)))
