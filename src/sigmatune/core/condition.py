"""What rows are conditioned on: one value for all rows, or one for each row by its index in the noise.

Row i has entry i modulo their number, unless the rows were conditioned separately. During tuning, the ranges of rows for
tuning, validation and the final test draw from disjoint ranges of entries (:meth:`Condition.split`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from sigmatune.support.errors import SigmaTuneError

Values = TypeVar("Values", bound=tuple[Any, ...] | torch.Tensor)


@dataclass(frozen=True, eq=False)
class Condition(Generic[Values]):
    """The condition of every row.

    Attributes:
        values: The entries: a tuple, or a tensor (R, ...).
        parts: Ranges of rows, each with the range of entries that it draws from, so that tuning uses disjoint entries.
        places: The entry of each row instead, if rows were conditioned separately.
    """

    values: Values
    parts: tuple[tuple[range, range], ...] = ()
    places: Mapping[int, int] = field(default_factory=dict)

    @property
    def shared(self) -> bool:
        """Whether all rows have the same."""
        return len(self.values) == 1 and not self.places

    def rows(self, indices: Sequence[int] | None, batch: int) -> Values:
        """The values of the rows of a batch; padding rows have that of the first row.

        Args:
            indices: The rows' indices in the noise; None if none were selected.
            batch: The number of rows, padding included.

        Raises:
            SigmaTuneError: if rows differ and none were selected, or a row has no condition.
        """
        if self.shared:
            return self._at([0] * batch)
        if indices is None or len(indices) > batch:
            raise SigmaTuneError("this model has a condition for each row; select rows with rows().")
        places = [self.place(index) for index in indices]
        return self._at([*places, *places[:1] * (batch - len(places))])

    def place(self, index: int) -> int:
        """The entry of a row.

        Raises:
            SigmaTuneError: if it has none.
        """
        if self.places:
            if index not in self.places:
                raise SigmaTuneError(f"this model has no condition for row {index}.")
            return self.places[index]
        for part, entries in self.parts:
            if index in part:
                return entries[(index - part.start) % len(entries)]
        return index % len(self.values)

    def split(
        self, parts: Mapping[str, range], kind: str = "labels", hint: str = "or one for all"
    ) -> tuple[Condition[Values], dict[str, dict[str, int]]]:
        """Shares the entries among ranges of rows, in proportion to their lengths.

        Args:
            parts: Ranges of indices by name.
            kind: What the entries are, for the message.
            hint: What to give instead, for the message.

        Returns:
            The condition, and the number of entries of each range for records.

        Raises:
            SigmaTuneError: if there are fewer entries than ranges.
        """
        count = len(self.values)
        if count < len(parts):
            raise SigmaTuneError(
                f"{', '.join(name.replace('_', '-') for name in parts)} must use different {kind}, so give at "
                f"least {len(parts)} different ones, {hint}, not {count}."
            )
        sizes = shares(count, [len(part) for part in parts.values()])
        edges = np.cumsum([0, *sizes]).tolist()
        ranges = [range(a, b) for a, b in pairwise(edges)]
        divided = replace(self, parts=tuple(zip(parts.values(), ranges, strict=True)))
        return divided, {"conditions": dict(zip(parts, sizes, strict=True))}

    def _at(self, places: list[int]) -> Values:
        values: Any = self.values
        if isinstance(values, tuple):
            picked: Any = tuple(values[place] for place in places)
        elif self.shared:  # without a copy for each row
            picked = values.expand(len(places), *values.shape[1:])
        else:
            picked = values[places]
        return picked  # type: ignore[no-any-return]


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """Integers of at least 1 that sum to a total, as close to the weights as possible."""
    sizes = [1] * len(weights)
    for _ in range(total - len(weights)):
        short = [weight * total / sum(weights) - size for weight, size in zip(weights, sizes, strict=True)]
        sizes[int(np.argmax(short))] += 1
    return sizes
