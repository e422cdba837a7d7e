"""A named collection that knows what to say about a name that is not in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from sigmatune.errors import unknown_name

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Maps names to members; an unknown name raises SigmaTuneError with the nearest known ones.

    Args:
        kind: What a member is called in messages, such as ``"solver"``.
        members: The members by name.
        aliases: Other names for members.
        make: Makes a member out of a name that describes one, or returns None; such members are not listed.
        more: Another registry, whose members are found here, too, and are listed there.
    """

    def __init__(
        self,
        kind: str,
        members: Mapping[str, T],
        aliases: Mapping[str, str] | None = None,
        *,
        make: Callable[[str], T | None] = lambda name: None,
        more: Registry[T] | None = None,
    ) -> None:
        self.kind = kind
        self._members = dict(members)
        self.aliases = dict(aliases or {})
        self._make, self._more = make, more

    def __getitem__(self, name: str) -> T:
        found = self._found(name)
        if found is None:
            raise unknown_name(self.kind, name, self.names)
        return found

    @property
    def names(self) -> list[str]:
        """All names that are known, those of the other registry included."""
        return [*self._members, *self.aliases, *(self._more.names if self._more is not None else ())]

    def _found(self, name: str) -> T | None:
        found = self._members.get(self.aliases.get(name, name))
        if found is None:
            found = self._make(name)
        return found if found is not None or self._more is None else self._more._found(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._found(name) is not None
