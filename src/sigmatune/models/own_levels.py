r"""The noise levels that a diffusers scheduler makes from its configuration, as it makes them.

The same option means different levels in different classes: with ``timestep_spacing: "leading"`` DDIM takes every
:math:`\lfloor T / N \rfloor`-th timestep and DPM-Solver every :math:`\lfloor T / (N + 1) \rfloor`-th; with
``"linspace"`` DDIM rounds to whole timesteps and Euler interpolates sigma. So nothing is computed again here: the class
is built from the configuration, ``set_timesteps(N)`` is called, and its list is read,

========================== ======================================================
list                       level
========================== ======================================================
``sigmas`` of a flow       :math:`\sigma = \tau / (1 - \tau)`
``sigmas`` of others       :math:`\sigma`
``timesteps`` alone        :math:`\sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}`
========================== ======================================================
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from sigmatune.models.network import process_of
from sigmatune.noise import Array, NoisePath
from sigmatune.support.errors import SigmaTuneError, reason

LINSPACE = "linspace"
"""The list that flow pipelines pass to their scheduler themselves: tau from 1 to 1/N in N equal steps, before the shift."""


def own_levels(config: Mapping[str, Any], steps: int, path: NoisePath, *, sigmas: str = "") -> Array:
    """Reads the levels of a scheduler at a number of steps.

    Args:
        config: The content of ``scheduler_config.json``, with ``_class_name``.
        steps: N.
        path: The model's noise path; a dynamic shift is the path's.
        sigmas: ``"linspace"`` if the pipeline passes that list; the scheduler's own by default.

    Returns:
        N levels (sigma), descending, float64; the first may be infinite.

    Raises:
        SigmaTuneError: if the class cannot be built here, takes another number of levels, or does not go from noise to data.
    """
    name = str(config.get("_class_name"))
    if name.endswith("InverseScheduler"):
        raise SigmaTuneError(f"{name} goes from data to noise, so it has no levels for sampling.")
    try:
        scheduler = built(config)
        _set(scheduler, steps, path, sigmas)
        levels = _read(scheduler, path)
    except SigmaTuneError:
        raise
    except Exception as error:  # noqa: BLE001 - a missing library, an option that this class refuses at this number of steps
        raise SigmaTuneError(f"the levels of the scheduler {name} are unknown: {reason(error)}.") from None
    if len(levels) != steps:
        raise SigmaTuneError(f"{name} makes {len(levels)} levels for {steps} steps.")
    if not np.all(np.diff(levels) < 0):
        raise SigmaTuneError(f"the levels of {name} do not fall strictly at {steps} steps.")
    return levels


def built(config: Mapping[str, Any]) -> Any:
    """The scheduler of a configuration, without diffusers' remarks on fields of other classes.

    Raises:
        SigmaTuneError: if diffusers has no such class.
    """
    kept = {key: value for key, value in config.items() if key != "_use_default_values"}
    return deepcopy(_fresh(json.dumps(kept, sort_keys=True, default=lambda value: value.tolist())))


@lru_cache(maxsize=32)
def _fresh(config: str) -> Any:
    """The scheduler before its first use; some classes set a thousand steps as they are made, which takes a second."""
    import diffusers

    given = json.loads(config)
    name = str(given.get("_class_name"))
    kind = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if kind is None:
        raise SigmaTuneError(f"diffusers has no scheduler {name!r}.")
    with _silence():
        return kind.from_config(given)


def _set(scheduler: Any, steps: int, path: NoisePath, sigmas: str) -> None:
    takes = inspect.signature(scheduler.set_timesteps).parameters
    given: dict[str, Any] = {"num_inference_steps": steps}
    if scheduler.config.get("use_dynamic_shifting") and "mu" in takes:
        shift = float(process_of(path)["shift"])
        exponential = scheduler.config.get("time_shift_type", "exponential") == "exponential"
        given["mu"] = float(np.log(shift)) if exponential else shift
    if sigmas == LINSPACE:
        given["sigmas"] = np.linspace(1.0, 1 / steps, steps).tolist()
        if "timesteps" in takes and not scheduler.config.get("shift_terminal"):
            given.pop("num_inference_steps")
    scheduler.set_timesteps(**given)


def _read(scheduler: Any, path: NoisePath) -> Array:
    kind = process_of(path)["kind"]
    listed = getattr(scheduler, "sigmas", None)
    if kind != "vp" or (isinstance(listed, torch.Tensor) and len(listed) > len(scheduler.timesteps)):
        if not isinstance(listed, torch.Tensor):
            raise SigmaTuneError(f"{type(scheduler).__name__} keeps no list of levels.")
        # One entry per call and the end; methods of two calls per step repeat levels.
        taken = _distinct(listed.double().numpy()[: len(scheduler.timesteps)])
        tau = taken if kind == "flow" or scheduler.config.get("use_flow_sigmas") else None
        with np.errstate(divide="ignore"):
            levels = taken if tau is None else np.asarray(1 / (1 / tau - 1))
        return _infinite(levels, scheduler, path)
    # PNDM repeats entries of its list on purpose, and walks it once more in its first steps.
    times = getattr(scheduler, "_timesteps", None)
    whole = (
        scheduler.timesteps.double().numpy() if times is None else np.sort(np.asarray(times, dtype=np.float64))[::-1]
    )
    return path.sigma(_distinct(whole))


def _distinct(values: Array) -> Array:
    return np.asarray(values[np.append(True, np.diff(values) != 0)])


def _infinite(levels: Array, scheduler: Any, path: NoisePath) -> Array:
    """Zero terminal SNR: such schedulers write the largest float that they can compute with for infinity."""
    last = float(torch.as_tensor(scheduler.timesteps).double().max())
    if process_of(path)["kind"] == "vp" and np.isinf(path.sigma_max) and last == path.levels - 1:
        levels = levels.copy()
        levels[0] = np.inf
    return levels


@contextmanager
def _silence() -> Iterator[None]:
    from diffusers.utils import logging

    shown = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(shown)
