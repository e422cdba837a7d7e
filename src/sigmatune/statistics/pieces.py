"""Rows in small pieces, so that float64 copies stay small however large a row is."""

from __future__ import annotations

from collections.abc import Iterator

import torch

LARGEST = 2**22
"""Most numbers that are converted at once, 32 MiB in float64; a single row may have more."""


def pieces(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yields the rows of a tensor in order, in pieces of at most :data:`LARGEST` numbers, and at least one row.

    Args:
        x: (n, ...), n >= 1. A set of small images is one piece, so sums over it keep their bits.
    """
    return iter(torch.split(x, max(LARGEST // max(x[0].numel(), 1), 1)))
