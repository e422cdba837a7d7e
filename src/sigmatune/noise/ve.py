"""The variance-exploding path: data plus noise, as in score models and EDM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sigmatune.noise.path import LEVEL_TOLERANCE, Array, Levels, NoisePath
from sigmatune.support.errors import SigmaTuneError


@dataclass(frozen=True)
class VE(NoisePath):
    r"""The variance-exploding path, :math:`x = x_0 + \sigma \epsilon`, also the one of EDM.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364

    Args:
        sigma_low, sigma_high: The model's range, 0 < low < high < inf.
        clock: The network's t: ``sigma`` itself or EDM's ``quarter_log``, log(sigma) / 4.
        levels: How many positions the range is divided into; positions are linear in log sigma, as the time of score
            models and of EDM is.
    """

    sigma_low: float = 0.002
    sigma_high: float = 80.0
    clock: Literal["sigma", "quarter_log"] = "sigma"
    levels: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.sigma_low < self.sigma_high < np.inf:
            raise SigmaTuneError(f"need 0 < sigma_min < sigma_max < inf, got {self.sigma_low} and {self.sigma_high}.")
        if self.clock not in ("sigma", "quarter_log"):
            raise SigmaTuneError(f"the clock must be 'sigma' or 'quarter_log', not {self.clock!r}.")
        if self.levels < 2:
            raise SigmaTuneError(f"a path has at least two levels, not {self.levels}.")

    @property
    def sigma_min(self) -> float:
        return self.sigma_low

    @property
    def sigma_max(self) -> float:
        return self.sigma_high

    def sigma(self, t: Levels) -> Array:
        t = np.asarray(t, dtype=np.float64)
        sigma = np.exp(4 * t) if self.clock == "quarter_log" else t
        self.check(sigma)
        return np.asarray(sigma)

    def time(self, sigma: Levels) -> Array:
        sigma = self.inside(sigma)
        return np.asarray(np.log(sigma) / 4 if self.clock == "quarter_log" else sigma)

    def time_tolerance(self, t: Levels) -> Array:
        t = np.asarray(t, dtype=np.float64)  # it is not a count of levels, but the level itself or a logarithm of it
        return LEVEL_TOLERANCE * (np.full_like(t, 0.25) if self.clock == "quarter_log" else np.abs(t))

    def alpha(self, t: Levels) -> Array:
        return np.ones_like(self.sigma(t))

    def s(self, t: Levels) -> Array:
        return self.sigma(t)

    def at_position(self, position: Levels) -> Array:
        share = (np.asarray(position, dtype=np.float64) - 1) / (self.levels - 1)
        return np.asarray(self.sigma_low * (self.sigma_high / self.sigma_low) ** share)

    def position(self, sigma: Levels) -> Array:
        share = np.log(self.inside(sigma) / self.sigma_low) / np.log(self.sigma_high / self.sigma_low)
        return np.asarray(1 + share * (self.levels - 1))

    def state_scale(self, sigma: Levels) -> Array:
        return np.hypot(1.0, np.asarray(sigma, dtype=np.float64))

    def spec(self) -> dict[str, Any]:
        return {"kind": "ve", "sigma_min": self.sigma_low, "sigma_max": self.sigma_high, "clock": self.clock,
                "levels": self.levels}  # fmt: skip
