"""Named options of families and solvers: keyword-only parameters with defaults, checked before anything is computed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from sigmatune.support.errors import SigmaTuneError, check_kind, unknown_name


def known_options(build: Callable[..., Any], *, without: Collection[str] = ()) -> dict[str, Any]:
    """The keyword-only parameters of a builder with their default values, except those that are not options."""
    return {name: default for name, default in _keyword_only(build) if name not in without}


@lru_cache(maxsize=256)
def _keyword_only(build: Callable[..., Any]) -> tuple[tuple[str, Any], ...]:
    """Names and defaults; kept, because reading a signature takes longer than building most schedules."""
    parameters = inspect.signature(build).parameters.values()
    return tuple((p.name, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY)


def full_options(
    owner: str, known: Mapping[str, Any], given: Mapping[str, Any], *, also: Collection[str] = ()
) -> dict[str, Any]:
    """Completes options with the defaults; if a default is a number, the given value must be one, too.

    Args:
        owner: The owner of the options, for messages.
        known: The options with their defaults.
        given: The given options.
        also: Other names to suggest for an unknown option.

    Raises:
        SigmaTuneError: for an unknown option, with the nearest known one, or one that is not a finite number.
    """
    check_kind(given, Mapping, f"the options of {owner} are a dictionary")
    full = dict(known)
    for name, value in given.items():
        if name not in known:
            raise unknown_name(f"{owner} option", name, [*known, *also])
        numeric = isinstance(known[name], int | float)
        full[name] = number(value, name, type(known[name])) if numeric else value
    return full


def number(value: Any, name: str, kind: type = float) -> float:
    """Returns a finite number as a plain ``float``, or as an ``int`` where ``kind`` is ``int``.

    Raises:
        SigmaTuneError: otherwise.
    """
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not real or not np.isfinite(value) or (kind is int and int(value) != value):
        raise SigmaTuneError(f"{name} must be a {'whole' if kind is int else 'finite'} number, not {value!r}.")
    return int(value) if kind is int else float(value)


def positive(**options: float) -> None:
    """Raises SigmaTuneError, naming the option, unless all options are positive and finite."""
    for name, value in options.items():
        if not 0 < value < np.inf:
            raise SigmaTuneError(f"{name} must be a positive number, not {value!r}.")


def plain(value: Any) -> Any:
    """Converts a value to JSON types, recursively: arrays and tuples become lists, numpy numbers Python numbers."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def recordable(**given: Any) -> dict[str, Any]:
    """The given options as a file records them: JSON values only, without None, an empty text and what has no end.

    >>> recordable(prompts=("a cat",), guidance=7.5, interval=(0.0, float("inf")), image=object(), label=None)
    {'prompts': ['a cat'], 'guidance': 7.5}
    """
    return {name: plain(value) for name, value in given.items() if _is_json(plain(value))}


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    return (isinstance(value, str | bool | int) and value != "") or (
        isinstance(value, float) and bool(np.isfinite(value))
    )
