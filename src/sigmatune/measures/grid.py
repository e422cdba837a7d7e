"""Rings of spatial frequency on grids of any number of axes: signals, images, videos, volumes.

The radius of a mode is the length of its frequency vector in cycles per short side, so that rings are round where the grid is
oblong; ring k holds the modes with k - 1/2 <= r < k + 1/2, as for images in :mod:`sigmatune.spectra.rings`, corners included.
From radius 64 on rings grow with their radius, about 1.6 % of it wide: a second of sound has hundreds of rings and not
thousands, each with modes enough to tell its power.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sigmatune.measures.base import Shape
from sigmatune.noise import Array

LEAST = 4
"""Points of an axis from which on it counts as one along which something varies smoothly."""

EVEN = 64
"""Radius up to which all rings are one cycle wide."""


def grid_of(shape: Shape) -> Shape | None:
    """The axes after the channels, if samples of a shape lie on a grid; None for vectors, such as (d,) and (1, 1, d).

    A signal (C, L) needs an axis of at least :data:`LEAST` points; anything with more axes needs two of them.
    """
    grid = tuple(shape[1:])
    long = sum(length >= LEAST for length in grid)
    return grid if grid and long >= min(len(grid), 2) else None


@lru_cache(maxsize=16)
def rings(grid: Shape) -> NDArray[np.int64]:
    """The ring of every mode of a grid, in the order of the full Fourier transform; shared, not to be changed.

    Rings without a mode, which very oblong grids leave, are counted all the same.
    """
    short = min(length for length in grid if length >= LEAST)
    square = np.zeros(grid)
    for axis, length in enumerate(grid):
        along = np.fft.fftfreq(length, 1 / length).round() * short / length
        square += np.square(along).reshape([-1 if i == axis else 1 for i in range(len(grid))])
    radius = np.sqrt(square)
    wide = EVEN * (1 + np.log(np.maximum(radius, EVEN) / EVEN))
    ring = np.floor(np.where(radius < EVEN, radius, wide) + 0.5).astype(np.int64)
    ring.setflags(write=False)
    return ring


def half(grid: Shape) -> NDArray[np.int64]:
    """The ring of every mode that the real transform keeps, (..., L // 2 + 1)."""
    return rings(grid)[..., : grid[-1] // 2 + 1]


@lru_cache(maxsize=16)
def stands_for(length: int) -> Array:
    """How many modes of the full transform each kept mode of the last axis stands for, (length // 2 + 1,): 1 or 2."""
    twice = np.full(length // 2 + 1, 2.0)
    twice[0] = 1
    if length % 2 == 0:
        twice[-1] = 1
    return twice


def ring_means(of_modes: Array) -> Array:
    """The mean over every ring of numbers of modes, ``(n, *grid)`` to (n, K); 0 without a mode."""
    grid = of_modes.shape[1:]
    sums = [np.bincount(rings(grid).ravel(), part.ravel(), minlength=len(counts(grid))) for part in of_modes]
    return np.asarray(np.stack(sums) / np.maximum(counts(grid), 1))


@lru_cache(maxsize=16)
def counts(grid: Shape) -> Array:
    """The modes of every ring of the full transform, (K,)."""
    return np.bincount(rings(grid).ravel()).astype(np.float64)
