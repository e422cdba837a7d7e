r"""Captures the arguments that a diffusers pipeline sends to its network.

Every family conditions its network in its own way: text embeddings, pooled embeddings, sizes, masks, position ids,
labels, residuals of a control network. The pipeline prepares all of these before its loop, and they stay the same in
every step. So this module calls the pipeline like a user, stops it at the first network call, and keeps the arguments
of that call: we replace the state and t; the rest is the condition. This encodes a prompt once and needs no code per
family.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from sigmatune.support.errors import SigmaTuneError, reason

STATES, TIME = ("sample", "hidden_states"), "timestep"
RESIDUALS = ("down_block_additional_residuals", "mid_block_additional_residual")


class _Stop(Exception):
    """Ends the pipeline's call."""


@dataclass(frozen=True)
class Sent:
    """The first call of a network by its pipeline.

    Attributes:
        state: The name of the argument that holds the state, and the state, (1 or 2, *shape).
        arguments: All other arguments but t.
        clock: The divisor of t before it was sent: 1 or 1000.
        mu: The shift that the pipeline passed to its scheduler, if any.
        control: The arguments of the control network, if there is one.
    """

    state: tuple[str, torch.Tensor]
    arguments: Mapping[str, Any]
    clock: float
    mu: float | None
    control: Mapping[str, Any] | None


def network_of(pipe: Any) -> torch.nn.Module:
    """The denoising network of a pipeline.

    Raises:
        SigmaTuneError: if it has no network under the usual names.
    """
    for name in ("transformer", "unet"):
        network = getattr(pipe, name, None)
        if isinstance(network, torch.nn.Module):
            return network
    raise SigmaTuneError(f"a {type(pipe).__name__} has no network under the name unet or transformer.")


def capture(pipe: Any, call: Mapping[str, Any]) -> Sent:
    """Calls a pipeline up to its first network call.

    Args:
        pipe: The pipeline; unchanged afterwards.
        call: The pipeline's arguments, without the number of steps.

    Raises:
        SigmaTuneError: if the pipeline refuses the arguments, or its network call is of an unknown form.
    """
    network, control = network_of(pipe), getattr(pipe, "controlnet", None)
    seen: dict[str, dict[str, Any]] = {}
    recorded: dict[str, Any] = {}

    def keep(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen["control" if module is control else "network"] = _bound(module, args, kwargs)
        if module is network:
            raise _Stop

    hooks = [
        m.register_forward_pre_hook(keep, with_kwargs=True)
        for m in (network, control)
        if isinstance(m, torch.nn.Module)
    ]
    try:
        with _probed(pipe, recorded), torch.no_grad():
            steps = getattr(getattr(pipe.scheduler, "plan", None), "calls", 2)
            pipe(**call, num_inference_steps=steps)
    except _Stop:
        pass
    except SigmaTuneError:
        raise
    except Exception as error:  # noqa: BLE001 - pipelines check their arguments with errors of all kinds
        raise SigmaTuneError(f"the {type(pipe).__name__} does not run with these arguments: {reason(error)}.") from None
    finally:
        for hook in hooks:
            hook.remove()
    if "network" not in seen:
        raise SigmaTuneError(f"the {type(pipe).__name__} made no call of its network.")
    return _understood(type(pipe).__name__, seen, recorded)


def _bound(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    return {**{k: v for k, v in bound.items() if k != "kwargs"}, **bound.get("kwargs", {})}


@contextmanager
def _probed(pipe: Any, recorded: dict[str, Any]) -> Iterator[None]:
    """Installs a copy of the scheduler that records its arguments."""
    original = pipe.scheduler
    probe = deepcopy(original)
    plain = probe.set_timesteps

    @functools.wraps(plain)  # pipelines inspect the signature
    def listening(*args: Any, **kwargs: Any) -> None:
        recorded["mu"] = kwargs.get("mu")
        plain(*args, **kwargs)
        recorded["timesteps"] = probe.timesteps

    probe.set_timesteps = listening
    pipe.scheduler = probe
    try:
        yield
    finally:
        pipe.scheduler = original


def _understood(name: str, seen: Mapping[str, Mapping[str, Any]], recorded: Mapping[str, Any]) -> Sent:
    arguments = dict(seen["network"])
    state = next((key for key in STATES if isinstance(arguments.get(key), torch.Tensor)), None)
    if state is None or TIME not in arguments or "timesteps" not in recorded:
        raise SigmaTuneError(f"a {name} calls its network in an unknown way: the arguments lack a state or a timestep.")
    x = arguments.pop(state)
    sent = float(torch.as_tensor(arguments.pop(TIME)).reshape(-1)[0])
    listed = torch.as_tensor(recorded["timesteps"]).float()
    clock = next((c for c in (1.0, 1000.0) if bool((abs(listed / c - sent) <= 5e-3 * abs(sent) + 1e-9).any())), None)
    if clock is None:
        raise SigmaTuneError(
            f"a {name} sends {sent:g} to its network where its scheduler says t = {float(listed[0]):g}; that time "
            "variable is not supported."
        )
    control = seen.get("control")
    if control is not None:
        for key in RESIDUALS:
            arguments.pop(key, None)
        control = {key: value for key, value in control.items() if key not in (*STATES, TIME)}
    return Sent((state, x), arguments, clock, recorded["mu"], control)


@dataclass(frozen=True)
class Arguments:
    """The arguments besides state and t, for one or more rows.

    Attributes:
        tree: The arguments; dictionaries, lists and tuples may be nested.
        by_row: For every tensor in it, in traversal order, whether it has a row for each row of the batch; position tables
            do not.
    """

    tree: Any
    by_row: tuple[bool, ...]

    @classmethod
    def of(cls, tree: Any, rows: int) -> Arguments:
        """The condition of a batch of some rows."""
        return cls(tree, tuple(x.ndim > 0 and x.shape[0] == rows for x in cls(tree, ()).tensors))

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Every tensor in it, in traversal order."""
        tensors: list[torch.Tensor] = []
        _leaves(self.tree, tensors.append)
        return tensors

    @property
    def rest(self) -> str:
        """Everything else in it, as text, with the shapes of the tensors."""
        return repr(_leaves(self.tree, lambda x: tuple(x.shape)))

    def picked(self, rows: Sequence[int]) -> Arguments:
        """The condition of some rows."""
        by_row, index = iter(self.by_row), list(rows)
        return Arguments(_leaves(self.tree, lambda x: x[index] if next(by_row) else x), self.by_row)

    @staticmethod
    def joined(parts: Sequence[Arguments]) -> Arguments:
        """Concatenates the rows of several conditions.

        Raises:
            SigmaTuneError: if their tensors differ in size.
        """
        lists = [part.tensors for part in parts]
        by_row, whole = parts[0].by_row, iter(zip(*lists, strict=True))
        if any(x.shape[1:] != same[0].shape[1:] for same in zip(*lists, strict=True) for x in same):
            raise SigmaTuneError(
                "the prompts encode to tensors of different sizes; have the pipeline pad them to one length, as "
                "max_sequence_length= does."
            )
        mine = iter(by_row)

        def join(_: torch.Tensor) -> torch.Tensor:
            same = next(whole)
            return torch.cat(same) if next(mine) else same[0]

        return Arguments(_leaves(parts[0].tree, join), by_row)


def _leaves(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """Maps a function over every tensor in the arguments."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _leaves(item, change) for key, item in value.items()}
    return type(value)(_leaves(item, change) for item in value) if isinstance(value, list | tuple) else value
