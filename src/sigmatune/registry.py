"""A named collection that knows what to say about a name that is not in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from sigmatune.errors import unknown_name

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Maps names to members; an unknown name raises SigmaTuneError with the nearest known ones.

    Args:
        kind: What a member is called in messages, such as ``"solver"``.
        members: The members by name.
        aliases: Other names for members.
    """

    def __init__(self, kind: str, members: Mapping[str, T], aliases: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._members = dict(members)
        self.aliases = dict(aliases or {})

    def __getitem__(self, name: str) -> T:
        key = self.aliases.get(name, name)
        if key not in self._members:
            raise unknown_name(self.kind, name, [*self._members, *self.aliases])
        return self._members[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members or name in self.aliases
