"""Which stored numbers are black and white: known from the dtype, recognised, or given by ``values``.

============ ==========================================================================================================
bool         0 and 1
uint8        0 and 255, even if no value exceeds 1
uint16       0 and 65535; an array without a number above 255 is refused, because it most likely holds 8 bits
floating     0..1 if all numbers lie there; else -1..1 if they do; else 0..255 if none is negative and the largest is above
             16. Half a step of 8 bits beyond the ends is rounding. Anything else, and an array of a single value, is refused
other whole  refused; values can state 0..1, 0..255 or 0..65535
============ ==========================================================================================================

All numbers of a source decide together, never a batch. A given range applies, but is refused if a number lies beyond
its ends by more than half its width: then the data have another range. For bool, uint8 and uint16 it is not refused; the
kind of number decides where the given range cannot be true, because two compared sources may be stored differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch

from sigmatune.support.errors import SigmaTuneError

Values = Literal["auto", "0..1", "-1..1", "0..255", "0..65535", "as-is"]
Ends = tuple[float, float]

RANGES: dict[str, Ends] = {"0..1": (0, 1), "-1..1": (-1, 1), "0..255": (0, 255), "0..65535": (0, 65535)}
BY_TYPE = {"bool": "0..1", "uint8": "0..255", "uint16": "0..65535"}
HALF = 0.5 / 255
"""Half a step of 8 bits, as a share of the range: what rounding may add to the ends."""

DARK = 16
"""Largest number up to which numbers from 0 are not taken for 0..255: they could be features, or 0..1 with overshoot."""


@dataclass(frozen=True, eq=False)
class Scale:
    """The values of black and white in one source, determined once, when the first batch is read.

    Args:
        values: The given range.
        name: Of the source, for messages.
        limits: Finds the least and the largest number of all.
        files: Each file's format states its bits, so dark images are accepted.
    """

    values: Values
    name: str
    limits: Callable[[], Ends]
    files: bool = False
    _known: dict[str, str] = field(default_factory=dict)

    def of(self, dtype: np.dtype[Any]) -> Ends | None:
        """Black and white of numbers of a kind; None for numbers that are taken as they are.

        Raises:
            SigmaTuneError: if they are unclear; the message says what to pass.
        """
        kind = np.dtype(dtype).name
        if kind not in self._known:
            self._known[kind] = self._found(np.dtype(dtype))
        return RANGES.get(self._known[kind])

    @property
    def used(self) -> str:
        """What was used so far, for records."""
        return ", ".join(sorted(set(self._known.values())))

    def check(self, dtype: np.dtype[Any]) -> None:
        """Refuses dtypes that images never have, before anything is read."""
        by_type = np.dtype(dtype).name in BY_TYPE or dtype.kind == "f"
        if dtype.kind not in "biuf" or (not by_type and self.values in ("auto", "as-is")):
            raise SigmaTuneError(
                f"{self.name} holds {dtype}; images are bool, uint8, uint16 or floating point: convert it, or state "
                "the range of integers with values '0..255', '0..65535' or '0..1'."
            )

    def _found(self, dtype: np.dtype[Any]) -> str:
        self.check(dtype)
        if self.values in RANGES and not self._belied(dtype):
            return self.values
        if dtype.kind == "f":
            return "as-is" if self.values == "as-is" else recognised(*self.limits(), self.name)
        if dtype.name == "uint16" and self.values == "auto" and not self.files and (top := self.limits()[1]) <= 255:
            raise SigmaTuneError(
                f"{self.name} holds uint16 and nothing above {top:.0f}, which is nearly black in 16 bits; pass values "
                "'0..255' if it has 8 bits, or '0..65535'."
            )
        return BY_TYPE[dtype.name]

    def _belied(self, dtype: np.dtype[Any]) -> bool:
        """Whether numbers whose kind says their range cannot have the one that was said."""
        by_type, ends = BY_TYPE.get(dtype.name), RANGES[self.values]
        if by_type in (None, self.values):
            return False
        return ends[0] < 0 or ends[1] > RANGES[by_type][1] or far(*self.limits(), ends) is not None


def checked(values: str) -> Values:
    """Returns the given range if it is a known one.

    Raises:
        SigmaTuneError: otherwise.
    """
    if values not in get_args(Values):
        raise SigmaTuneError(f"values must be one of {', '.join(get_args(Values))}, not {values!r}.")
    return values  # type: ignore[return-value]


def recognised(low: float, high: float, name: str) -> str:
    """The range of floating-point images with this least and this largest number.

    Raises:
        SigmaTuneError: if the range is unclear.
    """
    say = "pass values, or 'as-is' for data that is not an image"
    if low == high:
        raise SigmaTuneError(f"{name} holds nothing but {low:.4g}, which does not reveal its range; {say}.")
    for known in ("0..1", "-1..1", "0..255"):
        black, white = RANGES[known]
        slack = HALF * (white - black)
        if low >= black - slack and (DARK if known == "0..255" else -np.inf) < high <= white + slack:
            return known
    raise SigmaTuneError(f"{name} holds {low:.4g} to {high:.4g}, which is neither 0..1, -1..1 nor 0..255; {say}.")


def far(low: float, high: float, ends: Ends) -> float | None:
    """A number that lies far outside a range; None if there is none."""
    slack = (ends[1] - ends[0]) / 2
    return low if low < ends[0] - slack else high if high > ends[1] + slack else None


def limits_of(values: torch.Tensor) -> Ends:
    """The least and the largest number."""
    return float(values.min()), float(values.max())
