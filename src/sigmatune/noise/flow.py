"""The straight path of flow matching, and the shift of its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sigmatune.noise.path import Array, Levels, NoisePath
from sigmatune.support.errors import SigmaTuneError


def shift(tau: Levels, by: float) -> Array:
    r"""Shifts flow time towards noise, :math:`\tau' = m \tau / (1 + (m - 1) \tau)`, which multiplies sigma by m.

    References:
        | Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024)
        | https://arxiv.org/abs/2403.03206
    """
    tau = np.asarray(tau, dtype=np.float64)
    return np.asarray(by * tau / (by * tau + (1 - tau)))  # exactly 1 at tau = 1, which the usual form is not


def unshift(tau: Levels, by: float) -> Array:
    """Undoes :func:`shift` exactly."""
    return shift(tau, 1 / by)


@dataclass(frozen=True, repr=False)
class Flow(NoisePath):
    r"""The straight path of flow matching, :math:`(1 - \tau) x_0 + \tau \epsilon`.

    The network receives :math:`t = T \tau` **after** the shift; positions are T times the time **before** it, so a grid
    that is uniform in position is what pipelines shift once.

    References:
        | Flow Matching for Generative Modeling (Lipman et al., 2022)
        | https://arxiv.org/abs/2210.02747

    Args:
        shift_by: The shift m > 0 (SD3: 3).
        levels: T.
    """

    shift_by: float = 1.0
    levels: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.shift_by < np.inf or self.levels < 2:
            raise SigmaTuneError(f"need shift > 0 and levels >= 2, got {self.shift_by} and {self.levels}.")

    @property
    def sigma_min(self) -> float:
        return float(self.at_position(1.0))

    @property
    def sigma_max(self) -> float:
        return float("inf")

    def sigma(self, t: Levels) -> Array:
        tau = np.asarray(t, dtype=np.float64) / self.levels
        if np.any(~((tau >= 0) & (tau <= 1))):
            raise SigmaTuneError(f"t must lie in [0, {self.levels}].")
        with np.errstate(divide="ignore"):
            return np.asarray(tau / (1 - tau))

    def time(self, sigma: Levels) -> Array:
        return np.asarray(self.levels / (1 + 1 / self.inside(sigma)))

    def alpha(self, t: Levels) -> Array:
        return np.asarray(1 - np.asarray(t, dtype=np.float64) / self.levels)

    def s(self, t: Levels) -> Array:
        return np.asarray(np.asarray(t, dtype=np.float64) / self.levels)

    def at_position(self, position: Levels) -> Array:
        u = np.asarray(position, dtype=np.float64) / self.levels
        with np.errstate(divide="ignore"):
            return np.asarray(self.shift_by * u / (1 - u))

    def position(self, sigma: Levels) -> Array:
        return np.asarray(self.levels / (1 + self.shift_by / self.inside(sigma)))

    def state_scale(self, sigma: Levels) -> Array:
        # (1 - tau) x0 + tau eps over alpha x0 + s eps: both scale x0 by 1 / (1 + sigma) and 1 / sqrt(1 + sigma^2).
        r = 1 / np.asarray(sigma, dtype=np.float64)
        return np.hypot(1.0, r) / (1 + r)

    def spec(self) -> dict[str, Any]:
        return {"kind": "flow", "shift": self.shift_by, "levels": self.levels}
