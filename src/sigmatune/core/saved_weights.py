"""What a module saves: tensors in memory, tensors that accelerate keeps elsewhere, and the packed weights of quantised layers.

``accelerate`` offloads a network by leaving tensors without data (device meta) in it; a hook on a module fetches them for each
call. Their values come from that hook here, one at a time, so a network that does not fit into memory still has an identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from sigmatune.support.errors import SigmaTuneError


def saved(module: torch.nn.Module | None, state: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor | str]]:
    """The names and values of a ``state_dict`` in the order of names; text for what is no tensor.

    Args:
        module: The module, whose hooks may hold values; None for tensors alone.
        state: Its ``state_dict``.

    Raises:
        SigmaTuneError: for a tensor without data that no hook holds.
    """
    for name in sorted(state):
        value = state[name]
        if module is not None and isinstance(value, torch.Tensor) and value.is_meta:
            value = _fetched(module, name)
        yield from _parts(name, value)


def _parts(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor | str]]:
    """The tensors of a value: quantised layers save tuples, and integers with a scale."""
    if isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from _parts(f"{name}.{i}", part)
    elif not isinstance(value, torch.Tensor):
        yield name, str(value)
    elif value.is_quantized:
        per_channel = value.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric)
        yield name, value.int_repr()
        yield f"{name}.scale", value.q_per_channel_scales() if per_channel else torch.tensor(value.q_scale())
        yield f"{name}.zero", value.q_per_channel_zero_points() if per_channel else torch.tensor(value.q_zero_point())
    else:
        yield name, value


def _fetched(module: torch.nn.Module, name: str) -> torch.Tensor:
    """The value of a tensor without data, from the hook of the module that has it, or of one around it."""
    parts = name.split(".")
    for depth in reversed(range(len(parts))):
        inside = ".".join(parts[depth:])
        for held in _held(module.get_submodule(".".join(parts[:depth]))):
            if inside in held:
                return held[inside]
    raise SigmaTuneError(
        f"the weight {name} has no data (device meta), so the network has no identity; load it from its files, or offload it "
        "with accelerate or diffusers."
    )


def _held(module: torch.nn.Module) -> Iterator[Mapping[str, torch.Tensor]]:
    hook = getattr(module, "_hf_hook", None)
    for one in (hook, *getattr(hook, "hooks", ())):  # accelerate chains several in a SequentialHook
        held = getattr(one, "weights_map", None)
        if held is not None:
            yield held
