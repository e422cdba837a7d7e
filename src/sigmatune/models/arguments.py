"""The arguments of a network besides state and t, for one or more rows of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sigmatune.support.errors import SigmaTuneError

TABLES = ("rotary", "freqs")
"""Parts of the names of arguments that hold tables of positions."""


class RowList(list[Any]):
    """A list of one tensor for each row, for networks that take rows of different sizes so."""


@dataclass(frozen=True)
class Arguments:
    """The arguments besides state and t, for one or more rows.

    Attributes:
        tree: The arguments; dictionaries, lists and tuples may be nested.
        by_row: For every tensor in it, in traversal order, whether it has a row for each row of the batch; position tables
            do not.
    """

    tree: Any
    by_row: tuple[bool, ...]

    @classmethod
    def of(cls, tree: Any, rows: int) -> Arguments:
        """The condition of a batch of some rows; tables of positions are the same for all rows, whatever their size."""
        flags: list[bool] = []
        for part in tree.values():
            for key, value in part.items() if isinstance(part, Mapping) else (("", part),):
                table = any(word in key for word in TABLES)
                flags += [not table and x.ndim > 0 and x.shape[0] == rows for x in cls(value, ()).tensors]
        return cls(tree, tuple(flags))

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Every tensor in it, in traversal order, those of :class:`RowList` left out."""
        tensors: list[torch.Tensor] = []
        _leaves(self.tree, tensors.append, list)
        return tensors

    @property
    def numbers(self) -> list[torch.Tensor]:
        """Every tensor in it."""
        tensors = self.tensors
        return [*tensors, *(x for rows in _row_lists(self.tree) for x in rows)]

    @property
    def rest(self) -> str:
        """Everything else in it, as text, with the shapes of the tensors."""
        return repr(_leaves(self.tree, lambda x: tuple(x.shape), lambda rows: [tuple(x.shape) for x in rows]))

    def picked(self, rows: Sequence[int]) -> Arguments:
        """The condition of some rows."""
        by_row, index = iter(self.by_row), list(rows)

        def chosen(listed: RowList) -> RowList:
            return RowList(listed[i] for i in index)

        return Arguments(_leaves(self.tree, lambda x: x[index] if next(by_row) else x, chosen), self.by_row)

    @staticmethod
    def joined(parts: Sequence[Arguments]) -> Arguments:
        """Concatenates the rows of several conditions.

        Raises:
            SigmaTuneError: if their tensors differ in size.
        """
        lists = [part.tensors for part in parts]
        by_row, whole = parts[0].by_row, iter(zip(*lists, strict=True))
        if any(x.shape[1:] != same[0].shape[1:] for same in zip(*lists, strict=True) for x in same):
            raise SigmaTuneError(
                "the prompts encode to tensors of different sizes; have the pipeline pad them to one length, as "
                "max_sequence_length= does."
            )
        mine, listed = iter(by_row), iter(zip(*(_row_lists(part.tree) for part in parts), strict=True))

        def join(_: torch.Tensor) -> torch.Tensor:
            same = next(whole)
            return torch.cat(same) if next(mine) else same[0]

        def chain(_: RowList) -> RowList:
            return RowList(x for rows in next(listed) for x in rows)

        return Arguments(_leaves(parts[0].tree, join, chain), by_row)


def _row_lists(tree: Any) -> list[RowList]:
    lists: list[RowList] = []
    _leaves(tree, lambda x: x, lists.append)
    return lists


def _leaves(value: Any, change: Callable[[torch.Tensor], Any], rows: Callable[[RowList], Any]) -> Any:
    """Maps one function over every tensor in the arguments, and another over every list of rows."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, RowList):
        return rows(value)
    if isinstance(value, Mapping):
        return {key: _leaves(item, change, rows) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_leaves(item, change, rows) for item in value)
    return value
