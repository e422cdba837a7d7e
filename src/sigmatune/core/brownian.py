r"""Noise by level: the increments of one Brownian path per row, so that an image survives a change of steps.

With noise by call (:mod:`~sigmatune.core.rng`), call k adds the same noise wherever its step lies: 20 and 40 steps give
unrelated images. Here every row has a Brownian path W over the levels, a function of (seed, index, channel) alone, and a step
from :math:`\sigma_t` to :math:`\sigma_s` adds

.. math:: \epsilon = \frac{W(v_s) - W(v_t)}{\sqrt{v_s - v_t}}, \qquad v = \sigma^{-2}.

Each is standard normal, and those of different steps are independent. In the clock v the noise of a step of the reverse-time
SDE is exactly the sum of that of its parts as long as D is constant, and v is 0 at sigma = inf.

W is not drawn in order. Every octave of sigma has an end point, and points inside are found by halving it in log sigma; each
midpoint is drawn from its distribution given both ends (a Brownian bridge), with bits that are a function of its place. So any
level costs at most ``DEPTH`` draws, whatever was asked before.

Reference: Scalable Gradients for Stochastic Differential Equations (Li et al., 2020), section 4, https://arxiv.org/abs/2001.01328
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from sigmatune.core import rng
from sigmatune.core.table import Coefficients
from sigmatune.support.errors import SigmaTuneError

DEPTH = 12
"""Halvings of an octave: levels are distinct if they differ by more than about 0.02 percent."""

CELLS = 1 << DEPTH
FAR = 16
"""A path from sigma = inf begins this many octaves above the step's end; what lies above is 4^-16 of the variance."""

ADDRESS = 1 << 63
"""The paths' addresses begin here, above those of any network call."""


class BrownianPath:
    """The noise of a plan's calls, by level.

    Args:
        seed: Any integer in [0, 2^64).
        indices: The rows' indices.
        shape: Shape of one row.
    """

    def __init__(self, seed: int, indices: Sequence[int], shape: Sequence[int]) -> None:
        self.seed, self.indices, self.shape = seed, list(indices), tuple(shape)
        self._known: dict[int, list[tuple[int, torch.Tensor]]] = {}

    def between(self, sigma_t: float, sigma_s: float, *, channel: int = 0) -> torch.Tensor:
        """The noise of a step, standard normal, (rows, *shape), float64 on the CPU.

        Args:
            sigma_t, sigma_s: The levels at its start, maybe inf, and at its end.
            channel: Distinguishes several noises of one step.

        Raises:
            SigmaTuneError: unless the second level is positive and clearly below the first.
        """
        if not 0 < sigma_s < sigma_t:
            raise SigmaTuneError(
                f"noise by level needs a step down to a positive level, not from {sigma_t:g} to {sigma_s:g}; "
                "take noise by call."
            )
        end = place_of(sigma_s)
        start = (end >> DEPTH) - FAR << DEPTH if math.isinf(sigma_t) else place_of(sigma_t)
        if start >= end:
            raise SigmaTuneError(f"the levels {sigma_t!r} and {sigma_s!r} are too close for noise by level.")
        total = -self._inside(start, channel)
        for octave in range(start >> DEPTH, end >> DEPTH):
            total += self._whole(octave, channel)
        total += self._inside(end, channel)
        return total / math.sqrt(clock(end) - clock(start))

    def _whole(self, octave: int, channel: int) -> torch.Tensor:
        """The increment over an octave."""
        first = octave << DEPTH
        return self._draw(octave, 0, channel) * math.sqrt(clock(first + CELLS) - clock(first))

    def _inside(self, place: int, channel: int) -> torch.Tensor:
        """The increment from the start of a place's octave to the place."""
        known = self._known.setdefault(channel, [])
        for at, value in known:  # a step starts where the one before ended
            if at == place:
                return value
        octave, low = place >> DEPTH, place >> DEPTH << DEPTH
        high, at_low = low + CELLS, torch.zeros(len(self.indices), *self.shape, dtype=torch.float64)
        if place != low:
            at_high = self._whole(octave, channel)
            while True:
                middle = (low + high) // 2
                before, after = clock(middle) - clock(low), clock(high) - clock(middle)
                spread = math.sqrt(before * after / (before + after))
                value = at_low + (at_high - at_low) * (before / (before + after))
                value += self._draw(octave, middle - (octave << DEPTH), channel) * spread
                if middle == place:
                    at_low = value
                    break
                if place < middle:
                    high, at_high = middle, value
                else:
                    low, at_low = middle, value
        known[:] = [*known[-1:], (place, at_low)]
        return at_low

    def _draw(self, octave: int, node: int, channel: int) -> torch.Tensor:
        call = ADDRESS + (1 << 20) + octave
        return rng.noise(self.seed, self.indices, call, self.shape, channel=channel * CELLS + node, dtype=torch.float64)


def place_of(sigma: float) -> int:
    """The place of a level: -log2 sigma in parts of an octave."""
    return round(-math.log2(sigma) * CELLS)


def clock(place: int) -> float:
    """v at a place."""
    return math.pow(4.0, place / CELLS)


class Noise:
    """The noise of a plan's calls, by call or by level as its table says.

    Args:
        coefficients: The table, shared or of these rows.
        seed, indices, shape: As for :func:`sigmatune.core.rng.noise`.
    """

    def __init__(self, coefficients: Coefficients, seed: int, indices: Sequence[int], shape: Sequence[int]) -> None:
        self.seed, self.indices, self.shape = seed, list(indices), tuple(shape)
        self.levels: list[list[float]] = []
        self.paths: list[BrownianPath] = []
        if coefficients.by_level and not coefficients.deterministic:
            rows = [self.indices] if coefficients.rows is None else [[index] for index in self.indices]
            self.paths = [BrownianPath(seed, row, shape) for row in rows]
            q = coefficients.q.detach()
            self.levels = (q if coefficients.rows is not None else q.unsqueeze(0)).tolist()

    def __call__(self, call: int, channel: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The noise that call 0..K-1 adds, or the start noise for -1, (rows, *shape), on the CPU.

        Raises:
            SigmaTuneError: by level, if the call's step does not go down to a positive level.
        """
        if not self.paths or call < 0:
            return rng.noise(self.seed, self.indices, call + 1, self.shape, channel=channel, dtype=dtype)
        drawn = [
            path.between(levels[call], levels[call + 1] if call + 1 < len(levels) else 0.0, channel=channel)
            for path, levels in zip(self.paths, self.levels, strict=True)
        ]
        return torch.cat(drawn).to(dtype)


def unseeded(coefficients: Coefficients, seed: int | None) -> bool:
    """Whether another program draws the noise, because there is no seed.

    Raises:
        SigmaTuneError: if the noise is by level, which follows a seed.
    """
    if seed is None and coefficients.by_level and not coefficients.deterministic:
        raise SigmaTuneError("noise by level follows a seed, not the program's generator; pass seed=.")
    return seed is None
