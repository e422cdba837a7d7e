"""The effects of a pipeline's own code on a plan: what is refused, and what only warns."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from sigmatune.models.network import process_of
from sigmatune.noise import Array, Flow, NoisePath
from sigmatune.plan import Plan, purpose
from sigmatune.schedules.linear_quadratic import linear_quadratic
from sigmatune.support.errors import PlanMismatch, SigmaTuneError


def is_default_list(sigmas: Sequence[float] | Array) -> bool:
    """Whether this is a list that flow pipelines pass by default, which is no wish of the user.

    Most pass tau evenly from 1 to 1/N, CogView4 whole timesteps from T to 1, LTX's pipeline for conditions its linear-quadratic
    curve.
    """
    given = np.asarray(sigmas, dtype=np.float64).reshape(-1)
    n = max(len(given), 1)
    with np.errstate(divide="ignore"):
        curve = 1 / (1 + 1 / linear_quadratic(n, Flow()))
    defaults = (np.linspace(1.0, 1 / n, n), np.floor(np.linspace(1000.0, 1.0, n)) / 1000, curve)
    return any(len(given) == n and bool(np.allclose(given, one, rtol=0, atol=1e-6)) for one in defaults)


def check_path(plan: Plan, path: NoisePath, pipeline_path: NoisePath) -> None:
    """Refuses a plan whose levels would reach this pipeline's network with a t other than in training."""
    if process_of(path)["kind"] == process_of(pipeline_path)["kind"]:
        q = plan.coefficients.q.numpy()
        if pipeline_path.agrees(q, path.time(q)).all():
            return
    raise SigmaTuneError(
        f"the plan was made for the noise path {process_of(path)} and this pipeline has {process_of(pipeline_path)}; "
        "make a plan for this model."
    )


def check_shift(path: NoisePath, mu: float) -> None:
    """Warns if a flow pipeline's dynamic shift, exp(mu), is not that of the plan's path."""
    spec = process_of(path)
    if spec["kind"] == "flow" and not np.isclose(np.exp(mu), spec["shift"], rtol=1e-4):
        warnings.warn(
            f"at this resolution the pipeline shifts time by {np.exp(mu):.4g} and the plan was made for a shift of "
            f"{spec['shift']:.4g}; its noise levels are kept, but its evidence does not carry over.",
            PlanMismatch,
            stacklevel=3,
        )


def _source(code: Any) -> str:
    """The source of a class or function; empty where it cannot be read."""
    return _read(code)


@lru_cache(maxsize=64)  # Python reads and tokenises the whole file each time
def _read(code: Any) -> str:
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        return ""


def converts_schedulers(pipe: Any) -> str:
    """The pipeline's class if its constructor makes a scheduler of its own from the given one's configuration, else nothing."""
    return type(pipe).__name__ if "Scheduler.from_config(" in _source(type(pipe).__init__) else ""


def check_use(record: Mapping[str, Any] | None, pipe: Any, sample: torch.Tensor) -> None:
    """Warns, at the first call of a run, of another guidance or another size than the plan was tuned for.

    Args:
        record: The plan's ``tuned_for``.
        pipe: The pipeline, whose guidance of this run is known by now; None where it is not known.
        sample: Its latents, (B, *shape).
    """
    tuned = purpose.guidance_of(record)
    if not isinstance(record, Mapping) or "guidance" not in record or "converted" in record:
        return
    shape = list(sample.shape[1:]) if sample.ndim == 4 else None  # a sequence of patches has its padding, too
    w = _guidance(pipe)
    ours = tuned if w is None else (w, *(tuned[1:] if tuned else (0.0, float("inf"))))
    if differs := purpose.different(record, guidance=ours, shape=shape):
        warnings.warn(
            f"this plan was tuned {' and '.join(differs)}; its evidence does not carry over.",
            PlanMismatch,
            stacklevel=5,
        )


def _guidance(pipe: Any) -> float | None:
    """The scale of classifier-free guidance in a pipeline's present run; None if it does not say."""
    if pipe is None or "true_cfg_scale" in inspect.signature(type(pipe).__call__).parameters:
        return None  # there guidance_scale is an input of the network
    scale = getattr(pipe, "_guidance_scale", None)
    if not isinstance(scale, int | float) or not hasattr(pipe, "do_classifier_free_guidance"):
        return None
    return float(scale) if pipe.do_classifier_free_guidance else 1.0


def check_loop(pipe: Any) -> None:
    """Refuses a pipeline whose loop steps every token of an image from a time of its own."""
    if "per_token_timesteps=" in _source(type(pipe)):
        raise SigmaTuneError(
            f"a {type(pipe).__name__} steps every token from a time of its own, and a plan has one t for all; use the pipeline "
            "of this model without conditions."
        )


def check_clock(pipe: Any, path: NoisePath, sigmas: Array) -> None:
    """Refuses levels between whole timesteps for a network that embeds whole timesteps only."""
    networks = (getattr(pipe, name, None) for name in ("unet", "transformer"))
    network = next((one for one in networks if one is not None), None)  # a compiled module has no truth value
    kind = getattr(getattr(network, "config", None), "time_embedding_type", None)
    if kind == "learned" and not path.agrees(sigmas, np.rint(path.time(sigmas))).all():
        raise SigmaTuneError(
            "this pipeline's network embeds whole timesteps only and the plan's levels lie between them; make the plan for it."
        )


def warn_of_pipeline(pipe: Any, start: float, times: torch.Tensor) -> None:
    """Warns about effects of this pipeline's own code that no scheduler can prevent."""
    source, name = _source(type(pipe)), type(pipe).__name__
    if not source:
        return
    scales = any(name in source for name in ("init_noise_sigma", "add_noise(", "scale_noise("))
    if abs(start - 1) > 1e-4 and not scales:
        advice = (
            f"pass latents= of standard deviation {start:.6g} (scheduler.init_noise_sigma) to it"
            if "latents" in inspect.signature(type(pipe).__call__).parameters
            else f"it takes no latents= either, so its first input has {1 / start:.6g} times the plan's deviation"
        )
        warnings.warn(
            f"{name} does not scale its start noise; {advice}.",
            PlanMismatch,
            stacklevel=4,
        )
    dtype = getattr(pipe, "dtype", torch.float32)
    if ".to(latents.dtype)" in source and dtype in (torch.bfloat16, torch.float16):
        off = float((times.to(dtype).float() - times).abs().max())
        if off > 0:
            warnings.warn(
                f"{name} rounds t to {dtype}, by up to {off:.3g} here; keep the latents in float32, or expect the plan's "
                "levels to reach the network with another t.",
                PlanMismatch,
                stacklevel=4,
            )
