"""Paths around other paths: a part of the range, or pairs of level and t that a file states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sigmatune.noise.path import Array, Levels, NoisePath
from sigmatune.support.errors import SigmaTuneError


@dataclass(frozen=True, eq=False, repr=False)
class Around(NoisePath):
    """A path around another path; everything that is not overridden comes from the inner path.

    Args:
        inner: The model's own path.
    """

    inner: NoisePath

    @property
    def levels(self) -> int:  # type: ignore[override]
        return self.inner.levels

    @property
    def sigma_min(self) -> float:
        return self.inner.sigma_min

    @property
    def sigma_max(self) -> float:
        return self.inner.sigma_max

    def sigma(self, t: Levels) -> Array:
        return self.inner.sigma(t)

    def time(self, sigma: Levels) -> Array:
        return self.inner.time(sigma)

    def time_tolerance(self, t: Levels) -> Array:
        return self.inner.time_tolerance(t)

    def alpha(self, t: Levels) -> Array:
        return self.inner.alpha(t)

    def s(self, t: Levels) -> Array:
        return self.inner.s(t)

    def state_scale(self, sigma: Levels) -> Array:
        return self.inner.state_scale(sigma)

    def at_position(self, position: Levels) -> Array:
        return self.inner.at_position(position)

    def position(self, sigma: Levels) -> Array:
        return self.inner.position(sigma)

    def spec(self) -> dict[str, Any]:
        return self.inner.spec()


@dataclass(frozen=True, repr=False)
class Narrowed(Around):
    """Restricts a path to a part of its range; positions are spread over that part, the network's time is unchanged.

    Args:
        low, high: The new sigma_min and sigma_max, inside the path's range, to which levels outside it by rounding are
            clipped; ``high`` may be infinite if the path's is.

    Raises:
        SigmaTuneError: if the ends are not numbers with low < high, or lie outside the path's range.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise SigmaTuneError(f"need 0 < sigma_min < sigma_max, got {self.low:.6g} and {self.high:.6g}.")
        low, high = self.inner.inside(np.array([self.low, self.high])).tolist()
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

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
        return self.inner.time(self.inside(sigma))

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


@dataclass(frozen=True, eq=False, repr=False)
class Paired(Around):
    """A path on which the network receives, at some levels, the t that a file states for them.

    A pair that contradicts this path is dropped: then the file was made for another path, and this path's t applies.

    Args:
        pairs: Levels and their t, (P, 2).
    """

    pairs: Array

    @cached_property
    def _known(self) -> tuple[Array, Array]:
        """The levels, rising, and their t inside the network's own range."""
        levels, first = np.unique(self.pairs[:, 0], return_index=True)
        t = self.pairs[first, 1]
        agree = self.inner.agrees(levels, t)
        whole = self.inner
        while isinstance(whole, Around):
            whole = whole.inner
        return levels[agree], np.clip(t[agree], *whole.time(np.array([whole.sigma_min, whole.sigma_max])))

    def time(self, sigma: Levels) -> Array:
        t, (levels, times) = self.inner.time(sigma), self._known
        if not len(levels):
            return t
        place = np.searchsorted(levels, sigma).clip(max=len(levels) - 1)
        return np.where(levels[place] == sigma, times[place], t)


def paired(path: NoisePath, pairs: Array | None) -> NoisePath:
    """The path with the pairs of a file; the path itself if it computes the same bits, as on the file's own machine."""
    if pairs is None or np.array_equal(path.time(pairs[:, 0]), pairs[:, 1]):
        return path
    return Paired(path, pairs)
