"""Modules and names that the documentation showed and that have moved: they work as before, and warn what to write instead.

How something goes away is said in ``docs/stability.md``. An entry of the tables is deleted one minor version after it came in.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

REMOVED = "0.3"

MODULES = {
    "sigmatune.denoiser": "sigmatune.core.denoiser",
    "sigmatune.errors": "sigmatune.support.errors",
    "sigmatune.pixels": "sigmatune.support.pixels",
    "sigmatune.rng": "sigmatune.core.rng",
    "sigmatune.schedule": "sigmatune.core.schedule",
    "sigmatune.solver": "sigmatune.core.solver",
}


class _Moved:
    """A finder and loader; without their abstract classes, whose imports would take a tenth of the start of every command."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MODULES else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        _warn(spec.name, MODULES[spec.name])
        module = import_module(MODULES[spec.name])
        spec.loader_state = {name: getattr(module, name) for name in ("__spec__", "__loader__")}
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module is there already; it keeps its own specification, which the import system has replaced."""
        assert module.__spec__ is not None
        for name, value in module.__spec__.loader_state.items():
            setattr(module, name, value)


def forward_modules() -> None:
    """Lets moved modules be imported by their old names."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())


def forward_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that gives names under which something was found before.

    Args:
        module: The module's ``__name__``.
        names: New names by old ones.
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn(f"{module}.{name}", f"{module}.{names[name]}")
        return getattr(import_module(module), names[name])

    return __getattr__


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes in {REMOVED}.", DeprecationWarning, stacklevel=3)
