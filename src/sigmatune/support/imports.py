"""Functions by their import path, ``package.module:function``: what another process can find again.

A module may lie in the current folder, as for ``python -m``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sigmatune.support.errors import SigmaTuneError


def imported(text: str) -> Any:
    """What ``module:name`` names; a name may have dots.

    Raises:
        SigmaTuneError: if it does not exist.
    """
    module, _, name = text.partition(":")
    module = module.removesuffix(".py")
    try:
        package = module.partition(".")[0]
        if find_spec(package) is None and (Path(f"{package}.py").is_file() or Path(package).is_dir()):
            sys.path.append(str(Path.cwd()))
        thing: Any = import_module(module)
        for part in name.split("."):
            thing = getattr(thing, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise SigmaTuneError(
            f"there is no function {text!r} ({error}); write module:function of a module that is installed or lies in "
            "the current folder."
        ) from None
    return thing


def import_path(thing: Any) -> str | None:
    """The import path of a function; None for a closure, a lambda, and what the main program defines."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if module in (None, "__main__") or not name or "<" in name:
        return None
    home: Any = sys.modules.get(module)
    for part in name.split("."):
        home = getattr(home, part, None)
    return f"{module}:{name}" if home is thing else None
