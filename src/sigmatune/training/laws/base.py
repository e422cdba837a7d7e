r"""The definition of a noise law: a strictly falling curve from a uniform number to a logSNR.

.. math:: u \sim U(0, 1), \qquad \lambda = \lambda(u), \qquad \sigma = e^{-\lambda / 2}

u = 0 is the clean end and u = 1 the noisy one. The density of training noise in :math:`\lambda` is :math:`1 /
(-d\lambda/du)`; a loss multiplied by :math:`-d\lambda/du` weights levels by its weight alone, whatever the law. A law
may depend on the images (:mod:`sigmatune.training.laws.spectral_instance`); most do not.

A new law is one file: a function from a :class:`Domain` and options to a :class:`Law`, and a line in the registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sigmatune.noise import Array, NoisePath
from sigmatune.spectra.spectrum import Spectrum
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import full_options, known_options


@dataclass(frozen=True)
class Domain:
    """The model and data of a law.

    Attributes:
        path: The model's noise path; no level is drawn outside its range.
        shape: Shape of one sample, (C, H, W).
        spectrum: The training data's, for laws that need it.
    """

    path: NoisePath
    shape: tuple[int, ...]
    spectrum: Spectrum | None = None

    @property
    def logsnr(self) -> tuple[float, float]:
        """The logSNR at sigma_min (high) and at sigma_max (low).

        Raises:
            SigmaTuneError: for a path without a finite end.
        """
        if not np.isfinite(self.path.sigma_max):
            raise SigmaTuneError("this noise law needs a noise path with a finite sigma_max.")
        return -2 * float(np.log(self.path.sigma_min)), -2 * float(np.log(self.path.sigma_max))

    def power(self) -> Array:
        """P(k) of the training data, mean over channels, (K,).

        Raises:
            SigmaTuneError: if no spectrum was measured.
        """
        if self.spectrum is None:
            raise SigmaTuneError("this noise law needs the data's spectrum; measure it first.")
        return np.asarray(self.spectrum.power.reshape(-1, self.spectrum.rings).mean(axis=0))


@dataclass(frozen=True, eq=False)
class Drawn:
    r"""Noise levels for a batch.

    Attributes:
        sigma: Levels, (B,), float64.
        slope: :math:`-d\lambda/du` at each, (B,), positive.
        ends: The lowest and the highest level of each row's own curve, (B, 2).
    """

    sigma: Array
    slope: Array
    ends: Array


class Law(ABC):
    """Draws noise levels; see the module.

    Attributes:
        instance: Every image has its own curve.
        curve: Family, kappa_min and kappa_max of a spectral curve, for models conditioned on its ends.
    """

    instance: bool = False
    curve: Mapping[str, Any] | None = None

    @abstractmethod
    def logsnr(self, u: Array, images: torch.Tensor) -> Array:
        """The logSNR of u in [0, 1], (B, ...), for a batch of images, (B, C, H, W)."""

    @abstractmethod
    def slope(self, u: Array, images: torch.Tensor) -> Array:
        """The derivative -dlambda/du > 0, shaped like u."""

    def ends(self, images: torch.Tensor) -> Array:
        """sigma_min and sigma_max of each row's curve, (B, 2)."""
        edges = np.broadcast_to(np.array([0.0, 1.0]), (len(images), 2))
        return np.asarray(np.exp(-self.logsnr(edges, images) / 2))

    def draw(self, u: Array, images: torch.Tensor) -> Drawn:
        """Levels for one uniform number per image.

        Args:
            u: (B,), in (0, 1).
            images: The clean images, (B, C, H, W).
        """
        sigma = np.exp(-self.logsnr(u[:, None], images)[:, 0] / 2)
        return Drawn(sigma, self.slope(u[:, None], images)[:, 0], self.ends(images))


class Shared(Law):
    """A law with one curve for all images.

    Args:
        logsnr: The curve, u to logSNR.
        slope: -dlambda/du.
        curve: Of a spectral law, see :class:`Law`.
    """

    def __init__(
        self, logsnr: Callable[[Array], Array], slope: Callable[[Array], Array], curve: Mapping[str, Any] | None = None
    ) -> None:
        self._logsnr, self._slope, self.curve = logsnr, slope, curve

    def logsnr(self, u: Array, images: torch.Tensor) -> Array:
        return self._logsnr(np.asarray(u, dtype=np.float64))

    def slope(self, u: Array, images: torch.Tensor) -> Array:
        return self._slope(np.asarray(u, dtype=np.float64))


@dataclass(frozen=True)
class LawKind:
    """A law's entry in the registry.

    Args:
        name: As in recipes.
        build: (domain, keyword-only options) -> law.
        summary: In one line.
        options: Options that a test of all laws has to give, where there is no default.
    """

    name: str
    build: Callable[..., Law]
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def with_options(self, domain: Domain, given: Mapping[str, Any]) -> Law:
        """The law with its options completed.

        Raises:
            SigmaTuneError: for an unknown option or one that is out of range.
        """
        return self.build(domain, **full_options(self.name, known_options(self.build), given))
