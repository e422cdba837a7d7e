"""The wiring of modules: what a network computes besides its weights, as far as it can be read without a call.

Two networks of equal weights are two models if a convolution of one has another dilation, if FreeU is on, or if a hook
changes what a layer returns.

- **Settings** are what every layer states about itself (``extra_repr``: strides, dilations, groups) and its floating-point
  numbers, such as FreeU's factors or an adapter's scale. Versions of a library state them differently, so they belong to
  the names in stores, which serve one machine, and not to plan files.
- **Code** that hangs on a layer, a hook or a forward of its own, cannot be read. A network with such code is probed as a
  function is (:mod:`sigmatune.core.identity`), and is another model than the network without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

NEUTRAL = frozenset(
    {"group_offloading", "lazy_prefetch_group_offloading", "layerwise_casting", "peft_autocast_disable"}
)
"""Hooks of diffusers that move or cast weights and leave the function as it is; accelerate's hooks do, too."""


_HOLDING = {dict, list, tuple}


def settings(modules: Iterable[torch.nn.Module]) -> str:
    """A digest of the settings of all layers; empty without any module."""
    lines = [_line(name, layer) for module in modules for name, layer in module.named_modules()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] if lines else ""


def _line(name: str, layer: torch.nn.Module) -> str:
    kind = type(layer)
    says = "" if kind.extra_repr is torch.nn.Module.extra_repr else layer.extra_repr()
    return f"{name} {kind.__qualname__} {says} {sorted(_numbers(vars(layer)))}"


def code_on(modules: Iterable[torch.nn.Module]) -> tuple[int, ...]:
    """The hooks and the forwards that hang on layers, by their numbers; empty for networks as they were built."""
    return tuple(one for module in modules for layer in module.modules() for one in _code(layer))


def _code(layer: torch.nn.Module) -> Iterator[int]:
    yield from layer._forward_hooks  # torch numbers them and gives no number twice
    yield from layer._forward_pre_hooks
    forward = vars(layer).get("forward")
    plain = forward is None or getattr(forward, "__func__", None) is type(layer).forward
    neutral = hasattr(layer, "_hf_hook") or hasattr(layer, "_orig_mod")  # accelerate's, and torch.compile's wrapper
    if not plain and not neutral and not _neutral(layer):
        yield id(forward)


def _neutral(layer: torch.nn.Module) -> bool:
    """Whether a forward was replaced by hooks of diffusers that all are neutral."""
    hooks = getattr(getattr(layer, "_diffusers_hook", None), "hooks", None)
    return isinstance(hooks, Mapping) and set(hooks) <= NEUTRAL


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, list[float]]]:
    """The floats among a layer's attributes, also in lists and dictionaries; whole numbers may be counters."""
    for name, value in values.items():
        kind = type(value)
        if kind is float:
            yield name, [value]
        elif kind in _HOLDING and name[0] != "_":
            inside = value.values() if kind is dict else value
            if floats := [one for one in inside if type(one) is float]:
                yield name, floats
