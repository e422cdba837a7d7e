"""What tuning starts from: the static families over their useful parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigmatune import schedules
from sigmatune.errors import SigmaTuneError
from sigmatune.noise import NoisePath
from sigmatune.schedule import Schedule

WHOLE: dict[str, list[dict[str, Any]]] = {
    "uniform-leading": [{}],
    "shifted-cosine": [{"shift": shift} for shift in (0.5, 1.0, 2.0)],
    "beta": [{"a": a, "b": b} for a, b in ((0.4, 0.4), (0.8, 0.8), (0.6, 0.8))],
    "beta-open": [{"a": 0.6, "b": 0.6}],
}
"""Families over the model's whole range, besides the published defaults."""

NARROWED: dict[str, dict[str, Any]] = {"log-uniform": {}, "karras": {"rho": 5.0}, "kl-optimal": {"c": 0.5}}
FIRST = (None, 40.0, 15.0, 6.0, 3.0)
LAST = (None, 0.05, 0.2)
"""Curves in sigma, which are tried between all pairs of these ends: few steps cannot afford the model's whole range."""


def static(steps: int, path: NoisePath, default: tuple[str, Mapping[str, float]] | None = None) -> list[Schedule]:
    """Builds every static candidate that is defined on a path with this many steps, without repetition.

    Args:
        steps: N.
        path: The model's noise path.
        default: The model's own default and its options; the published defaults are candidates too.
    """
    wanted: list[tuple[str, dict[str, Any]]] = [
        (family, options) for _, family, options in schedules.defaults(path, default)
    ]
    wanted += [(family, options) for family, choices in WHOLE.items() for options in choices]
    for family, options in NARROWED.items():
        for first in FIRST:
            for last in LAST:
                ends = {"sigma_max": first, "sigma_min": last}
                wanted.append((family, {**options, **{k: v for k, v in ends.items() if v is not None}}))
    found: dict[bytes, Schedule] = {}
    for family, options in wanted:
        try:
            schedule = schedules.build(family, steps, path, **options)
        except SigmaTuneError:  # not defined here: an end outside the range, an infinite start, too many steps
            continue
        found.setdefault(schedule.sigmas.tobytes(), schedule)
    return list(found.values())
