r"""Schedule families: where to stop, by formula.

A family turns a number of steps N and a noise path into the N positive noise levels :math:`\sigma_0 > \dots >
\sigma_{N-1} > 0`; :func:`build` appends the final 0, checks the result against the path's range and records its
provenance.

>>> from sigmatune.noise import VE
>>> build("karras", 3, VE()).sigmas.round(4).tolist()
[80.0, 2.5152, 0.002, 0.0]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sigmatune.core.schedule import Schedule, whole
from sigmatune.noise import Array, Narrowed, NoisePath
from sigmatune.schedules import (
    beta,
    karras,
    kl_optimal,
    log_uniform,
    measured,
    phase_time,
    shifted_cosine,
    spectral,
    uniform,
)
from sigmatune.schedules.base import Family
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import number
from sigmatune.support.registry import Registry

MOST_STEPS = 10_000
"""More steps than any sampler takes, and few enough for every family to be computed and written down at once."""

_ALL = (
    uniform.TRAILING,
    uniform.LINSPACE,
    uniform.LEADING,
    karras.FAMILY,
    log_uniform.FAMILY,
    kl_optimal.FAMILY,
    shifted_cosine.FAMILY,
    beta.INCLUSIVE,
    beta.OPEN,
    measured.FAMILY,
    spectral.FREQUENCY,
    spectral.POWER,
    spectral.MIXED,
    phase_time.FAMILY,
)

FAMILIES: Registry[Family] = Registry(
    "schedule family", {family.name: family for family in _ALL}, aliases={"exponential": "log-uniform"}
)


def build(
    name: str,
    steps: int,
    path: NoisePath,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    **options: Any,
) -> Schedule:
    """Builds a schedule of a named family on a model's noise path.

    Args:
        name: A family in :data:`FAMILIES`.
        steps: N, from 1 to ``MOST_STEPS``; the schedule has N + 1 points.
        path: The model's noise path.
        sigma_min, sigma_max: Narrow the path to these noise levels.
        options: The family's own options. A ``spectrum`` with rows makes one grid per row.

    Raises:
        SigmaTuneError: for an unknown family or option, a bad value, ends outside the model's range, or a curve that
            does not exist on the path or does not fall strictly in floating point.
    """
    family = FAMILIES[name]
    steps = whole(steps, "steps", most=MOST_STEPS)
    full = family.options(options)
    ends = _ends(sigma_min, sigma_max)
    if ends:
        path = Narrowed(path, ends.get("sigma_min", path.sigma_min), ends.get("sigma_max", path.sigma_max))
    if not family.defined_on(path):
        raise SigmaTuneError(
            f"{family.name} needs a finite first level and this model's is infinite; pass sigma_max=80 or the like."
        )
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            levels = _exact_ends(family, family.build(steps, path, **full, **(ends if family.tight else {})), path)
    except (OverflowError, ZeroDivisionError):
        raise SigmaTuneError(f"{family.name} with {full} exceeds what floating point can hold.") from None
    zero = np.zeros((*levels.shape[:-1], 1))
    return Schedule(np.concatenate([levels, zero], axis=-1), family.name, {**full, **ends}).bound(path)


def defaults(
    path: NoisePath, model_default: tuple[str, Mapping[str, float]] | None = None
) -> list[tuple[str, str, dict[str, float]]]:
    """Lists the static defaults that a tuned plan has to beat, without searched parameters.

    Args:
        path: The model's noise path; families that are not defined on it are left out.
        own: The family that the model's authors chose, with its options and ends; added if it is not in the list.

    Returns:
        (label, family, options) of each, options for :func:`build`.

    Raises:
        SigmaTuneError: if ``own`` names no family.
    """
    listed = [
        (label(family, options), family.name, dict(options))
        for family in FAMILIES.values()
        for options in family.published
        if family.defined_on(path)
    ]
    if model_default is not None:
        family, options = FAMILIES[model_default[0]], dict(model_default[1])
        known = {(name, label(FAMILIES[name], options)) for _, name, options in listed}
        if family.defined_on(path) and (family.name, label(family, options)) not in known:
            listed.append((f"{label(family, options)} (the model's own)", family.name, options))
    return listed


def label(family: Family, options: Mapping[str, float]) -> str:
    """The name of a family with its options and ends in tables: ``beta-open a=0.6 b=0.6``."""
    ends = {name: options[name] for name in ("sigma_min", "sigma_max") if name in options}
    full = family.options({name: value for name, value in options.items() if name not in ends}) | ends
    numbers = {name: value for name, value in full.items() if isinstance(value, int | float)}
    return " ".join([family.name, *(f"{name}={value:g}" for name, value in numbers.items())])


def _ends(sigma_min: float | None, sigma_max: float | None) -> dict[str, float]:
    """The ends that were given, as plain numbers."""
    given = {"sigma_min": sigma_min, "sigma_max": sigma_max}
    return {name: number(value, name) for name, value in given.items() if value is not None}


def _exact_ends(family: Family, levels: Array, path: NoisePath) -> Array:
    """Replaces ends that are right up to floating-point roundoff by the exact ones; see :class:`Family`."""
    levels = np.array(levels, dtype=np.float64)
    several = levels.shape[-1] > 1
    if family.starts or not several:
        levels[..., 0] = path.sigma_max
    if family.ends and several:
        levels[..., -1] = path.sigma_min
    return levels
