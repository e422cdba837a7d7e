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


def residual(e: torch.Tensor) -> Residual:
    """Computes the statistics of differences of images, (rows, C, H, W)."""
    height, width = e.shape[-2:]
    power = rapsd(e.double(), corners=True).mean(dim=0).numpy()
    modes = binning(height, width, "fft", corners=True).count
    return Residual(e.double().square().mean(dim=(0, 1)).numpy(), power, modes)
