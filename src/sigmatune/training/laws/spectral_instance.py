r"""Spectral, per instance: every image is trained on the logSNR curve of its own spectrum.

.. math:: P_i(k) = \mathrm{RAPSD}(x_i), \qquad \lambda_i(u) = \log \kappa(u) - \log P_i(f_i(u))

A smooth image gets less noise, a rough one more at the fine end, and the same u covers both from "hidden" to "visible".
The network needs the curve as a condition: besides :math:`\lambda_i(u)` it gets the ends :math:`\lambda_i(0)` and
:math:`\lambda_i(1)` (:mod:`sigmatune.models.conditioning`). For sampling, spectra are drawn from a mixture, fitted to
the data and saved with the model (:mod:`sigmatune.rules`).

The spectrum is measured on the images of the batch: mirrored or not, it is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sigmatune.noise import Array, NoisePath
from sigmatune.spectra.curves import CURVES, KAPPA_MAX, KAPPA_MIN, Curve
from sigmatune.spectra.rapsd import rapsd
from sigmatune.training.laws.base import Domain, Drawn, Law, LawKind
from sigmatune.training.laws.spectral_mean import curve_of


class PerImage(Law):
    """One spectral curve per image.

    Args:
        path: The model's noise path.
        options: ``curve``, ``kappa_min`` and ``kappa_max``.
    """

    instance = True

    def __init__(self, path: NoisePath, options: Mapping[str, Any]) -> None:
        self.path, self.curve = path, options

    def logsnr(self, u: Array, images: torch.Tensor) -> Array:
        return self._curves(images).logsnr(np.asarray(u, dtype=np.float64))

    def slope(self, u: Array, images: torch.Tensor) -> Array:
        return -self._curves(images).slope(np.asarray(u, dtype=np.float64))

    def draw(self, u: Array, images: torch.Tensor) -> Drawn:
        curves = self._curves(images)  # once for level, slope and ends
        edges = np.array([0.0, 1.0])
        rows = np.concatenate([u[:, None], np.broadcast_to(edges, (len(u), 2))], axis=1)
        sigma = curves.sigma(rows)
        return Drawn(sigma[:, 0], -curves.slope(u[:, None])[:, 0], sigma[:, 1:])

    def _curves(self, images: torch.Tensor) -> Curve:
        assert self.curve is not None
        power = rapsd(images.detach().float().cpu()).double().numpy()
        return curve_of(power, self.path, self.curve)


def spectral_instance(
    domain: Domain, *, curve: str = "mixed", kappa_min: float = KAPPA_MIN, kappa_max: float = KAPPA_MAX
) -> PerImage:
    """Draws v uniformly on the curve of each image's own spectrum.

    References:
        | Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026)
        | https://arxiv.org/abs/2603.19222

    Args:
        domain: The model and data.
        curve: "frequency", "power" or "mixed".
        kappa_min, kappa_max: P / sigma^2 at the noisy and at the clean end.

    Raises:
        SigmaTuneError: for an unknown curve or invalid kappas.
    """
    CURVES[curve](np.array([1.0, 1.0, 1.0]), kappa_min=kappa_min, kappa_max=kappa_max)
    return PerImage(domain.path, {"curve": curve, "kappa_min": kappa_min, "kappa_max": kappa_max})


KIND = LawKind("spectral-instance", spectral_instance, "the curve of each image's own spectrum")
