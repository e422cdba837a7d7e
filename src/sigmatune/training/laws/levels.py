r"""The levels of a plan, for fine-tuning, with a small share elsewhere.

.. math:: u < r: \; \lambda \text{ uniform over the range}; \qquad u \ge r: \; \sigma_i \text{ with probability } p_i

Fine-tuning a model on the levels that will be used makes it better there and worse elsewhere; the share r off the
levels keeps the rest usable and measurable. Here :math:`\lambda(u)` is a staircase, not a curve: its slope is not
defined, and a loss must not be multiplied by it.

Reference: Optimizing Few-Step Sampler for Diffusion Probabilistic Model (Huang, 2024), https://arxiv.org/abs/2412.10786
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.laws.base import Domain, Law, LawKind


class Levels(Law):
    """Draws from given levels, and a share from the whole range.

    Args:
        levels: sigma, (N,), positive.
        shares: Probability of each, (N,), summing to 1.
        elsewhere: r.
        logsnr_ends: The logSNR at sigma_min and at sigma_max.
        told: sigma_min and sigma_max, the condition of a conditional network; those of the range by default.
    """

    def __init__(
        self,
        levels: Array,
        shares: Array,
        elsewhere: float,
        logsnr_ends: tuple[float, float],
        conditioned_ends: tuple[float, float] | None = None,
    ) -> None:
        self.levels, self.edges, self.elsewhere, self._ends = levels, np.cumsum(shares), elsewhere, logsnr_ends
        self._conditioned_ends = conditioned_ends or tuple(np.exp(-np.array(logsnr_ends) / 2).tolist())

    def logsnr(self, u: Array, images: torch.Tensor) -> Array:
        u = np.asarray(u, dtype=np.float64)
        high, low = self._ends
        spread = high + (low - high) * u / max(self.elsewhere, 1e-300)
        place = (u - self.elsewhere) / (1 - self.elsewhere) * self.edges[-1]
        chosen = np.clip(np.searchsorted(self.edges, place, side="right"), 0, len(self.levels) - 1)
        return np.where(u < self.elsewhere, spread, -2 * np.log(self.levels)[chosen])

    def slope(self, u: Array, images: torch.Tensor) -> Array:
        return np.full_like(np.asarray(u, dtype=np.float64), np.nan)

    def ends(self, images: torch.Tensor) -> Array:
        return np.repeat(np.array([self._conditioned_ends]), len(images), axis=0)


def levels(
    domain: Domain, *, sigmas: Sequence[float] = (), shares: Sequence[float] | None = None, elsewhere: float = 0.1
) -> Levels:
    """Draws the levels of a plan.

    Args:
        domain: The model and data.
        sigmas: The plan's positive levels, (N,).
        shares: How often each is drawn, positive numbers, normalised here; equally often by default.
        elsewhere: Share of training anywhere in the model's range, in [0, 1).

    Raises:
        SigmaTuneError: for no level, one outside the model's range, or shares that do not fit.
    """
    points = np.array(sigmas, dtype=np.float64)
    if points.ndim != 1 or not len(points):
        raise SigmaTuneError("the law 'levels' needs the plan's positive levels, sigmas: [...].")
    domain.path.check(points)
    weights = np.ones(len(points)) if shares is None else np.array(shares, dtype=np.float64)
    if weights.shape != points.shape or not (weights > 0).all() or not np.isfinite(weights).all():
        raise SigmaTuneError(f"the law 'levels' needs one positive share for each of its {len(points)} levels.")
    if not 0 <= elsewhere < 1:
        raise SigmaTuneError(f"elsewhere must lie in [0, 1), not {elsewhere!r}.")
    return Levels(points, weights / weights.sum(), elsewhere, domain.logsnr)


KIND = LawKind("levels", levels, "the levels of a plan, and a share elsewhere", {"sigmas": [10.0, 1.0, 0.1]})
