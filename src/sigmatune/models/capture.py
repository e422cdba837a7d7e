r"""Watches a diffusers pipeline call its network, up to the scheduler's step.

Every family conditions its network in its own way: text embeddings, pooled embeddings, sizes, masks, position ids, labels,
residuals of a control network. The pipeline prepares all of these before its loop. So this module calls the pipeline like a
user, records every call of the network and what reaches the scheduler, and stops it after one or two steps. This
encodes a prompt once and needs no code per family; :mod:`~sigmatune.models.calling_read` reads the record.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Any
from warnings import warn

import torch

from sigmatune.core.digests import module_of
from sigmatune.support.errors import SigmaTuneError, reason

NETWORKS = ("transformer", "unet")
OTHERS = ("transformer_2", "transformer2", "unet_2")
"""Second networks, which take over at some noise levels."""

WATCHED = 2
"""Steps that are watched: the second shows what changes from step to step."""


EDIT = 0.02
"""Largest change of latents between two calls, relative to their largest value; a cast to bfloat16 makes 0.004."""


class _Stop(Exception):
    """Ends the pipeline's call."""


@dataclass
class NetworkCall:
    """One call of the network: its arguments by name, what it returned, and the control network's part in it."""

    arguments: dict[str, Any]
    output: Any = None
    control: dict[str, Any] | None = None
    control_output: Any = None


@dataclass
class Turn:
    """One turn of the loop: the network's calls; t, latents and output with guidance as the scheduler gets them; its result."""

    calls: list[NetworkCall] = field(default_factory=list)
    t: float = 0.0
    sample: torch.Tensor | None = None
    guided: torch.Tensor | None = None
    following: torch.Tensor | None = None


@dataclass
class Seen:
    """A watched run: its steps, the shift and the list of sigmas that the pipeline passed to its scheduler, whether it edits.

    To edit is to change the latents between two steps.
    """

    turns: list[Turn]
    mu: float | None = None
    sigmas: Sequence[float] | None = None
    edited: bool = False


def network_of(pipe: Any) -> torch.nn.Module:
    """The denoising network of a pipeline.

    Raises:
        SigmaTuneError: if it has no network under the usual names.
    """
    for name in NETWORKS:
        network = getattr(pipe, name, None)
        if isinstance(network, torch.nn.Module):
            return network
    raise SigmaTuneError(f"a {type(pipe).__name__} has no network under the name unet or transformer.")


def inner_of(network: torch.nn.Module) -> torch.nn.Module:
    """The diffusers network inside the wrappers of torch.compile, data parallelism and PEFT."""
    inner = module_of(network) or network
    while callable(getattr(inner, "get_base_model", None)):
        base: Any = inner
        inner = base.get_base_model()
    return inner


def watch(pipe: Any, call: Mapping[str, Any], known: Turn | None = None) -> Seen:
    """Calls a pipeline and records its first steps.

    Args:
        pipe: The pipeline; unchanged afterwards.
        call: The pipeline's arguments, without the number of steps.
        known: A turn of an earlier run. Then the network does not compute: its calls return what they returned there, and the
            run ends after one step.

    Raises:
        SigmaTuneError: if the pipeline refuses the arguments, or makes no call of its network.
    """
    seen = Seen([])
    with _unwrapped(pipe) as network, _recorded(pipe, network, seen, known):
        try:
            with torch.no_grad():
                steps = getattr(getattr(pipe.scheduler, "plan", None), "calls", WATCHED)
                pipe(**call, num_inference_steps=steps)
        except _Stop:
            pass
        except SigmaTuneError:
            raise
        except Exception as error:  # noqa: BLE001 - pipelines check their arguments with errors of all kinds
            raise SigmaTuneError(
                f"the {type(pipe).__name__} does not run with these arguments: {reason(error)}."
            ) from None
    seen.turns = [turn for turn in seen.turns if turn.sample is not None and turn.calls]
    if not seen.turns:
        raise SigmaTuneError(f"the {type(pipe).__name__} made no call of its network before a step of its scheduler.")
    if seen.edited:
        warn(
            f"a {type(pipe).__name__} changes its latents between two calls, such as where a mask keeps them; st.load gives "
            "the model without these changes, so st.sample does not end where the pipeline ends. A plan in its scheduler does.",
            stacklevel=3,
        )
    return seen


@contextmanager
def _unwrapped(pipe: Any) -> Iterator[torch.nn.Module]:
    """Puts the plain network into the pipeline: hooks and signatures of wrappers show nothing."""
    network = network_of(pipe)
    name = next(name for name in NETWORKS if getattr(pipe, name, None) is network)
    inner = inner_of(network)
    if inner is not network:
        setattr(pipe, name, inner)
    try:
        yield inner
    finally:
        if inner is not network:
            setattr(pipe, name, network)


@contextmanager
def _recorded(pipe: Any, network: torch.nn.Module, seen: Seen, known: Turn | None) -> Iterator[None]:
    """Installs hooks, and a copy of the scheduler that records its arguments."""
    control = getattr(pipe, "controlnet", None)
    original, probe = pipe.scheduler, deepcopy(pipe.scheduler)
    seen.turns.append(Turn())
    waiting: dict[str, Any] = {}

    def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = _bound(module, args, kwargs)
        if module is control:
            waiting["control"] = bound
        else:
            kept = {"control": waiting.pop("control", None), "control_output": waiting.pop("output", None)}
            seen.turns[-1].calls.append(NetworkCall(bound, **kept))

    def after(module: torch.nn.Module, _: Any, output: Any) -> None:
        if module is control:
            waiting["output"] = output
        else:
            seen.turns[-1].calls[-1].output = output

    def refuse(*_: Any) -> None:
        raise SigmaTuneError(f"a {type(pipe).__name__} with a second network for some noise levels is not supported.")

    hooks = [network.register_forward_pre_hook(before, with_kwargs=True), network.register_forward_hook(after)]
    if isinstance(control, torch.nn.Module):
        hooks += [control.register_forward_pre_hook(before, with_kwargs=True), control.register_forward_hook(after)]
    second = [getattr(pipe, name, None) for name in OTHERS]
    hooks += [one.register_forward_pre_hook(refuse) for one in second if isinstance(one, torch.nn.Module)]
    _listen(probe, seen, 1 if known else WATCHED, type(pipe).__name__)
    pipe.scheduler = probe
    try:
        with _replayed(network, known):
            yield
    finally:
        pipe.scheduler = original
        for hook in hooks:
            hook.remove()


def _listen(probe: Any, seen: Seen, steps: int, pipe: str) -> None:
    """Makes a scheduler record what reaches it, and stop the run after some steps.

    On the object, not by a class of ours, because pipelines ask for the class; so a deep copy is given methods of its own.
    """
    set_timesteps, plain = probe.set_timesteps, probe.step

    @functools.wraps(set_timesteps)  # pipelines inspect the signatures
    def listening(*args: Any, **kwargs: Any) -> Any:
        seen.mu, seen.sigmas = kwargs.get("mu"), kwargs.get("sigmas")
        return set_timesteps(*args, **kwargs)

    @functools.wraps(plain)
    def step(model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.edited = len(seen.turns) > 1 and _edited(seen.turns[-2].following, sample)
        now = seen.turns[-1]
        now.guided, now.sample, now.t = model_output.clone(), sample.clone(), float(torch.as_tensor(timestep))
        if len(seen.turns) == steps:
            raise _Stop
        seen.turns.append(Turn())
        stepped = plain(model_output, timestep, sample, *args, **kwargs)
        now.following = (stepped[0] if isinstance(stepped, tuple) else stepped.prev_sample).clone()
        return stepped

    @functools.wraps(plain)
    def second(*_: Any, **__: Any) -> Any:
        raise SigmaTuneError(
            f"a {pipe} denoises a second state beside its latents, such as sound, with a copy of its scheduler, which st.load "
            "does not support; a plan in its scheduler runs both."
        )

    def copied(memo: dict[int, Any]) -> Any:
        twin = copy(probe)
        vars(twin).update({name: deepcopy(held, memo) for name, held in vars(probe).items() if name not in ours})
        for name in ours:
            del vars(twin)[name]
        twin.step = second
        return twin

    ours = {"set_timesteps": listening, "step": step, "__deepcopy__": copied}
    vars(probe).update(ours)


def _edited(one: torch.Tensor | None, other: torch.Tensor) -> bool:
    """Whether latents differ by more than a cast to half precision; those of another shape are packed anew."""
    if one is None or one.shape != other.shape:
        return False
    gap = (one.float() - other.float()).abs().amax()
    return bool(gap > EDIT * one.float().abs().amax())


@contextmanager
def _replayed(network: torch.nn.Module, known: Turn | None) -> Iterator[None]:
    """Lets the network return what it returned in a known turn."""
    if known is None:
        yield
        return
    outputs = iter([call.output for call in known.calls])
    plain = network.forward

    @functools.wraps(plain)
    def forward(*_: Any, **__: Any) -> Any:
        try:
            return next(outputs)
        except StopIteration:
            raise SigmaTuneError(
                "the prompts make this pipeline call its network a different number of times."
            ) from None

    replaced = "forward" in vars(network)
    network.forward = forward
    try:
        yield
    finally:
        if replaced:
            network.forward = plain
        else:
            del network.forward


def _bound(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name; lists are copied, because a network may empty them (an adapter's residuals)."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    named = {**{k: v for k, v in bound.items() if k != "kwargs"}, **bound.get("kwargs", {})}
    return {name: list(value) if type(value) is list else value for name, value in named.items()}
