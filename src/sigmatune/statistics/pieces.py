"""Rows a few at a time, so that what is made of them in float64 stays small however large a row is."""

from __future__ import annotations

from collections.abc import Iterator

import torch

LARGEST = 2**22
"""Most numbers that are converted at once, 32 MiB in float64; a single row may have more."""


def pieces(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The rows of a tensor in order, as many at a time as have :data:`LARGEST` numbers together, and at least one.

    Args:
        x: (n, ...), n >= 1. Sets of small images are one piece, so that sums over them keep their bits.
    """
    return iter(torch.split(x, max(LARGEST // max(x[0].numel(), 1), 1)))
