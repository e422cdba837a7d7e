"""What a schedule family is: a pure function from a number of steps and a noise path to the positive levels.

A family file holds one such function (or a few that share their mathematics) and one :class:`Family` record for it; a
line in the registry of :mod:`sigmatune.schedules` makes it known, and the law tests, which walk the registry, cover it
at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.support.options import full_options, known_options, plain

ENDS = ("sigma_min", "sigma_max")


@dataclass(frozen=True)
class Family:
    """Describes a schedule family and its guarantees.

    Args:
        name: Its name in the registry.
        build: ``build(steps, path, *, option=default, ...)`` returns the N positive levels, descending, float64.
        description: One line for lists of families.
        starts: The first level is sigma_max; with a single step it is for every family.
        ends: For N >= 2, the last positive level is sigma_min.
        finite: It needs a finite sigma_max.
        tight: Its ends come from the data and lie inside the path's range. Given ends narrow the path as for every
            family and are also passed to ``build``, as ``sigma_min`` and ``sigma_max``, to be reached exactly.
        published: The options with which it stands in the fixed list of static defaults that a tuned plan has to beat;
            empty for a family that is not in the list.
    """

    name: str
    build: Callable[..., Array]
    description: str
    starts: bool = True
    ends: bool = True
    finite: bool = False
    tight: bool = False
    published: tuple[Mapping[str, float], ...] = ()

    @property
    def defaults(self) -> dict[str, Any]:
        """The family's options with their default values."""
        return known_options(self.build, without=ENDS)

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Completes options with the defaults; arrays become lists, as JSON has them.

        Raises:
            SigmaTuneError: for an unknown option, with the nearest known one, or one that is not a finite number.
        """
        full = full_options(self.name, self.defaults, given, also=ENDS)
        return {name: plain(value) for name, value in full.items()}

    def defined_on(self, path: NoisePath) -> bool:
        """Whether the family has a curve on a path."""
        return not (self.finite and np.isinf(path.sigma_max))
