r"""The location of a difference of images, in space and frequency.

With the orthonormal discrete Fourier transform :math:`\hat e` of a difference e (H x W per row and channel), ring k
holds the frequencies with :math:`\mathrm{round}(|f|) = k`, f in cycles per image. Its power is the mean of :math:`|\hat
e|^2` over the ring, rows and channels, so with n_k frequencies in ring k Parseval's identity reads

.. math:: \frac{1}{HW} \sum_k n_k P_k = \mathrm{mean}(e^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sigmatune.noise import Array
from sigmatune.spectra import rapsd
from sigmatune.spectra.rings import binning
from sigmatune.statistics.pieces import pieces


@dataclass(frozen=True)
class Residual:
    """Statistics of a difference of images.

    Attributes:
        where: Mean square at each pixel, (H, W), over rows and channels.
        power: Mean power per ring, (K,), K = the largest ring + 1.
        modes: Frequencies per ring, n_k, (K,).
    """

    where: Array
    power: Array
    modes: Array

    @property
    def mean_square(self) -> float:
        """The mean square over everything."""
        return float(self.where.mean())


def residual(x: torch.Tensor, exact: torch.Tensor | None = None) -> Residual:
    """Computes the statistics of the differences of images, (rows, C, H, W), from others; without others, of the images."""
    rows, height, width = len(x), *x.shape[-2:]
    where = power = torch.zeros((), dtype=torch.float64)
    for part, other in zip(pieces(x), pieces(x if exact is None else exact), strict=True):
        e = part.double() if exact is None else part.double() - other.double()
        where = where + e.square().mean(dim=1).sum(dim=0) / rows
        power = power + rapsd(e, corners=True).sum(dim=0) / rows
    modes = binning(height, width, "fft", corners=True).count
    return Residual(where.numpy(), power.numpy(), modes)
