r"""Levels that nearly touch: two network calls that ask almost the same question.

A search on few noises may leave two neighbours so close that the second call adds little, which fits the noises and not the
model. Two levels touch if their gap in log sigma is less than :data:`TOUCHING` of the plan's mean gap: then a plan of one step
fewer has, on average, smaller gaps everywhere else. :func:`spaced` proposes plans without such a pair,

- *apart*: gaps below that bound become as wide as it, and the others shrink in proportion, so that the ends stay;
- *moved*: the pair becomes one level in its middle, and the call that is saved goes to the middle of the widest gap.

:mod:`~sigmatune.tuning.climb` returns the better of the two on the validation noises, unless the levels that touch are
significantly better there.
"""

from __future__ import annotations

import numpy as np

from sigmatune.core.schedule import Schedule
from sigmatune.noise import Array

TOUCHING = 0.4
"""Share of the mean gap in log sigma below which two neighbours touch."""


def touching(schedule: Schedule) -> bool:
    """Whether two neighbouring levels nearly touch."""
    return _least(_finite(schedule)) > 0


def spaced(schedule: Schedule) -> list[Schedule]:
    """Schedules of the same solver steps and ends without levels that touch; none if there are no such levels."""
    y = _finite(schedule)
    if not _least(y):
        return []
    head = schedule.sigmas[: schedule.steps - len(y)]
    schedules = []
    for kind, levels in (("apart", _apart(y)), ("moved", _moved(y))):
        inner = np.exp(levels)
        inner[0], inner[-1] = schedule.sigmas[len(head)], schedule.sigmas[-2]  # the ends, to the bit
        if not _least(np.log(inner)):
            schedules.append(
                Schedule(np.concatenate([head, inner, [0.0]]), "spaced", {"of": schedule.family, "how": kind})
            )
    return schedules


def _finite(schedule: Schedule) -> Array:
    """The logarithms of the positive and finite levels, descending."""
    sigmas = schedule.sigmas[:-1]
    return np.log(sigmas[np.isfinite(sigmas)])


def _least(y: Array) -> float:
    """The gap that no two neighbours may fall below, if some do; 0 if none does."""
    if len(y) < 3:
        return 0.0
    gaps = -np.diff(y)
    least = TOUCHING * float(gaps.mean())
    return least if gaps.min() < least * (1 - 1e-9) else 0.0


def _apart(y: Array) -> Array:
    """The same ends with all gaps at least as wide as the least one."""
    gaps, least = -np.diff(y), _least(y)
    narrow = gaps < least
    while True:  # shrinking the others may make one of them narrow
        room = y[0] - y[-1] - least * narrow.sum()
        shrunk = np.where(narrow, least, gaps * room / gaps[~narrow].sum())
        more = shrunk < least * (1 - 1e-12)
        if not more.any():
            return np.asarray(y[0] - np.concatenate([[0.0], shrunk.cumsum()]))
        narrow |= more


def _moved(y: Array) -> Array:
    """Every pair that touches as one level, and a new one in the middle of the widest gap; an end stays where it is."""
    for _ in range(len(y)):
        if not _least(y):
            break
        i = int(np.argmin(-np.diff(y)))
        middle = y[0] if i == 0 else y[-1] if i + 2 == len(y) else (y[i] + y[i + 1]) / 2
        y = np.concatenate([y[:i], [middle], y[i + 2 :]])
        widest = int(np.argmax(-np.diff(y)))
        y = np.insert(y, widest + 1, (y[widest] + y[widest + 1]) / 2)
    return y
