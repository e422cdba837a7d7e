"""The wiring of modules: what a network computes besides its weights, as far as it can be read without a call.

Two networks of equal weights are two models if a convolution of one has another dilation, if FreeU is on, or if a hook
changes what a layer returns. Settings are what every layer states about itself (``extra_repr``: strides, dilations, groups),
its floating-point numbers, such as FreeU's factors or an adapter's scale, and the code of the hooks and of a forward of its
own that hang on it. Versions of a library state them differently, and what a hook reads elsewhere cannot be seen, so settings
belong to the names in stores, which serve one machine, and not to plan files.
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


_HOLDING, _PLAIN = {dict, list, tuple}, {int, float, str, bool, type(None)}


def settings(modules: Iterable[torch.nn.Module]) -> str:
    """A digest of the settings of all layers; empty without any module."""
    lines = [_line(name, layer) for module in modules for name, layer in module.named_modules()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] if lines else ""


def _line(name: str, layer: torch.nn.Module) -> str:
    kind = type(layer)
    says = "" if kind.extra_repr is torch.nn.Module.extra_repr else layer.extra_repr()
    return (
        f"{name} {kind.__qualname__} {says} {sorted(_numbers(vars(layer)))} {[_named(code) for code in _code(layer)]}"
    )


def _named(code: Any) -> str:
    """A function by its name and its instructions, which another process finds again."""
    inner = getattr(code, "__code__", None)
    steps = (
        b"" if inner is None else inner.co_code + repr([one for one in inner.co_consts if type(one) in _PLAIN]).encode()
    )
    return f"{getattr(code, '__qualname__', type(code).__qualname__)} {hashlib.sha256(steps).hexdigest()[:16]}"


def _code(layer: torch.nn.Module) -> Iterator[Any]:
    yield from layer._forward_hooks.values()
    yield from layer._forward_pre_hooks.values()
    forward = vars(layer).get("forward")
    plain = forward is None or getattr(forward, "__func__", None) is type(layer).forward
    neutral = hasattr(layer, "_hf_hook") or hasattr(layer, "_orig_mod")  # accelerate's, and torch.compile's wrapper
    if not plain and not neutral and not _neutral(layer):
        yield forward


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
