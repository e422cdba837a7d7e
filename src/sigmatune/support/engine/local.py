"""The engine of one process: its threads, divided among the pieces (:mod:`sigmatune.support.threads`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sigmatune.support.engine.base import Engine, Held, Map, Tick, no_tick
from sigmatune.support.threads import Worker, side_by_side


class Local(Engine):
    """Runs pieces in this process."""

    def run(
        self,
        function: Callable[..., Any],
        held: Sequence[Held],
        pieces: Sequence[Any],
        *,
        at_once: int = 1,
        tick: Tick = no_tick,
    ) -> Iterator[Any]:
        here = [one.here for one in held]
        with self.abreast(at_once, here[0] if here and at_once > 1 else None) as spread:
            yield from spread(lambda piece: function(*here, piece, tick), pieces)

    def abreast(self, parts: int, worker: Worker | None = None) -> AbstractContextManager[Map]:
        return nullcontext(map) if worker is None else side_by_side(parts, worker)


LOCAL = Local()
"""The one that is used where none is named; it holds nothing, so it never has to be closed."""
