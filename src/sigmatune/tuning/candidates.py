"""The starting points of tuning: the published defaults and the static families over their useful parameters.

Curves in sigma are tried between several ends, because few steps cannot afford the model's whole range. Instead of all
combinations, the search finds the ends one after the other: the first level by log-uniform alone, then the last level,
then the other families between the best ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from sigmatune import schedules
from sigmatune.core.schedule import Schedule
from sigmatune.core.table import digits
from sigmatune.noise import NoisePath
from sigmatune.support.errors import SigmaTuneError

WHOLE: dict[str, list[dict[str, Any]]] = {
    "uniform-leading": [{}],
    "shifted-cosine": [{}],
    "beta": [{"a": 0.8, "b": 0.8}],
    "beta-open": [{"a": 0.6, "b": 0.6}],
}
"""Families over the model's whole range, besides the published defaults."""

NARROWED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("log-uniform", {}),
    ("karras", {"rho": 5.0}),
    ("kl-optimal", {"c": 0.5}),
)
"""Curves in sigma; the first one searches for the ends."""

FIRST = (None, 40.0, 15.0, 6.0, 3.0)
LAST = (0.05, None, 0.2)
"""Ends to try, None for the model's own; the search for the first level uses the first of the last levels."""

KEPT = 2
"""How many ends reach the next stage."""

Choice = tuple[str, Mapping[str, Any]]


def rank(
    steps: int,
    path: NoisePath,
    scores: Callable[[list[Schedule]], list[float]],
    default: Choice | None = None,
) -> list[Schedule]:
    """Measures the static candidates that are defined on a path with this many steps; best first, each once.

    Args:
        steps: N.
        path: The model's noise path.
        scores: What to minimise, for several schedules at once; sees each distinct candidate once, at most :func:`most`.
        default: The model's own default and its options; the published defaults are candidates too.
    """
    measured: dict[bytes, tuple[float, Schedule, Choice]] = {}

    def best(choices: Sequence[Choice]) -> list[Choice]:
        """The best of the choices that exist, at most KEPT."""
        built = [(choice, _built(steps, path, choice)) for choice in choices]
        keyed = [(digits(schedule.sigmas), schedule, choice) for choice, schedule in built if schedule is not None]
        fresh = {key: (schedule, choice) for key, schedule, choice in reversed(keyed) if key not in measured}
        values = scores([schedule for schedule, _ in fresh.values()])
        measured.update({key: (value, *entry) for (key, entry), value in zip(fresh.items(), values, strict=True)})
        ranked = sorted(keyed, key=lambda entry: measured[entry[0]][0])
        return [choice for _, _, choice in ranked[:KEPT]]

    best(_whole(path, default))
    (probe, options), *others = NARROWED
    middle, *others_last = (last for last in LAST if last is None or last > path.sigma_min)
    firsts = best([(probe, {**options, **_ends(first, middle)}) for first in FIRST])
    lasts = [
        (probe, {**options, **_ends(chosen.get("sigma_max"), last)})
        for (_, chosen), last in product(firsts, others_last)
    ]
    ends = best([*firsts, *lasts])
    best([(family, {**settings, **dict(chosen)}) for (family, settings), (_, chosen) in product(others, ends)])
    return [schedule for _, schedule, _ in sorted(measured.values(), key=lambda entry: entry[0])]


def most(path: NoisePath, default: Choice | None = None) -> int:
    """The most candidates that :func:`rank` measures."""
    return len(_whole(path, default)) + len(FIRST) + KEPT * (len(LAST) + len(NARROWED) - 2)


def _whole(path: NoisePath, default: Choice | None) -> list[Choice]:
    published = [(family, options) for _, family, options in schedules.defaults(path, default)]
    return [*published, *((family, options) for family, choices in WHOLE.items() for options in choices)]


def _ends(first: float | None, last: float | None) -> dict[str, float]:
    return {name: value for name, value in (("sigma_max", first), ("sigma_min", last)) if value is not None}


def _built(steps: int, path: NoisePath, choice: Choice) -> Schedule | None:
    family, options = choice
    try:
        return schedules.build(family, steps, path, **options)
    except SigmaTuneError:  # not defined here: an end outside the range, an infinite start, too many steps
        return None
