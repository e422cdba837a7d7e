r"""Everything random in training, as a function of (seed, purpose, step, place in the batch).

Nothing is drawn in order, so a run that is stopped and resumed sees the same numbers, whether one process handles the
whole batch or several share it: row j of step k is the same everywhere. The bits are Philox's, whose counter *is* the
address; every epoch takes the data in a new order, a function of (seed, epoch).

Reference: Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011), https://doi.org/10.1145/2063384.2063405
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.noise import Array

ORDER, NUMBERS, NOISE = 1, 2, 3
"""Purposes: the order of the data, the uniform numbers of a row, its noise."""


def generator(seed: int, purpose: int, step: int, row: int = 0) -> np.random.Generator:
    """A separate generator for every address; starting one costs microseconds."""
    counter = np.array([0, row, step, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.uint64(seed), counter=counter))


def generators(seed: int, purpose: int, step: int, rows: Sequence[int]) -> Iterator[np.random.Generator]:
    """The generators of some rows, one after the other: a single one that is moved, which is several times faster."""
    moved = generator(seed, purpose, step)
    state = moved.bit_generator.state
    address = state["state"]["counter"]
    for row in rows:
        address[1] = row
        moved.bit_generator.state = state
        yield moved


def order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch takes the data, a permutation of 0..count-1."""
    return generator(seed, ORDER, epoch).permutation(count)


def uniforms(seed: int, step: int, rows: Sequence[int], count: int) -> Array:
    """Numbers in (0, 1), (len(rows), count)."""
    drawn = [numbers.random(count) for numbers in generators(seed, NUMBERS, step, rows)]
    return np.clip(np.array(drawn, dtype=np.float64).reshape(len(rows), count), 2.0**-53, 1 - 2.0**-53)


def normals(seed: int, step: int, rows: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise, float32, (len(rows), *shape)."""
    out = np.empty((len(rows), *shape), dtype=np.float32)
    for place, numbers in zip(out, generators(seed, NOISE, step, rows), strict=True):
        numbers.standard_normal(out=place, dtype=np.float32)
    return torch.from_numpy(out)
