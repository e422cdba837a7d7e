r"""What a spectrum implies for training: data scale, noise density, ends, and the shift for another resolution.

A denoiser learns something about ring k where signal and noise are comparable there. With :math:`\kappa = P_k /
\sigma^2` the share of signal in the output is :math:`\kappa / (1 + \kappa)`, a logistic function of :math:`\log \sigma`
with its midpoint at :math:`\tfrac12 \log P_k`; its slope is a bump of variance :math:`\pi^2 / 12`. Giving every ring k
>= 1 the same share of the training noise is a mixture of these bumps, with

.. math:: P_{mean} = \operatorname{mean}_k \tfrac12 \log P_k, \qquad
          P_{std}^2 = \operatorname{var}_k \tfrac12 \log P_k + \tfrac{\pi^2}{12}

as mean and standard deviation of log sigma. Weighting rings by their modes n_k instead, so that every mode counts the
same, moves it to lower noise, because most modes are high frequencies.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), table 1 for EDM's constants
    | https://arxiv.org/abs/2206.00364
    | Simple Diffusion (Hoogeboom et al., 2023) for the shift, https://arxiv.org/abs/2301.11093
    | The densities from the spectrum are derived here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from sigmatune.noise import Array
from sigmatune.spectra.spectrum import QUANTISATION, Spectrum
from sigmatune.support.errors import SigmaTuneError

EDM: Mapping[str, float] = {"sigma_min": 0.002, "sigma_max": 80.0, "P_mean": -1.2, "P_std": 1.2, "sigma_data": 0.5}
"""EDM's published constants, for comparison."""


@dataclass(frozen=True)
class Density:
    """A log-normal density of training noise: log sigma ~ N(mean, std^2).

    Attributes:
        mean, std: P_mean and P_std, natural logarithms of sigma.
    """

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise SigmaTuneError(f"a density needs a finite mean and a positive std, not {self.mean} and {self.std}.")

    def below(self, sigma: Any) -> Array:
        """The share of training noise below some levels (0 and inf included)."""
        with np.errstate(divide="ignore"):
            return np.asarray(ndtr((np.log(np.asarray(sigma, dtype=np.float64)) - self.mean) / self.std))

    def at(self, sigma: Any) -> Array:
        """The density per unit of log sigma."""
        z = (np.log(np.asarray(sigma, dtype=np.float64)) - self.mean) / self.std
        return np.asarray(np.exp(-0.5 * z**2) / (self.std * math.sqrt(2 * math.pi)))


@dataclass(frozen=True)
class Coverage:
    """How much of the training noise lies where a plan steps, and the reverse.

    Attributes:
        inside: Share of the training density between the plan's last positive and first level.
        above, below: Shares of training that the plan never visits.
        shares: Share of training nearest (in log sigma) to each of the plan's levels, first level first, (N,); they sum to 1.
        rare: Levels outside the central 98 % of the training density: the network rarely saw such noise.
    """

    inside: float
    above: float
    below: float
    shares: Array
    rare: Array

    def to_dict(self) -> dict[str, Any]:
        """The coverage as JSON has it."""
        rare = [level if math.isfinite(level) else "inf" for level in self.rare.tolist()]
        plain = {"inside": self.inside, "above": self.above, "below": self.below}
        return {**plain, "shares": self.shares.tolist(), "rare_levels": rare}


def training_density(spectrum: Spectrum, *, by: str = "rings") -> Density:
    """Proposes the density of training noise from a spectrum.

    Args:
        spectrum: The data's; the power about its mean counts, if known.
        by: ``"rings"``: every ring of frequency the same share; ``"modes"``: every mode.

    Raises:
        SigmaTuneError: for a spectrum without a ring beyond DC, or an unknown weighting.
    """
    whole = min(spectrum.size) // 2 + 1
    if whole < 2:
        raise SigmaTuneError("images of one pixel in height or width have no frequencies; a density needs some.")
    if by not in ("rings", "modes"):
        raise SigmaTuneError(f"a density weighs by 'rings' or 'modes', not {by!r}.")
    power = spectrum.power if spectrum.centred is None else spectrum.centred
    middle = 0.5 * np.log(np.maximum(power.reshape(-1, power.shape[-1]).mean(axis=0)[1:whole], QUANTISATION))
    weight = np.ones(whole - 1) if by == "rings" else spectrum.count[1:whole]
    mean = float(np.average(middle, weights=weight))
    spread = float(np.average((middle - mean) ** 2, weights=weight))
    return Density(mean, math.sqrt(spread + math.pi**2 / 12))


def guidance_interval(power: Any) -> tuple[float, float]:
    r"""Proposes the noise levels between which classifier-free guidance acts.

    .. math:: \sigma \in \Big( \sqrt{P(k_{max} / 2)}, \; \sqrt{\max_{k \ge 1} P(k)} \Big]

    Above, the noise hides every frequency ring, and guidance only moves the mean; below, the coarser half of all rings
    is decided and guidance could only sharpen detail. In between it decides the content.

    References:
        | Applying Guidance in a Limited Interval (Kynkaanniemi et al., 2024), which found such intervals by search
        | https://arxiv.org/abs/2404.07724
        | The rule is our derivation; not compared with the paper's.

    Args:
        power: P(k), k = 0 first, (K,).

    Returns:
        The lower and the upper noise level.

    Raises:
        SigmaTuneError: for fewer than two rings beyond DC, or data without power.
    """
    rings = np.asarray(power, dtype=np.float64)
    if rings.ndim != 1 or len(rings) < 3 or not np.isfinite(rings).all() or not rings[1:].max() > QUANTISATION:
        raise SigmaTuneError("a guidance interval needs the power of at least two rings beyond DC, not all zero.")
    fine = max(float(rings[(len(rings) - 1) // 2 :].max()), QUANTISATION)
    top = float(rings[1:].max())
    return math.sqrt(fine) if fine < top else 0.0, math.sqrt(top)


def coverage(density: Density, sigmas: Sequence[float] | Array) -> Coverage:
    """Compares a density of training noise with a plan's levels.

    Args:
        density: Of training.
        sigmas: The plan's positive levels, descending, (N,); the first may be infinite.

    Raises:
        SigmaTuneError: if there is no level.
    """
    levels = np.asarray(sigmas, dtype=np.float64)
    if levels.ndim != 1 or len(levels) == 0 or not (levels > 0).all():
        raise SigmaTuneError("coverage needs the positive levels of one shared schedule.")
    below = density.below(levels)
    between = np.sqrt(levels[:-1] * levels[1:])
    edges = np.concatenate([[1.0], density.below(between), [0.0]])
    rare = levels[(below < 0.01) | (below > 0.99)]
    above, under = float(1 - below[0]), float(below[-1])
    return Coverage(1 - above - under, above, under, -np.diff(edges), rare)
