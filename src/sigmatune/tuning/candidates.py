"""What tuning starts from: the static families over their useful parameters."""

from __future__ import annotations

from typing import Any

from sigmatune import schedules
from sigmatune.errors import SigmaTuneError
from sigmatune.noise import NoisePath
from sigmatune.schedule import Schedule

GRID: dict[str, list[dict[str, Any]]] = {
    "uniform-linspace": [{}],
    "uniform-trailing": [{}],
    "karras": [{"rho": rho} for rho in (2.0, 3.0, 5.0, 7.0, 10.0)],
    "log-uniform": [{}],
    "kl-optimal": [{"c": c} for c in (0.25, 0.5, 1.0, 2.0)],
    "shifted-cosine": [{"shift": shift} for shift in (0.5, 1.0, 2.0)],
    "beta": [{"a": a, "b": a} for a in (0.4, 0.5, 0.6, 0.8)] + [{"a": 0.6, "b": 0.8}],
    "beta-open": [{"a": 0.6, "b": 0.6}],
}
CEILINGS = (80.0, 20.0)
"""Starts below the model's own sigma_max that are tried as well, for the families that are curves in sigma."""


def static(steps: int, path: NoisePath) -> list[Schedule]:
    """Builds every static candidate that is defined on a path with this many steps."""
    found = []
    for family, choices in GRID.items():
        for options in choices:
            tops: list[dict[str, Any]] = [{}]
            if family in ("karras", "kl-optimal", "log-uniform"):
                tops += [{"sigma_max": top} for top in CEILINGS if top < path.sigma_max]
            for top in tops:
                try:
                    found.append(schedules.build(family, steps, path, **options, **top))
                except SigmaTuneError:
                    continue
    return found
