"""Plans in other programs: diffusers pipelines, ComfyUI, other loops, and a conformance suite."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sigmatune.interop import conformance as conformance
    from sigmatune.interop import diffusers as diffusers
    from sigmatune.interop import exports as exports
    from sigmatune.interop import k_diffusion as k_diffusion
    from sigmatune.interop import resolution as resolution
    from sigmatune.interop import tables as tables

_MODULES = ("conformance", "diffusers", "exports", "k_diffusion", "resolution", "tables")


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'sigmatune.interop' has no attribute {name!r}")
    return import_module(f"sigmatune.interop.{name}")


def __dir__() -> list[str]:
    return list(_MODULES)
