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

from sigmatune.noise import Array, Flow, NoisePath
from sigmatune.noise.around import Around
from sigmatune.support.options import full_options, known_options, plain

ENDS = ("sigma_min", "sigma_max")

INTERFACE_ENDS: tuple[Mapping[str, float], ...] = (
    {"sigma_min": 0.0291675, "sigma_max": 14.614642},
    {"sigma_min": 0.1, "sigma_max": 10.0},
)
"""The ends between which user interfaces lay curves in sigma whatever the model: those of ComfyUI's nodes KarrasScheduler and
ExponentialScheduler (Stable Diffusion's range), and those of AUTOMATIC1111's option ``use_old_karras_scheduler_sigmas``."""


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
        flow: It is a curve in the time of flow models, and is defined for these alone.
        tight: Its ends come from the data and lie inside the path's range. Given ends narrow the path as for every
            family and are also passed to ``build``, as ``sigma_min`` and ``sigma_max``, to be reached exactly.
        published: The options, ends included, with which it stands in the fixed list of static defaults that a tuned plan
            has to beat; empty for a family that is not in the list.
    """

    name: str
    build: Callable[..., Array]
    description: str
    starts: bool = True
    ends: bool = True
    finite: bool = False
    flow: bool = False
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
        return not (self.finite and np.isinf(path.sigma_max)) and (is_flow(path) or not self.flow)


def is_flow(path: NoisePath) -> bool:
    """Whether a path is that of a flow model, or a part of one."""
    while isinstance(path, Around):
        path = path.inner
    return isinstance(path, Flow)
