"""A plan where people run models: diffusers pipelines, ComfyUI, other loops, and a suite that checks whether it arrives."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sigmatune.interop import diffusers as diffusers

_MODULES = ("conformance", "diffusers", "exports", "resolution", "tables")


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'sigmatune.interop' has no attribute {name!r}")
    return import_module(f"sigmatune.interop.{name}")


def __dir__() -> list[str]:
    return list(_MODULES)
