r"""Min-SNR: the weight of the noise's error, capped at gamma.

.. math:: w(\sigma) = \min(\sigma^{-2}, \gamma)
"""

from __future__ import annotations

import numpy as np

from sigmatune.support.options import positive
from sigmatune.training.weights.base import DataFacts, Function, Weight


def min_snr(data: DataFacts, *, gamma: float = 5.0) -> Function:  # noqa: ARG001 - all have one signature
    """Caps the signal-to-noise ratio.

    References:
        | Efficient Diffusion Training via Min-SNR Weighting Strategy (Hang et al., 2023)
        | https://arxiv.org/abs/2303.09556

    Args:
        data: Not used.
        gamma: The cap, > 0.

    Raises:
        SigmaTuneError: if gamma is not positive.
    """
    positive(gamma=gamma)
    return lambda sigma: np.minimum(sigma**-2, gamma)


WEIGHT = Weight("min-snr", min_snr, "signal-to-noise ratio, capped")
