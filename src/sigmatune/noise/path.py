"""What a noise path is: the maps between a model's time, its noise level and the scales of its state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sigmatune.errors import SigmaTuneError

Array = npt.NDArray[np.float64]
Levels = float | Array


class NoisePath(ABC):
    r"""Maps a model's time to its noise level and back.

    ``time`` is what the network receives. ``position`` is the coordinate in which the model's makers space their steps:
    a real number in [1, levels], 1 the cleanest level and ``levels`` the noisiest. For a VP table it is t + 1; for a
    flow model it is the time before the shift.
    """

    levels: int

    @property
    @abstractmethod
    def sigma_min(self) -> float:
        """The smallest noise level that the network knows, > 0."""

    @property
    @abstractmethod
    def sigma_max(self) -> float:
        """The largest noise level that the network knows; may be infinite."""

    @abstractmethod
    def sigma(self, t: Levels) -> Array:
        """The noise level at the network's time ``t``."""

    @abstractmethod
    def time(self, sigma: Levels) -> Array:
        """The network's time at a noise level: the exact inverse of :meth:`sigma`."""

    @abstractmethod
    def at_position(self, position: Levels) -> Array:
        """The noise level at a position in [1, levels]."""

    @abstractmethod
    def position(self, sigma: Levels) -> Array:
        """The position of a noise level: the exact inverse of :meth:`at_position`."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """A JSON-ready description that :func:`from_spec` turns back into the same path."""

    def alpha(self, t: Levels) -> Array:
        """The signal scale of the model's own state at time ``t``."""
        return alpha_of(self.sigma(t))

    def s(self, t: Levels) -> Array:
        """The noise scale of the model's own state at time ``t``."""
        return s_of(self.sigma(t))

    def logsnr(self, t: Levels) -> Array:
        """The log signal-to-noise ratio at time ``t``, -2 log sigma."""
        with np.errstate(divide="ignore"):
            return np.asarray(-2 * np.log(self.sigma(t)))

    def state_scale(self, sigma: Levels) -> Array:
        """The factor from the unit state z to the model's own state; 1 for variance-preserving paths."""
        return np.ones_like(np.asarray(sigma, dtype=np.float64))

    def check(self, sigma: Levels) -> None:
        """Refuses noise levels outside [sigma_min, sigma_max].

        Raises:
            SigmaTuneError: naming the first level that is outside.
        """
        values = np.atleast_1d(np.asarray(sigma, dtype=np.float64)).ravel()
        slack = 1e-9
        outside = ~((values >= self.sigma_min * (1 - slack)) & (values <= self.sigma_max * (1 + slack)))
        if outside.any():
            raise SigmaTuneError(
                f"sigma {values[outside][0]:.6g} is outside the model's range "
                f"[{self.sigma_min:.6g}, {self.sigma_max:.6g}]; choose noise levels inside it."
            )


def alpha_of(sigma: Levels) -> Array:
    """The signal scale 1 / sqrt(1 + sigma^2) of the unit state; 0 at sigma = inf."""
    return np.asarray(1 / np.hypot(1.0, sigma))


def s_of(sigma: Levels) -> Array:
    """The noise scale sigma / sqrt(1 + sigma^2) of the unit state; 1 at sigma = inf and 0 at sigma = 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.hypot(1.0, 1 / np.asarray(sigma, dtype=np.float64)))


@dataclass(frozen=True)
class Narrowed(NoisePath):
    """Restricts a path to a part of its range; positions are spread over that part, the network's time is unchanged.

    Args:
        inner: The model's own path.
        low, high: The new sigma_min and sigma_max, inside the path's range; ``high`` may be infinite if the path's is.

    Raises:
        SigmaTuneError: if the ends are not numbers with low < high, or lie outside the path's range.
    """

    inner: NoisePath
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise SigmaTuneError(f"need 0 < sigma_min < sigma_max, got {self.low:.6g} and {self.high:.6g}.")
        self.inner.check(np.array([self.low, self.high]))

    @property
    def levels(self) -> int:  # type: ignore[override]
        return self.inner.levels

    @property
    def sigma_min(self) -> float:
        return self.low

    @property
    def sigma_max(self) -> float:
        return self.high

    def sigma(self, t: Levels) -> Array:
        sigma = self.inner.sigma(t)
        self.check(sigma)
        return sigma

    def time(self, sigma: Levels) -> Array:
        self.check(sigma)
        return self.inner.time(sigma)

    def alpha(self, t: Levels) -> Array:
        return self.inner.alpha(t)

    def s(self, t: Levels) -> Array:
        return self.inner.s(t)

    def state_scale(self, sigma: Levels) -> Array:
        return self.inner.state_scale(sigma)

    @cached_property
    def _ends(self) -> Array:
        return self.inner.position(np.array([self.low, self.high]))

    def at_position(self, position: Levels) -> Array:
        return self.inner.at_position(np.interp(position, [1, self.levels], self._ends))

    def position(self, sigma: Levels) -> Array:
        self.check(sigma)
        return np.asarray(np.interp(self.inner.position(sigma), self._ends, [1, self.levels]))

    def spec(self) -> dict[str, Any]:
        return {"kind": "narrowed", "of": self.inner.spec(), "sigma_min": self.low, "sigma_max": self.high}
