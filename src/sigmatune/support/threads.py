"""Parallel work on a CPU: one thread for each part instead of all threads for one part after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Worker(Protocol):
    """What works on the parts: it says where it computes, and whether it may be asked twice at a time."""

    @property
    def concurrent(self) -> bool:
        """Whether several threads may call it at once."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...


@contextmanager
def side_by_side(parts: int, worker: Worker) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yields a ``map`` that divides torch's threads among up to ``parts`` calls at a time, in order.

    On a CPU this is faster than one call after the other on all threads, and, unlike threads that wait for one another,
    it does not suffer from another busy process. Elsewhere, and for a model that does not allow concurrent calls, it is
    the ordinary ``map``.
    """
    import torch

    threads = torch.get_num_threads()
    jobs = min(threads, parts if worker.concurrent and worker.device.type == "cpu" else 1)
    if jobs <= 1:
        yield map
        return
    torch.set_num_threads(threads // jobs)
    try:
        with ThreadPoolExecutor(jobs) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)
