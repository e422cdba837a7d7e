"""A named collection that suggests the nearest names for an unknown name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from sigmatune.support.errors import SigmaTuneError, unknown_name

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Maps names to members; an unknown name raises SigmaTuneError with the nearest known ones.

    Iteration, ``len``, ``in``, ``get`` and ``dict(registry)`` cover the same members under their own names. Square
    brackets also accept aliases and names that describe a member, like a dictionary with a ``__missing__``;
    :meth:`knows` tests a name.

    Args:
        kind: The name of a member in messages, such as ``"solver"``.
        members: The members by name.
        aliases: Other names for members.
        make: Builds a member from a name that describes one, or returns None; such members are not listed.
    """

    def __init__(
        self,
        kind: str,
        members: Mapping[str, T],
        aliases: Mapping[str, str] | None = None,
        *,
        make: Callable[[str], T | None] = lambda name: None,
    ) -> None:
        self.kind = kind
        self._members = dict(members)
        self.aliases = dict(aliases or {})
        self._make = make

    def __getitem__(self, name: str) -> T:
        member = self._member(name)
        if member is None:
            raise unknown_name(self.kind, name, [*self._members, *self.aliases])
        return member

    def _member(self, name: str) -> T | None:
        if not isinstance(name, str):  # some of them describes no member either
            return None
        member = self._members.get(self.aliases.get(name, name))
        return self._make(name) if member is None else member

    def knows(self, name: str) -> bool:
        """Whether a name refers to a member: its own name, an alias, or a description."""
        try:
            return self._member(name) is not None
        except SigmaTuneError:  # it has the form of a description, but describes nothing
            return False

    def get(self, name: str, default: Any = None) -> Any:
        """The member that is listed under a name, or the default."""
        return self._members.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members
