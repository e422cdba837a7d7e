"""Rings of spatial frequency: which modes of a two-dimensional transform share a radius.

The radius of a mode is r = |(f_y, f_x)| in cycles per image, each axis scaled to the short side, so that an oblong image
has round rings; ring k holds the modes with round(r) = k. Rings 0..floor(min(H, W) / 2) are whole; beyond them lie the
corners, which are counted on request and have to be for Parseval's identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sigmatune.errors import SigmaTuneError
from sigmatune.noise import Array

Transform = Literal["fft", "dct"]


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
        per_pixel = np.fft.fftfreq(length) if transform == "fft" else np.arange(length) / (2 * length)
        return np.asarray(per_pixel * short)

    return np.asarray(np.rint(np.hypot(cycles(height)[:, None], cycles(width)[None, :])), dtype=np.int64)


def whole_rings(height: int, width: int) -> int:
    """How many rings lie whole inside the transform: k = 0..floor(min(H, W) / 2)."""
    return min(height, width) // 2 + 1


@dataclass(frozen=True, eq=False)
class Binning:
    """Where the modes of one image size go.

    Attributes:
        index: Bin of every stored mode in memory order: the half plane of ``rfft2``, or all modes of the cosine transform.
            Bins 0..K-1 are the rings for modes that count once and bins K+1..2K those for modes that count twice, because
            the half plane leaves out their mirror image. Bins K and 2K+1 are for what lies beyond the last ring.
        count: n_k, the modes of each ring of the full plane, (K,).
    """

    index: torch.Tensor
    count: Array


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
    return Binning(torch.from_numpy(index.ravel()), count)
