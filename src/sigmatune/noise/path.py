"""The definition of a noise path: the maps between a model's time, its noise level and the scales of its state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from sigmatune.support import card
from sigmatune.support.errors import SigmaTuneError

Array = npt.NDArray[np.float64]
Levels = float | Array
Flags = npt.NDArray[np.bool_]

LEVEL_TOLERANCE = 1e-5
"""How far, relatively, a noise level from a file may lie from the same level here. Tables of models are float32: two
libraries, or two versions of one, round them to levels that differ by up to 7e-6 (docs/plan_format.md)."""

TIME_TOLERANCE = 1e-6
"""The same for t, relative to the path's levels: 0.001 of 1000 timesteps; such tables differ by up to 0.00014."""


def close(sigma: Levels, other: Levels) -> Flags:
    """Whether noise levels are the same within :data:`LEVEL_TOLERANCE`, elementwise; infinity is close to itself only."""
    return np.isclose(sigma, other, rtol=LEVEL_TOLERANCE, atol=0.0)


class NoisePath(ABC):
    r"""Maps a model's time to its noise level and back.

    ``time`` is what the network receives. ``position`` is the coordinate in which the model's authors space their
    steps: a real number in [1, levels], 1 the cleanest level and ``levels`` the noisiest. For a VP table it is t + 1;
    for a flow model it is the time before the shift.
    """

    levels: int

    @property
    @abstractmethod
    def sigma_min(self) -> float:
        """The smallest noise level in the model's range, > 0."""

    @property
    @abstractmethod
    def sigma_max(self) -> float:
        """The largest noise level in the model's range; may be infinite."""

    @abstractmethod
    def sigma(self, t: Levels) -> Array:
        """The noise level at the network's time ``t``."""

    @abstractmethod
    def time(self, sigma: Levels) -> Array:
        """The network's time at a noise level: the exact inverse of :meth:`~sigmatune.noise.path.NoisePath.sigma`."""

    @abstractmethod
    def at_position(self, position: Levels) -> Array:
        """The noise level at a position in [1, levels]."""

    @abstractmethod
    def position(self, sigma: Levels) -> Array:
        """The position of a noise level: the exact inverse of :meth:`at_position`."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """A JSON-ready description that :func:`from_spec` turns back into the same path."""

    def __repr__(self) -> str:
        said = card.options({name: value for name, value in self.spec().items() if name != "kind"})
        ends = f"noise levels {card.number(self.sigma_min)} to {card.number(self.sigma_max)}"
        return f"{type(self).__name__}({f'{said}, ' if said else ''}{ends})"

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

    def time_tolerance(self, t: Levels) -> Array:
        """How far a t from a file may lie from the same t here; :data:`TIME_TOLERANCE` of the levels where t counts them."""
        return np.full_like(np.asarray(t, dtype=np.float64), TIME_TOLERANCE * self.levels)

    def check(self, sigma: Levels) -> None:
        """Refuses noise levels outside [sigma_min, sigma_max] by more than :data:`LEVEL_TOLERANCE`.

        Raises:
            SigmaTuneError: naming the first level that is outside.
        """
        values = np.atleast_1d(np.asarray(sigma, dtype=np.float64)).ravel()
        low, high = self.sigma_min * (1 - LEVEL_TOLERANCE), self.sigma_max * (1 + LEVEL_TOLERANCE)
        outside = ~((values >= low) & (values <= high))
        if outside.any():
            raise SigmaTuneError(
                f"sigma {values[outside][0]:.6g} is outside the model's range "
                f"[{self.sigma_min:.6g}, {self.sigma_max:.6g}]; choose noise levels inside it."
            )

    def inside(self, sigma: Levels) -> Array:
        """Noise levels clipped to the range, which the tables of another processor may leave by rounding.

        Raises:
            SigmaTuneError: for a level that is outside by more than :data:`LEVEL_TOLERANCE`.
        """
        self.check(sigma)
        return np.clip(np.asarray(sigma, dtype=np.float64), self.sigma_min, self.sigma_max)

    def agrees(self, sigma: Levels, t: Levels) -> Flags:
        """Whether pairs of a level and the network's t are pairs of this path, elementwise.

        They are if t matches the level within :meth:`time_tolerance`, or the level matches t within
        :data:`LEVEL_TOLERANCE`: the first test is stricter where a table is steep, the second where it is flat.

        Raises:
            SigmaTuneError: for a level outside the range.
        """
        sigma, t = np.asarray(sigma, dtype=np.float64), np.asarray(t, dtype=np.float64)
        tolerance = self.time_tolerance(t)
        low, high = self.time(np.array([self.sigma_min, self.sigma_max]))
        known = np.fmin(np.fmax(t, low), high)  # NaN compares as false: not near
        near = np.abs(self.time(sigma) - t) <= tolerance
        return np.asarray(near | ((np.abs(known - t) <= tolerance) & close(self.sigma(known), sigma)))


def alpha_of(sigma: Levels) -> Array:
    """The signal scale 1 / sqrt(1 + sigma^2) of the unit state; 0 at sigma = inf."""
    return np.asarray(1 / np.hypot(1.0, sigma))


def s_of(sigma: Levels) -> Array:
    """The noise scale sigma / sqrt(1 + sigma^2) of the unit state; 1 at sigma = inf and 0 at sigma = 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.hypot(1.0, 1 / np.asarray(sigma, dtype=np.float64)))
