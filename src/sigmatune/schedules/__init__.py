r"""Schedule families: where to stop, by formula.

A family turns a number of steps N and a noise path into the N positive noise levels :math:`\sigma_0 > \dots >
\sigma_{N-1} > 0`; :func:`build` appends the final 0, checks the result against the path's range and records its
provenance.

>>> from sigmatune.noise import VE
>>> build("karras", 3, VE()).sigmas.round(4).tolist()
[80.0, 2.5152, 0.002, 0.0]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sigmatune.core.schedule import MOST_STEPS, Schedule, whole
from sigmatune.noise import Array, Narrowed, NoisePath
from sigmatune.schedules import (
    ays,
    beta,
    bong_tangent,
    comfyui,
    diffusers_own,
    karras,
    kl_optimal,
    laplace,
    linear_quadratic,
    log_uniform,
    measured,
    phase_time,
    polyexponential,
    shifted_cosine,
    spectral,
    uniform,
)
from sigmatune.schedules.base import Family, is_flow
from sigmatune.support.errors import SigmaTuneError, check_kind
from sigmatune.support.named_numbers import named_numbers
from sigmatune.support.options import number
from sigmatune.support.registry import Registry

SAME = 0.01
"""Relative difference of noise levels below which two static defaults count as one: it changes no error by as much as a guard
could tell, and several programs round the same curve differently."""

_ALL = (
    uniform.TRAILING,
    uniform.LINSPACE,
    uniform.LEADING,
    karras.FAMILY,
    log_uniform.FAMILY,
    polyexponential.FAMILY,
    laplace.FAMILY,
    kl_optimal.FAMILY,
    shifted_cosine.FAMILY,
    beta.INCLUSIVE,
    beta.OPEN,
    beta.BETA57,
    ays.SD15,
    ays.SDXL,
    ays.IF,
    ays.SVD,
    *ays.TO_THE_END,
    comfyui.SIMPLE,
    comfyui.NORMAL,
    comfyui.SGM_UNIFORM,
    comfyui.DDIM_UNIFORM,
    linear_quadratic.FAMILY,
    bong_tangent.FAMILY,
    diffusers_own.FAMILY,
    measured.FAMILY,
    spectral.FREQUENCY,
    spectral.POWER,
    spectral.MIXED,
    phase_time.FAMILY,
)

FAMILIES: Registry[Family] = Registry(
    "schedule family",
    {family.name: family for family in _ALL},
    aliases={
        "exponential": "log-uniform",
        "simple": "comfy-simple",
        "normal": "comfy-normal",
        "sgm_uniform": "comfy-sgm-uniform",
        "ddim_uniform": "comfy-ddim-uniform",
        "kl_optimal": "kl-optimal",
        "linear_quadratic": "linear-quadratic",
        "bong_tangent": "bong-tangent",
    },
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
    check_kind(path, NoisePath, "the path must be a noise path, such as model.path")
    steps = whole(steps, "steps", most=MOST_STEPS)
    full = family.options(options)
    ends = _ends(sigma_min, sigma_max)
    if ends:
        path = Narrowed(path, ends.get("sigma_min", path.sigma_min), ends.get("sigma_max", path.sigma_max))
    if not family.defined_on(path):
        raise SigmaTuneError(_undefined(family, path))
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
        path: The model's noise path. What is not defined on it is left out, and published ends outside its range are cut to it.
        model_default: The family that the model's authors chose, with its options and ends; added if it is not in the list.

    Returns:
        (label, family, options) of each, options for :func:`build`. Some may have the same levels; ``rivals`` joins them.

    Raises:
        SigmaTuneError: if ``model_default`` names no family.
    """
    listed: dict[str, tuple[str, dict[str, float]]] = {}
    for family in FAMILIES.values():
        for options in family.published:
            cut = _cut(options, path)
            with suppress(SigmaTuneError):  # not defined on this path, or not between these ends
                build(family.name, 1, path, **cut)
                listed.setdefault(label(family, cut), (family.name, cut))
    if model_default is not None:
        family, options = FAMILIES[model_default[0]], dict(model_default[1])
        if family.defined_on(path) and label(family, options) not in listed:
            listed[f"{label(family, options)} (the model's own)"] = family.name, options
    return [(name, *choice) for name, choice in listed.items()]


@dataclass(frozen=True)
class Rival:
    """A static default at a number of steps.

    Attributes:
        label: Its name in :func:`defaults`.
        schedule: Its levels.
        same: Names of further defaults that have these levels here.
    """

    label: str
    schedule: Schedule
    same: tuple[str, ...] = ()


def rivals(steps: int, path: NoisePath, model_default: tuple[str, Mapping[str, float]] | None = None) -> list[Rival]:
    """The static defaults that exist at a number of steps, each set of levels once.

    Two defaults have the same levels if all of them agree within :data:`SAME`.

    Args:
        steps: N.
        path, model_default: As in :func:`defaults`.
    """
    listed: list[tuple[str, Schedule]] = []
    for name, family, options in defaults(path, model_default):
        with suppress(SigmaTuneError):  # no such number of steps
            listed.append((name, build(family, steps, path, **options)))
    return joined(listed)


def joined(listed: Iterable[tuple[str, Schedule]]) -> list[Rival]:
    """Joins named schedules whose levels agree within :data:`SAME`, under the name of the first."""
    kept: list[Rival] = []
    for name, schedule in listed:
        place = next((i for i, rival in enumerate(kept) if _same(rival.schedule.sigmas, schedule.sigmas)), None)
        if place is None:
            kept.append(Rival(name, schedule))
        else:
            kept[place] = replace(kept[place], same=(*kept[place].same, name))
    return kept


def _same(sigmas: Array, other: Array) -> bool:
    if sigmas.shape != other.shape:
        return False
    with np.errstate(invalid="ignore"):  # of two infinite levels, which are equal; np.isclose takes ten times as long
        near = (np.abs(sigmas - other) <= SAME * other) & (other < np.inf)
    return bool((near | (sigmas == other)).all())


def _cut(options: Mapping[str, float], path: NoisePath) -> dict[str, float]:
    """Options without the ends that lie outside a path's range or at its end."""
    low, high = options.get("sigma_min", 0.0), options.get("sigma_max", np.inf)
    outside = {"sigma_min": low <= path.sigma_min * (1 + SAME), "sigma_max": high >= path.sigma_max * (1 - SAME)}
    return {name: value for name, value in options.items() if not outside.get(name)}


def _undefined(family: Family, path: NoisePath) -> str:
    """Why a family has no curve on a path."""
    if family.flow and not is_flow(path):
        return f"{family.name} is a curve in the time of flow models, and this model is none; take another family."
    return f"{family.name} needs a finite first level and this model's is infinite; pass sigma_max=80 or the like."


def label(family: Family, options: Mapping[str, float]) -> str:
    """The name of a family with its options and ends in tables: ``beta-open a=0.6 b=0.6``."""
    ends = {name: options[name] for name in ("sigma_min", "sigma_max") if name in options}
    full = family.options({name: value for name, value in options.items() if name not in ends}) | ends
    numbers = {name: value for name, value in full.items() if isinstance(value, int | float)}
    return " ".join([family.name, *(f"{name}={value:g}" for name, value in numbers.items())])


def named(text: str) -> tuple[str, dict[str, float]]:
    """Reads a family with its options, ``karras:rho=7``.

    Raises:
        SigmaTuneError: for an option that is not a number.
    """
    name, *given = text.split(":")
    return name, named_numbers(given)


def check(name: str, options: Mapping[str, Any]) -> None:
    """Refuses a family, or options of it, that no model's noise path would take.

    Raises:
        SigmaTuneError: for an unknown family or option, or a value that is no number.
    """
    ends = ("sigma_min", "sigma_max")
    FAMILIES[name].options({key: value for key, value in options.items() if key not in ends})
    _ends(*(options.get(key) for key in ends))


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
