r"""A schedule says where to stop: :math:`\sigma_0 > \sigma_1 > \dots > \sigma_N = 0`.

It has N **steps** and N + 1 **points**. Only the first point may be infinite (pure noise); the last is an explicit 0.
A schedule with a row axis, (R, N + 1), holds one grid per sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from sigmatune.noise import Array, NoisePath, close
from sigmatune.support import card
from sigmatune.support.errors import SigmaTuneError, shown

MOST_STEPS = 10_000
"""More steps than any sampler takes, and few enough for every family to be computed and written down at once."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """An immutable, validated grid of noise levels with its provenance.

    Args:
        sigmas: Noise levels, descending, (N + 1,) or (R, N + 1), float64, ending in 0.
        family: The family that made it, or ``"given"``.
        options: The family's options, JSON-ready.

    Raises:
        SigmaTuneError: if there are fewer than two points, a NaN or negative level, a level that does not fall
            strictly, an infinite level other than the first, or no 0 at the end; nothing is repaired.
    """

    sigmas: Array
    family: str = "given"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            sigmas = np.array(self.sigmas, dtype=np.float64)
        except (TypeError, ValueError):
            raise SigmaTuneError("sigmas must be numbers, one list or one list per row, all of one length.") from None
        validate(sigmas)
        sigmas.flags.writeable = False
        object.__setattr__(self, "sigmas", sigmas)
        object.__setattr__(self, "options", dict(self.options))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        same = self.family == other.family and self.options == other.options
        return bool(same and np.array_equal(self.sigmas, other.sigmas))

    def __hash__(self) -> int:
        return hash((self.sigmas.tobytes(), self.family))

    def __repr__(self) -> str:
        return f"Schedule({card.line(family_of(self))}, {card.count(self.steps, 'step')}: {levels_of(self)})"

    def _repr_html_(self) -> str:
        """The card that a notebook shows."""
        facts = {"family": family_of(self), "rows": rows_of(self), "sigmas": levels_of(self)}
        return card.card(f"Schedule: {card.count(self.steps, 'step')}", drawing_of(self), facts)

    @property
    def steps(self) -> int:
        """N."""
        return self.points - 1

    @property
    def points(self) -> int:
        """N + 1."""
        return int(self.sigmas.shape[-1])

    @property
    def rows(self) -> int | None:
        """R for a schedule with one grid per row, None for a shared one."""
        return int(self.sigmas.shape[0]) if self.sigmas.ndim == 2 else None

    def bound(self, path: NoisePath) -> Schedule:
        """Returns the schedule itself if all its positive levels lie inside a model's range.

        Raises:
            SigmaTuneError: naming the first level that is outside.
        """
        path.check(self.sigmas[..., :-1])
        return self

    def resample(self, steps: int) -> Schedule:
        r"""Resamples the same curve at another number of steps, keeping both ends; the identity at the same number.

        The curve is the monotone cubic through :math:`\log \sigma` (through :math:`\log \tau`,
        :math:`\tau = \sigma / (1 + \sigma)`, when the first level is infinite) over the relative position.

        Raises:
            SigmaTuneError: for fewer than one step, or from one step to more (one level is not a curve).
        """
        steps = whole(steps, "steps")
        if steps == self.steps:
            return self
        if self.steps == 1:
            raise SigmaTuneError(
                f"a schedule of one step holds a single level and cannot be resampled to {steps} steps."
            )
        levels = self._curve(np.linspace(0, 1, steps) if steps > 1 else np.zeros(1))
        levels[..., 0] = self.sigmas[..., 0]
        if steps > 1:
            levels[..., -1] = self.sigmas[..., -2]
        return self.moved(levels, "resampled", steps=steps)

    def partial(self, sigma: float, steps: int | None = None) -> Schedule:
        """Starts at a given noise level instead of the first: the denoising strength as a noise level.

        Args:
            sigma: Where to start, above the last positive level and not above the first.
            steps: How many steps to take; by default the levels below ``sigma`` are kept.

        Raises:
            SigmaTuneError: if sigma is outside, or the schedule has one grid per row.
        """
        if self.rows is not None:
            raise SigmaTuneError("partial() needs a shared schedule, not one grid per row.")
        low, high = float(self.sigmas[-2]), float(self.sigmas[0])
        known = min(max(sigma, low), high)
        if not close(sigma, known):
            raise SigmaTuneError(f"the starting level {sigma:.6g} must lie in [{low:.6g}, {high:.6g}].")
        sigma = known
        steps = None if steps is None else whole(steps, "steps")
        if steps is None:
            levels = np.concatenate([[sigma], self.sigmas[:-1][self.sigmas[:-1] < sigma]])
        elif steps > 1 and sigma == low:
            raise SigmaTuneError(f"only one step is left at the last level, {low:.6g}; ask for one step.")
        else:
            levels = self._curve(np.linspace(self._share_of(sigma), 1, steps)) if steps > 1 else np.zeros(1)
            levels[0] = sigma
            if steps > 1:
                levels[-1] = low
        return self.moved(levels, "partial", sigma=float(sigma) if np.isfinite(sigma) else "inf")

    def moved(self, levels: Array, how: str, **options: Any) -> Schedule:
        """Returns a schedule with other positive levels, (..., N), whose provenance names this one."""
        zero = np.zeros((*levels.shape[:-1], 1))
        of = {"family": self.family, **self.options}
        return replace(self, sigmas=np.concatenate([levels, zero], axis=-1), family=how, options={**options, "of": of})

    def _coordinate(self) -> tuple[Array, bool]:
        """The ordinate in which the curve is interpolated, and whether it is log tau (else log sigma)."""
        levels = self.sigmas[..., :-1]
        bounded = bool(np.isinf(levels).any())
        with np.errstate(divide="ignore"):
            return (-np.log1p(1 / levels) if bounded else np.log(levels)), bounded

    def _curve(self, share: Array) -> Array:
        y, bounded = self._coordinate()
        y = PchipInterpolator(np.linspace(0, 1, self.steps), y, axis=-1)(share)
        with np.errstate(divide="ignore"):
            return np.asarray(1 / np.expm1(-y) if bounded else np.exp(y))

    def _share_of(self, sigma: float) -> float:
        from scipy.optimize import brentq

        y, bounded = self._coordinate()
        curve = PchipInterpolator(np.linspace(0, 1, self.steps), y)
        with np.errstate(divide="ignore"):
            target = -np.log1p(1 / np.float64(sigma)) if bounded else np.log(sigma)
        if target >= y[0]:
            return 0.0
        if target <= curve(1):  # the last level, up to roundoff
            return 1.0
        return float(brentq(lambda v: float(curve(v)) - target, 0, 1, xtol=1e-15))


def family_of(schedule: Schedule) -> str:
    """The family with its options, in brief."""
    return f"{schedule.family} {card.options(schedule.options)}".strip()


def rows_of(schedule: Schedule) -> str | None:
    """The number of rows and of drawn rows; None for a shared schedule."""
    return None if schedule.rows is None else f"{schedule.rows:,}, {min(schedule.rows, card.CURVES)} of them drawn"


def levels_of(schedule: Schedule) -> str:
    """The levels in brief; with one grid per row, those of the first row."""
    several = f"the first of {schedule.rows} rows " if schedule.rows is not None else ""
    return several + card.numbers(np.atleast_2d(schedule.sigmas)[0], most=10)


def drawing_of(schedule: Schedule) -> str:
    """The levels over the steps on a logarithmic axis, as inline SVG, one curve per row."""
    step = np.arange(schedule.points, dtype=np.float64)
    rows = [(step, row) for row in np.atleast_2d(schedule.sigmas)]
    return card.drawing(rows, x="step", y="sigma", says=f"sigma by step: {levels_of(schedule)}")


def validate(sigmas: npt.NDArray[np.float64]) -> None:
    """Raises SigmaTuneError, in one sentence, for anything that is not a schedule; see :class:`Schedule`."""
    if sigmas.ndim not in (1, 2) or sigmas.shape[-1] < 2 or sigmas.size == 0:
        raise SigmaTuneError(
            f"a schedule needs at least two points, one level and the final 0, not shape {sigmas.shape}."
        )
    if np.isnan(sigmas).any():
        raise SigmaTuneError("a sigma is NaN; every level must be a number.")
    if (sigmas < 0).any():
        raise SigmaTuneError(f"sigma {sigmas[sigmas < 0][0]:.6g} is negative; noise levels are positive and end in 0.")
    if (sigmas[..., -1] != 0).any():
        raise SigmaTuneError(
            f"the last sigma is {sigmas[..., -1].max():.6g}; a schedule ends in an explicit 0, so append it."
        )
    if np.isinf(sigmas[..., 1:]).any():
        raise SigmaTuneError("only the first sigma may be infinite.")
    falls = sigmas[..., 1:] < sigmas[..., :-1]
    if not falls.all():
        first = tuple(np.argwhere(~falls)[0])
        high, low = sigmas[..., :-1][first], sigmas[..., 1:][first]
        problem = "appears twice" if high == low else f"is followed by the larger {low:.6g}"
        raise SigmaTuneError(f"sigma {high:.6g} {problem}; the levels must fall strictly.")


def whole(value: Any, name: str, *, most: int | None = None) -> int:
    """Returns a whole number of at least 1, and at most ``most`` if that is given.

    Raises:
        SigmaTuneError: otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise SigmaTuneError(f"{name} must be a whole number of at least 1, not {shown(value)}.")
    if most is not None and value > most:
        raise SigmaTuneError(f"{name} must be a whole number of at most {most:,}, not {shown(value)}.")
    return int(value)
