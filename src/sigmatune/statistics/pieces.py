"""Rows in small pieces, so that float64 copies stay small however large a row is."""

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
    """Yields the rows of a tensor in order, in pieces of at most :data:`LARGEST` numbers, and at least one row.

    Args:
        x: (n, ...), n >= 1. A set of small images is one piece, so sums over it keep their bits.
    """
    return iter(torch.split(x, max(LARGEST // max(x[0].numel(), 1), 1)))
