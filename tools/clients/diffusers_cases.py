"""Diffusers' pipelines as its own tests build and call them, at random weights that react to everything."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from sigmatune.models.capture import network_of
from sigmatune.support.errors import reason

STEPS = 4
"""Network calls of the plan that runs in every pipeline."""


class _Stop(Exception):
    """Ends a pipeline's call."""


def testers(checkout: Path) -> Iterator[tuple[str, Any, str]]:
    """(pipeline class, an instance of its test class, why it is not there) of all test files."""
    sys.path.insert(0, str(checkout))
    done = set()
    for file in sorted((checkout / "tests" / "pipelines").glob("*/test_*.py")):
        module = ".".join(file.relative_to(checkout).with_suffix("").parts)
        if "onnx" in module:
            continue
        try:
            members = vars(importlib.import_module(module))
        except BaseException as error:  # noqa: BLE001 - whatever a test file does when it is imported
            yield file.stem, None, reason(error)
            continue
        for name, member in sorted(members.items()):
            if not isinstance(member, type) or member.__module__ != module:
                continue
            kind = inspect.getattr_static(member, "pipeline_class", None)  # a class whose library is missing raises
            if kind is None or inspect.getattr_static(member, "get_dummy_components", None) is None:
                continue
            if isinstance(kind, property) or kind in done or "Memory" in name:
                continue
            done.add(kind)
            yield kind.__name__, member, ""


def called(method: Callable[..., Any], **options: Any) -> Any:
    """Calls a method with those of the options that it takes."""
    takes = inspect.signature(method).parameters
    return method(**{name: value for name, value in options.items() if name in takes})


def inputs_of(tester: Any, pipe: Any) -> dict[str, Any]:
    """The arguments of a call, with the plan's number of steps and latents as output."""
    given = dict(called(tester.get_dummy_inputs, device="cpu", seed=0))
    takes = inspect.signature(type(pipe).__call__).parameters
    for name in ("timesteps", "sigmas"):
        given.pop(name, None)
    for name in ("num_inference_steps", "num_steps"):
        if name in takes:
            given[name] = STEPS
    if "output_type" in takes:
        given["output_type"] = "latent"
    if "strength" in takes:
        given["strength"] = 1.0
    given.pop("eta", None)
    return given


def redrawn(network: torch.nn.Module) -> None:
    """Redraws the weights, because networks start with outputs of 0."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            fan = parameter[0].numel()
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
        elif not ("norm" in name and name.endswith("weight")):
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    network.eval().requires_grad_(False)


def shift_of(pipe: Any, given: dict[str, Any]) -> float | None:
    """The dynamic shift at this resolution, from the pipeline's own set_timesteps."""
    heard: dict[str, Any] = {}
    plain = pipe.scheduler.set_timesteps

    def listening(*args: Any, **kwargs: Any) -> Any:
        heard.update(kwargs)
        return plain(*args, **kwargs)

    listening.__signature__ = inspect.signature(plain)
    network = network_of(pipe)

    def stop(*_: Any) -> None:
        raise _Stop

    hook = network.register_forward_pre_hook(stop)
    try:
        with mock.patch.object(pipe.scheduler, "set_timesteps", listening), torch.no_grad():
            pipe(**given)
    except _Stop:
        pass
    finally:
        hook.remove()
    mu = heard.get("mu")
    dynamic = pipe.scheduler.config.get("use_dynamic_shifting")
    linear = pipe.scheduler.config.get("time_shift_type") == "linear"
    return None if mu is None or not dynamic else float(mu) if linear else float(torch.tensor(float(mu)).exp())
