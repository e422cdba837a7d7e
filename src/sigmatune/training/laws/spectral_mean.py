r"""Spectral, global: the logSNR curve of the data set's mean spectrum.

.. math:: \lambda(u) = \log \kappa(u) - \log P(f(u)), \qquad
          \log \kappa(u) = (1 - u) \log \kappa_{\max} + u \log \kappa_{\min}

with the curves of :mod:`sigmatune.spectra.curves`: the noise passes from hiding the coarsest ring to hiding the finest,
between tight ends, the same for all images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.spectra.curves import CURVES, KAPPA_MAX, KAPPA_MIN, Curve
from sigmatune.training.laws.base import Domain, LawKind, Shared


def curve_of(power: Array, path: NoisePath, options: Mapping[str, Any]) -> Curve:
    """The curve of a spectrum, or one per row, with its ends moved into the model's range.

    An end beyond the range is the range's. Data without power (a constant image) have an empty range: then the whole
    range applies, as in :mod:`sigmatune.schedules.spectral`.

    Args:
        power: P(k), (K,) or (R, K).
        path: The model's noise path.
        options: ``curve``, ``kappa_min`` and ``kappa_max``.
    """
    curve = CURVES[str(options["curve"])](power, kappa_min=options["kappa_min"], kappa_max=options["kappa_max"])
    low, high = curve.ends
    least = 1 + 1e-6
    low = np.where(low * least >= path.sigma_max, path.sigma_min, np.maximum(low, path.sigma_min))
    high = np.where(high <= path.sigma_min * least, path.sigma_max, np.minimum(high, path.sigma_max))
    return curve.between(low, high)


def spectral(
    domain: Domain, *, curve: str = "mixed", kappa_min: float = KAPPA_MIN, kappa_max: float = KAPPA_MAX
) -> Shared:
    """Draws v uniformly on the curve of the mean spectrum.

    References:
        | Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026)
        | https://arxiv.org/abs/2603.19222

    Args:
        domain: The model and data.
        curve: "frequency", "power" or "mixed".
        kappa_min, kappa_max: P / sigma^2 at the noisy and at the clean end.

    Raises:
        SigmaTuneError: for an unknown curve, invalid kappas, or if no spectrum was measured.
    """
    options = {"curve": curve, "kappa_min": kappa_min, "kappa_max": kappa_max}
    of_mean = curve_of(domain.power(), domain.path, options)
    return Shared(of_mean.logsnr, lambda u: -of_mean.slope(u), options)


KIND = LawKind("spectral", spectral, "the curve of the data's mean spectrum")
