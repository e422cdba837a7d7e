"""The one exception that means "your input, not our bug": its message is one sentence that says what to pass instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SigmaTuneError(ValueError):
    """Raised for bad input. The command line prints the message and exits with code 2."""


class PlanMismatch(UserWarning):
    """A plan is used with another model or solver than it was made for, so its evidence does not carry over."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> SigmaTuneError:
    """Builds the error for a name that is not in a registry, with the nearest names first.

    Args:
        kind: What the name stands for, such as ``"solver"``.
        name: The name that was asked for.
        known: The names that exist.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
    if near:
        return SigmaTuneError(f"there is no {kind} {name!r}; did you mean {' or '.join(map(repr, near))}?")
    rest = f"the known ones are {', '.join(names)}" if names else "there are none"
    return SigmaTuneError(f"there is no {kind} {name!r}; {rest}.")
