"""Rings of spatial frequency: which modes of a two-dimensional transform share a radius.

The radius r of a mode is the length of (f_y, f_x) in cycles per image, each axis scaled to the short side, so that an
oblong image has round rings; ring k holds the modes with k - 1/2 <= r < k + 1/2. (Rounding halves to even would put
every odd mode on an axis of the cosine transform into an even ring.) Rings 0..floor(min(H, W) / 2) are whole; beyond
them lie the corners, which are counted on request; Parseval's identity needs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError

Transform = Literal["fft", "dct"]

_MATRIX_AT_MOST = 2**15
"""Modes times rings up to which a product with a matrix is the faster way to add up rings (``benchmarks/rapsd.py``)."""


def rings(height: int, width: int, transform: Transform = "fft") -> NDArray[np.int64]:
    """The ring of every mode, (height, width), int64.

    Args:
        height, width: Size of the image in pixels.
        transform: ``"fft"``, modes in the order of ``fft2``; ``"dct"``, in which mode j has j / 2 cycles per image.

    Raises:
        SigmaTuneError: for an empty image or an unknown transform.
    """
    if min(height, width) < 1:
        raise SigmaTuneError(f"an image needs at least one pixel, not {height} x {width}.")
    if transform not in ("fft", "dct"):
        raise SigmaTuneError(f"a transform is 'fft' or 'dct', not {transform!r}.")
    short = min(height, width)

    def cycles(length: int) -> Array:
        twice = 2 * np.fft.fftfreq(length, 1 / length).round() if transform == "fft" else np.arange(length)
        return np.asarray(twice * short / (2 * length))  # multiplied first, so that half cycles are exact

    radius = np.sqrt(cycles(height)[:, None] ** 2 + cycles(width)[None, :] ** 2)
    return np.asarray(np.floor(radius + 0.5), dtype=np.int64)


def whole_rings(height: int, width: int) -> int:
    """How many rings lie whole inside the transform: k = 0..floor(min(H, W) / 2)."""
    return min(height, width) // 2 + 1


@dataclass(frozen=True, eq=False)
class Binning:
    """Where the modes of one image size go.

    Attributes:
        index: Bin of every stored mode in memory order: the half plane of ``rfft2``, or all modes of the cosine
            transform. Bins 0..K-1 are the rings for modes that count once and bins K+1..2K those for modes that count
            twice, because the half plane leaves out their mirror image. Bins K and 2K+1 are for what lies beyond the
            last ring.
        count: n_k, the modes of each ring of the full plane, (K,).
        matrix: How often each stored number counts in each ring, (numbers, at least K), for images so small that a
            product with it is faster than sorting modes into bins; else None. Real and imaginary parts are numbers of
            their own.
        parts: Numbers per mode: 2 for the FFT, 1 for the cosine transform.
    """

    index: torch.Tensor
    count: Array
    matrix: torch.Tensor | None
    parts: int

    def sums(self, squares: torch.Tensor) -> torch.Tensor:
        """Sums over the modes of every ring.

        Args:
            squares: (rows, numbers), a mode that counts twice only once.

        Returns:
            (rows, K).
        """
        kept = len(self.count)
        if self.matrix is not None and squares.device.type == "cpu":  # elsewhere a product may be of reduced precision
            return (squares @ self.matrix.to(squares))[:, :kept]
        modes = squares if self.parts == 1 else squares[:, 0::2] + squares[:, 1::2]
        bins = modes.new_zeros(len(modes), 2 * (kept + 1)).index_add_(1, self.index.to(modes.device), modes)
        return torch.add(bins[:, :kept], bins[:, kept + 1 : -1], alpha=2)


@lru_cache(maxsize=32)
def binning(height: int, width: int, transform: Transform, *, corners: bool) -> Binning:
    """Collects what :func:`sigmatune.spectra.rapsd` needs to know about an image size; computed once."""
    full = rings(height, width, transform)
    kept = int(full.max()) + 1 if corners else whole_rings(height, width)
    index = np.minimum(full, kept)
    if transform == "fft":
        index = index[:, : width // 2 + 1]
        index[:, 1 : (width + 1) // 2] += kept + 1
    count = np.bincount(full.ravel(), minlength=kept)[:kept].astype(np.float64)
    count.setflags(write=False)  # shared by all callers with this size
    matrix, parts = None, 2 if transform == "fft" else 1
    if index.size * kept <= _MATRIX_AT_MOST:
        # Columns of 0 up to a multiple of 16: products with an odd number of columns take twice as long.
        one = np.eye(kept + 1, -(-kept // 16) * 16, dtype=np.float32)
        one[kept] = 0
        matrix = torch.from_numpy(np.concatenate([one, 2 * one])[np.repeat(index.ravel(), parts)])
    return Binning(torch.from_numpy(index.ravel()), count, matrix, parts)
