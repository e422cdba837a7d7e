"""The amount of work in tuning: how many noises of each kind, which index ranges, and how many rows per network call."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from sigmatune.core.schedule import MOST_STEPS, whole
from sigmatune.plan import MICRO_BATCH, MOST_ROWS
from sigmatune.support.errors import SigmaTuneError, check_kind, shown

Split = Literal["tuning", "validation", "held_out"]
SPLITS: tuple[Split, ...] = ("tuning", "validation", "held_out")

PER_CALL = 2**23
"""Numbers in the rows of one network call if their count is not set: 16 rows of 3 x 256 x 256, 2 of 3 x 1024 x 1024."""


@dataclass(frozen=True)
class TuningSettings:
    """The amount of work in tuning.

    Attributes:
        tuning, validation, held_out: Noises (rows) of each kind; their index ranges follow one another.
        evaluations: Most plans that one stage tries on the tuning noises, besides its starts.
        reference_steps: Steps of the first reference; the guard doubles it until it has converged.
        micro_batch: Rows per network call; 0, the default, for 16, or fewer that have :data:`PER_CALL` numbers together
            or leave fewer rows empty (:meth:`of`).
        seed: Seed of the noises, the search and the bootstrap.
    """

    tuning: int = 48
    validation: int = 48
    held_out: int = 96
    evaluations: int = 60
    reference_steps: int = 48
    micro_batch: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tuning", "validation", "held_out", "evaluations"):
            whole(getattr(self, name), name, most=MOST_ROWS)
        whole(self.reference_steps, "reference_steps", most=MOST_STEPS)
        if self.micro_batch != 0:
            whole(self.micro_batch, "micro_batch", most=MOST_ROWS)
        if not isinstance(self.seed, int | np.integer) or not 0 <= self.seed < 2**64:
            raise SigmaTuneError(f"the seed must be a whole number in [0, 2^64), not {shown(self.seed)}.")
        for field in fields(self):  # numpy's numbers could not be written to a file
            object.__setattr__(self, field.name, int(getattr(self, field.name)))
        if self.held_out < 8:
            raise SigmaTuneError(f"the guard needs at least 8 held-out noises, not {self.held_out}.")

    @classmethod
    def chosen(cls, given: TuningSettings | None, default: TuningSettings) -> TuningSettings:
        """The settings that were given, or the default.

        Raises:
            SigmaTuneError: if they are anything else.
        """
        if given is None:
            return default
        check_kind(given, cls, "settings must be TuningSettings, such as TuningSettings(tuning=16)")
        return given

    def of(self, shape: tuple[int, ...]) -> TuningSettings:
        """The same with the rows per network call for images of a shape, if their number was not set.

        Rows that fill up the last call of a split cost as much as others, so of the sizes from half of the most to the most
        it is the one with the fewest of them.
        """
        if self.micro_batch:
            return self
        most = max(min(MICRO_BATCH, PER_CALL // int(np.prod(shape))), 1)
        sizes = range(most, (most + 1) // 2 - 1, -1)
        return replace(self, micro_batch=min(sizes, key=lambda size: sum(-len(self.rows(s)) % size for s in SPLITS)))

    def rows(self, split: Split) -> range:
        """The noise indices of a split."""
        first = {"tuning": 0, "validation": self.tuning, "held_out": self.tuning + self.validation}[split]
        return range(first, first + int(getattr(self, split)))
