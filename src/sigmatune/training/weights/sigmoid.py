r"""The sigmoid weight of SiD2, with a given bias or the spectrum's.

.. math:: w(\sigma) = e^b \, \mathrm{sigmoid}(\lambda - b) = \frac{1}{\sigma^2 + e^{-b}}

The second form interprets the bias: a variance :math:`\sigma_b^2 = e^{-b}` below which less noise gains no more weight.
With :math:`e^{-b} = \sigma_d^2` the weight is EDM's times :math:`\sigma^2 \sigma_d^2 / (\sigma^2 +
\sigma_d^2)^2`, which fades at both ends.

**From the spectrum** (the paper leaves this open; our derivation): a ring of power P passes from hidden to visible at
:math:`\lambda_k = -\log P_k`. With :math:`b = \operatorname{mean}_k \lambda_k` over the rings k >= 1 the weight has its
knee where the middle ring, in the geometric mean of powers, is half visible: coarser rings get the full weight of the
noise's error, finer rings less and less, whatever the resolution.
"""

from __future__ import annotations

import numpy as np

from sigmatune.spectra.advice import training_density
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.weights.base import DataFacts, Function, Weight


def sigmoid(data: DataFacts, *, b: float = -3.0) -> Function:  # noqa: ARG001 - all have one signature
    r"""Weights the error of the noise by a sigmoid of :math:`b - \lambda`.

    References:
        | Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation (Kingma & Gao, 2023)
        | https://arxiv.org/abs/2303.00848
        | Simpler Diffusion (SiD2): 1.5 FID on ImageNet512 with Pixel-space Diffusion (Hoogeboom et al., 2024)
        | https://arxiv.org/abs/2410.19324

    Args:
        data: Not used.
        b: The bias, a logSNR.
    """
    return lambda sigma: np.asarray(1 / (sigma**2 + np.exp(-b)))


def spectral_bias(data: DataFacts) -> float:
    r"""The bias that the spectrum implies, :math:`b = -\operatorname{mean}_k \log P_k`.

    Raises:
        SigmaTuneError: if no spectrum was measured.
    """
    if data.spectrum is None:
        raise SigmaTuneError("this weight needs the data's spectrum; measure it first.")
    return -2 * training_density(data.spectrum).mean


def from_spectrum(data: DataFacts, *, offset: float = 0.0) -> Function:
    """The sigmoid weight with the spectrum's bias.

    References:
        | Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026), which leaves the bias open
        | https://arxiv.org/abs/2603.19222

    Args:
        data: Its spectrum is used.
        offset: Added to the bias, a logSNR.
    """
    return sigmoid(data, b=spectral_bias(data) + offset)


WEIGHT = Weight("sigmoid", sigmoid, "SiD2: e^b sigmoid(lambda - b)")
SPECTRUM = Weight("sigmoid-spectral", from_spectrum, "SiD2's with the bias from the spectrum")
