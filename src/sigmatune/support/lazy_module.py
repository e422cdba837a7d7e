"""A module that is in ``sys.modules`` before anyone uses it, and whose code runs at its first use.

Some libraries find a class of ours by the name of its module in ``sys.modules`` and import nothing themselves. The
module must be there after ``import sigmatune``, which must not import what the module needs.
"""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

_LOADING = threading.RLock()


class LazyModule(ModuleType):
    """Becomes the module itself when a name of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # what walks sys.modules looks for these
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _LOADING:
            if type(self) is LazyModule:
                self.__class__ = ModuleType  # type: ignore[assignment]
                try:
                    self.__loader__.exec_module(self)  # type: ignore[union-attr]
                except BaseException:
                    sys.modules.pop(self.__name__, None)  # the next import tries again and says what is wrong
                    raise
        return getattr(self, name)


def announce(name: str, file: Path) -> None:
    """Puts a module into ``sys.modules``, unless it is there.

    Args:
        name: Its full name.
        file: Its source.
    """
    if name in sys.modules:
        return
    module, loader = LazyModule(name), SourceFileLoader(name, str(file))
    spec = ModuleSpec(name, loader, origin=str(file))
    spec.has_location = True
    module.__spec__, module.__loader__, module.__file__ = spec, loader, str(file)
    module.__package__ = name.rpartition(".")[0]
    sys.modules[name] = module
