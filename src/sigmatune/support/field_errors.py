"""Pydantic's errors in one sentence: the place in the file, the value there, and the correction.

pydantic reports every branch of a union and adds names of its own types to the place. Here a place is the path through
the file to the value, and only the branch that got furthest counts.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from sigmatune.support.errors import QUOTED, shortened, shown, visible

Place = tuple[str | int, ...]

_CONTAINERS = {"list_type", "tuple_type", "dict_type", "model_type", "model_attributes_type"}

_WANTED = {
    "float_type": "a number without quotes",
    "float_parsing": "a number",
    "int_type": "a whole number without quotes",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "a text in quotes",
    "bool_type": "true or false",
    "list_type": "a list [...]",
    "tuple_type": "a list [...]",
    "dict_type": "an object {...}",
    "model_type": "an object {...}",
    "model_attributes_type": "an object {...}",
    "none_required": "null",
    "finite_number": "a finite number",
    "int_parsing_size": "a smaller whole number",
}

_BOUNDS = {"greater_than": ("gt", "above"), "greater_than_equal": ("ge", "of at least"),
           "less_than": ("lt", "below"), "less_than_equal": ("le", "of at most")}  # fmt: skip


def problems(error: ValidationError, raw: Any, model: type[BaseModel]) -> str:
    """States the first problem, and the number of further ones.

    Args:
        error: Pydantic's error.
        raw: The validated values.
        model: The model, for its keys.
    """
    by_field: dict[Place, dict[Place, tuple[Place, Any]]] = {}
    for one in error.errors(include_url=False):
        place = _place(one["loc"], raw, missing=one["type"] == "missing")
        branch = tuple(part for part in one["loc"] if isinstance(part, str) and part not in place)
        by_field.setdefault(_field(place), {}).setdefault(branch, (place, one))  # the first of each branch
    best = [max(branches.values(), key=lambda pair: _depth(*pair)) for branches in by_field.values()]
    place, first = best[0]
    more = f"; and {len(best) - 1} more" if len(best) > 1 else ""
    colon = ":" if first["type"] == "extra_forbidden" else ""
    return f"{named(place)}{colon} {_said(place, first, model)}{more}"


def named(place: Sequence[str | int]) -> str:
    """A place in the usual notation, ``network_times.3``; the file itself for the root."""
    return ".".join(shortened(visible(str(part)), QUOTED) for part in place) or "the file"


def _place(loc: Place, raw: Any, *, missing: bool) -> Place:
    """The parts of a location that lead through the file; those between are pydantic's names of types."""
    place: list[str | int] = []
    value = raw
    for part in loc:
        inside = _inside(value, part)
        if inside:
            value = inside[0]
            place.append(part)
    return (*place, loc[-1]) if missing and loc else tuple(place)


def _inside(value: Any, part: str | int) -> list[Any]:
    """The value under a key or an index, in a list of one; an empty list for none."""
    if isinstance(value, Mapping):
        return [value[part]] if part in value else []
    return (
        list(value[part : part + 1]) if isinstance(value, list | tuple) and isinstance(part, int) and part >= 0 else []
    )


def _field(place: Place) -> Place:
    """The place up to the first index: the field of a union."""
    first = next((i for i, part in enumerate(place) if isinstance(part, int)), len(place))
    return place[:first]


def _depth(place: Place, one: Any) -> tuple[tuple[int, ...], bool]:
    return tuple(part for part in place if isinstance(part, int)), one["type"] not in _CONTAINERS


def _said(place: Place, one: Any, model: type[BaseModel]) -> str:
    kind, given, context = one["type"], one["input"], one.get("ctx", {})
    if kind == "missing":
        return "is missing; add it"
    if kind == "extra_forbidden":
        return f"there is no such key; {_nearest(place, model)}"
    wanted = _WANTED.get(kind)
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        wanted = f"a number {words} {shown(context[key])}"
    elif kind == "literal_error":
        wanted = context["expected"]
    elif kind in ("too_short", "too_long"):
        key, words = ("min_length", "least") if kind == "too_short" else ("max_length", "most")
        wanted = f"a list of at {words} {context[key]}"
    if wanted is not None:
        return f"must be {wanted}, not {shown(given)}"
    text = str(one["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"is {shown(given)}: {shortened(visible(text), 2 * QUOTED)}"


def _nearest(place: Place, model: type[BaseModel]) -> str:
    """The known key that is most like an unknown one, or all of them."""
    section: Any = model
    for part in place[:-1]:
        section = getattr(getattr(section, "model_fields", {}).get(part), "annotation", None)
    fields = getattr(section, "model_fields", {})
    known = [field.alias or name for name, field in fields.items()]
    near = difflib.get_close_matches(str(place[-1])[:QUOTED] if place else "", known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(known)}" if known else "leave it out"
