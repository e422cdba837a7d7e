"""The state of the page: everything that a user chose, as one value, and as a link that restores it.

The link is a query string, ``?model=digits&solver=dpmpp2m&calls=8&levels=inf,3.2,0.4``: its numbers are the shortest that
read back to the same float64, so the page that it opens has the same levels bit for bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from sigmatune.core.schedule import whole
from sigmatune.support.errors import SigmaTuneError, shown

MOST_CALLS, MOST_NOISES = 100, 16
MOST_TEXT = 2000
"""Most characters of a text field."""


@dataclass(frozen=True)
class PageState:
    """What a page shows.

    Attributes:
        model: The argument of :func:`sigmatune.load`.
        solver: A solver of the registry.
        calls: Network evaluations per image that the plan may take.
        family: A family with its options, ``karras:rho=7``.
        levels: The positive levels if they were moved or typed; empty for the family's.
        seed, noises: The noises 0 to ``noises`` - 1 of a seed.
        labels, prompts, negative: Conditions as typed: labels with spaces, prompts one per line, a negative prompt.
        guidance: The guidance scale as typed; empty for the model's own.
    """

    model: str = "digits"
    solver: str = "dpmpp2m"
    calls: int = 6
    family: str = "karras"
    levels: tuple[float, ...] = ()
    seed: int = 0
    noises: int = 8
    labels: str = ""
    prompts: str = ""
    negative: str = ""
    guidance: str = ""

    def __post_init__(self) -> None:
        whole(self.calls, "calls", most=MOST_CALLS)
        whole(self.noises, "images", most=MOST_NOISES)
        if len(self.levels) > MOST_CALLS:
            raise SigmaTuneError(f"the page shows at most {MOST_CALLS} levels, not {len(self.levels)}.")
        if not 0 <= self.seed < 2**64:
            raise SigmaTuneError(f"the seed must be a whole number in [0, 2^64), not {self.seed}.")
        for name in ("model", "solver", "family", "labels", "prompts", "negative", "guidance"):
            if len(getattr(self, name)) > MOST_TEXT:
                raise SigmaTuneError(f"{name} has more than {MOST_TEXT:,} characters; shorten it.")

    def link(self) -> str:
        """The query string that restores this state; :meth:`from_link` is its inverse.

        Empty texts are left out. Defaults are not, because the studio that opens the link may have been started with others.
        """
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "levels"}
        parts = {name: str(value) for name, value in given.items() if value != ""}
        if self.levels:
            parts["levels"] = written(self.levels)
        return "?" + urlencode(parts)

    @classmethod
    def from_link(cls, query: Mapping[str, str], default: PageState) -> PageState:
        """Reads a query string's fields; those that are absent keep their defaults, others are ignored.

        Raises:
            SigmaTuneError: for a value that is none.
        """
        known = {field.name for field in fields(cls)} & set(query)
        base = replace(default, levels=()) if known else default
        read: dict[str, Any] = {name: query[name].strip() for name in known - {"levels", "calls", "seed", "noises"}}
        read |= {name: integer(query[name], name) for name in known & {"calls", "seed", "noises"}}
        if "levels" in known:
            read["levels"] = tuple(numbers(query["levels"], "levels"))
        return replace(base, **read)

    def condition(self) -> dict[str, Any]:
        """The conditions as arguments of :func:`sigmatune.load`, without those that were not given.

        Raises:
            SigmaTuneError: for labels that are not whole numbers, or a guidance that is no number.
        """
        prompts = [line.strip() for line in self.prompts.splitlines() if line.strip()]
        given: dict[str, Any] = {
            "labels": [integer(word, "a label") for word in self.labels.replace(",", " ").split()],
            "prompts": prompts,
            "negative_prompt": self.negative.strip(),
            "guidance": number(self.guidance, "the guidance") if self.guidance.strip() else None,
        }
        return {name: value for name, value in given.items() if value not in (None, "", [])}


def written(levels: Sequence[float]) -> str:
    """Levels as a text from which :func:`numbers` reads the same float64."""
    return ",".join(repr(float(level)) for level in levels)


def integer(text: Any, name: str) -> int:
    """A whole number that was typed.

    Raises:
        SigmaTuneError: if it is none.
    """
    try:
        value = float(text)
        if value.is_integer():
            return int(text) if isinstance(text, str) and text.strip().lstrip("+-").isdigit() else int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise SigmaTuneError(f"{name} must be a whole number, not {'empty' if text in (None, '') else shown(text)}.")


def number(text: str, name: str) -> float:
    """A number that was typed.

    Raises:
        SigmaTuneError: if it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SigmaTuneError(f"{name} must be a number such as 7.5, not {shown(text.strip())}.")
    return value


def numbers(text: str, name: str) -> list[float]:
    """Numbers that were typed, or pasted from Python: separated by commas, spaces or lines, brackets do not matter.

    Raises:
        SigmaTuneError: if something among them is no number.
    """
    words = re.sub(r"\b(tensor|array)(?=\()|[][(),;]", " ", text).split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if not values or any(math.isnan(value) for value in values):
        raise SigmaTuneError(f"{name} must be numbers such as 14.6, 2.1, 0.3, not {shown(text)}.")
    return values
