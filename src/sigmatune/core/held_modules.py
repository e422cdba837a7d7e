"""What a function uses: modules, whose weights belong to its identity, and numbers, whose change means another function."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from sigmatune.core.digests import module_of

DEEPEST, MOST = 4, 1000
"""Depth of the search for modules, and most entries of a list that it visits."""


def modules_held(function: Any) -> list[torch.nn.Module]:
    """The modules that a function or object uses, in a fixed order: bound, closed over, or named globally."""
    modules: dict[int, torch.nn.Module] = {}
    seen: set[int] = set()

    def look(thing: Any, depth: int) -> None:
        module = module_of(thing)
        if module is not None:
            modules.setdefault(id(module), module)
        elif depth <= DEEPEST and id(thing) not in seen:
            seen.add(id(thing))
            for part in _parts(thing):
                look(part, depth + 1)

    look(function, 0)
    inner = {id(part) for module in modules.values() for part in list(module.modules())[1:]}
    return [module for key, module in modules.items() if key not in inner]


def floats_held(function: Any) -> list[float]:
    """The floats that a function or object holds itself: attributes, variables it closes over, defaults, global names.

    Whole numbers may be counters.
    """
    floats = [part for part in _parts(function) if type(part) is float]
    if isinstance(function, functools.partial):
        return floats + floats_held(function.func)
    return floats + floats_held(function.__self__) if isinstance(function, types.MethodType) else floats


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, types.MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, types.FunctionType):
        yield from (thing.__wrapped__,) if hasattr(thing, "__wrapped__") else ()
        yield from _cells(thing)
        yield from thing.__defaults__ or ()
        yield from (thing.__kwdefaults__ or {}).values()
        yield from (thing.__globals__[name] for name in _names(thing.__code__) if name in thing.__globals__)
    elif isinstance(thing, list | tuple | set | frozenset | dict):
        yield from islice(thing.values() if isinstance(thing, dict) else thing, MOST)
    elif not isinstance(thing, types.ModuleType | type | torch.Tensor | np.ndarray) and hasattr(thing, "__dict__"):
        yield from vars(thing).values()
        call = vars(type(thing)).get("__call__")
        yield from (call,) if isinstance(call, types.FunctionType) else ()


def _cells(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable without a value
            continue


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names in a function's code and in those of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
