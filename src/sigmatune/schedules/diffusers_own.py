"""Diffusers: the levels that a scheduler class of diffusers makes from a configuration, read from that class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.schedules.uniform import trailing
from sigmatune.support.errors import SigmaTuneError


def diffusers_own(steps: int, path: NoisePath, *, config: Mapping[str, Any] | None = None, sigmas: str = "") -> Array:
    """Takes the levels that a scheduler of diffusers would take, whatever its class and options.

    References:
        | Diffusers: State-of-the-art diffusion models (von Platen et al., 2022)
        | https://github.com/huggingface/diffusers

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path; it has to be the one of the configuration, up to a dynamic shift.
        config: The content of ``scheduler_config.json``, with ``_class_name``; without it, uniform-trailing.
        sigmas: ``"linspace"`` if the pipeline passes the list from 1 to 1/N to its scheduler, as Flux does.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: if this class cannot be built here, or makes another number of levels.
    """
    if config is None:
        return trailing(steps, path)
    if not isinstance(config, Mapping):
        raise SigmaTuneError("config must be the content of a scheduler_config.json, an object with _class_name.")
    from sigmatune.models.own_levels import own_levels  # torch comes with it

    return own_levels(config, steps, path, sigmas=sigmas)


FAMILY = Family(
    "diffusers",
    diffusers_own,
    "what a scheduler class of diffusers makes from its configuration",
    starts=False,
    ends=False,
)
