r"""Noise as a pure function of (seed, index, call).

Row ``index`` of a run with ``seed`` receives the same numbers in any batch and for any number of requested rows. The
bits come from Philox, a counter-based generator whose stream numpy guarantees; the counter *is* the address (index,
call, channel), so nothing has to be drawn in order. Uniforms become normals through the inverse normal distribution
function, which is monotone, so nearby rounding never changes a whole image.

Reference: Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011), https://doi.org/10.1145/2063384.2063405
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np
import torch
from scipy.special import ndtri

from sigmatune.support.errors import SigmaTuneError, shown

START = 0
"""The ``call`` of a run's start noise; the noise of network call k has ``call`` k + 1."""

AT_ONCE = 1 << 12
"""Numbers that are made normal at once: many small rows share the calls, and of large ones a single row is held in float64."""


def check(name: str, value: int) -> None:
    """Refuses a part of an address that is none.

    Args:
        name: What it is, such as ``"seed"``.
        value: Its value.

    Raises:
        SigmaTuneError: if it is not a whole number in [0, 2^64).
    """
    if not isinstance(value, Real) or not 0 <= value < 2**64 or int(value) != value:
        raise SigmaTuneError(f"the {name} of a noise must be a whole number in [0, 2^64), not {shown(value)}.")


def noise(
    seed: int,
    indices: Sequence[int],
    call: int,
    shape: Sequence[int],
    *,
    channel: int = 0,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Draws standard normal noise for some rows.

    Args:
        seed: Any integer in [0, 2^64).
        indices: The indices of the rows, each in [0, 2^64).
        call: ``START`` (0) for the start noise, k + 1 for the noise added by network call k.
        shape: Shape of one row, such as (3, 32, 32).
        channel: Distinguishes several noises of one call.
        dtype: Floating dtype of the result.

    Returns:
        A CPU tensor, (len(indices), *shape).

    Raises:
        SigmaTuneError: for a seed, index, call or channel that is not a whole number in [0, 2^64).
    """
    for name, value in [("seed", seed), ("call", call), ("channel", channel), *(("index", i) for i in indices)]:
        check(name, value)
    count = int(np.prod(shape))
    rows = torch.empty(len(indices), count, dtype=dtype)
    bits = np.random.Philox(key=np.uint64(seed))
    state = bits.state  # moved from address to address, which is several times faster than a generator for each
    address = state["state"]["counter"]
    address[:] = np.array([0, channel, call, 0], dtype=np.uint64)
    at_once = max(AT_ONCE // max(count, 1), 1)
    for first in range(0, len(indices), at_once):
        part = indices[first : first + at_once]
        raw = np.empty((len(part), count), dtype=np.uint64)
        for row, index in zip(raw, part, strict=True):
            address[3] = index
            bits.state = state
            row[:] = bits.random_raw(count)
        raw >>= np.uint64(12)
        uniform = raw.astype(np.float64)
        uniform += 0.5  # of 52 bits, so that this is exact and neither 0 nor 1 (infinite normals) can occur
        uniform *= 2.0**-52
        for row, normals in zip(rows[first : first + len(part)], ndtri(uniform, out=uniform), strict=True):
            row.copy_(torch.from_numpy(normals))
    return rows.view(len(indices), *shape)
