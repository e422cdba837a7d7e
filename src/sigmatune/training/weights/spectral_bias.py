r"""The inverse of the error for Gaussian data with the same spectrum: EDM's weight for data that is not white.

.. math:: w(\sigma) = \Big( \frac{1}{\sum_k n_k} \sum_k n_k \frac{P_k \sigma^2}{P_k + \sigma^2} \Big)^{-1}

The sum is the error of the best denoiser of Gaussian data (Wiener's filter). With a flat spectrum it is EDM's weight.
Images are not white: at medium noise most of their modes are lost already, the best error is far below that of white
data, and EDM's weight almost ignores the levels that decide coarse structure.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array
from sigmatune.spectra.bounds import lost_variance
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.weights.base import DataFacts, Function, Weight


def spectral(data: DataFacts) -> Function:
    """Weights every level by the inverse of the unavoidable error there.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022) for the principle
        | https://arxiv.org/abs/2206.00364
        | The spectral form is derived here.

    Args:
        data: Its spectrum is used.

    Raises:
        SigmaTuneError: if no spectrum was measured.
    """
    spectrum = data.spectrum
    if spectrum is None:
        raise SigmaTuneError("this weight needs the data's spectrum; measure it first.")

    def weight(sigma: Array) -> Array:
        return np.asarray(1 / lost_variance(spectrum, sigma))

    return weight


WEIGHT = Weight("spectral", spectral, "inverse error of Gaussian data with this spectrum")
