"""The variance-exploding path: data plus noise, as in score models and EDM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sigmatune.noise.path import LEVEL_TOLERANCE, Array, Levels, NoisePath
from sigmatune.support.errors import SigmaTuneError

Map = Callable[[Array], Array]

CLOCKS: dict[str, tuple[Map, Map]] = {
    "sigma": (np.asarray, np.asarray),
    "quarter_log": (lambda sigma: np.log(sigma) / 4, lambda t: np.exp(4 * t)),
    "atan": (lambda sigma: np.arctan(sigma) * 2 / np.pi, lambda t: np.tan(t * np.pi / 2)),
}
"""The network's t from sigma, and the inverse."""


@dataclass(frozen=True, repr=False)
class VE(NoisePath):
    r"""The variance-exploding path, :math:`x = x_0 + \sigma \epsilon`, also the one of EDM.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364

    Args:
        sigma_low, sigma_high: The model's range, 0 < low < high < inf.
        clock: The network's t: ``sigma`` itself, EDM's ``quarter_log``, log(sigma) / 4, or Stable Audio's ``atan``,
            (2 / pi) atan(sigma).
        levels: How many positions the range is divided into; positions are linear in log sigma, as the time of score
            models and of EDM is.
    """

    sigma_low: float = 0.002
    sigma_high: float = 80.0
    clock: Literal["sigma", "quarter_log", "atan"] = "sigma"
    levels: int = 1000

    def __post_init__(self) -> None:
        ends = (self.sigma_low, self.sigma_high)
        if not all(isinstance(end, int | float | np.number) for end in ends):
            raise SigmaTuneError(f"sigma_min and sigma_max are numbers, not {ends[0]!r} and {ends[1]!r}.")
        if not 0 < self.sigma_low < self.sigma_high < np.inf:
            raise SigmaTuneError(f"need 0 < sigma_min < sigma_max < inf, got {self.sigma_low} and {self.sigma_high}.")
        if self.clock not in CLOCKS:
            raise SigmaTuneError(f"the clock must be 'sigma', 'quarter_log' or 'atan', not {self.clock!r}.")
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
        sigma = np.asarray(CLOCKS[self.clock][1](t))
        self.check(sigma)
        return np.asarray(sigma)

    def time(self, sigma: Levels) -> Array:
        return np.asarray(CLOCKS[self.clock][0](self.inside(sigma)))

    def time_tolerance(self, t: Levels) -> Array:
        t = np.asarray(t, dtype=np.float64)  # it is not a count of levels, but the level itself or a logarithm of it
        if self.clock == "atan":  # d t / d log sigma = sin(pi t) / pi
            return np.asarray(LEVEL_TOLERANCE * np.abs(np.sin(np.pi * t)) / np.pi)
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
