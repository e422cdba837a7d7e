"""Parallel work on a CPU: one thread for each part instead of all threads for one part after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from sigmatune.denoiser import Denoiser


@contextmanager
def side_by_side(parts: int, model: Denoiser) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yields a ``map`` that divides torch's threads among up to ``parts`` calls at a time, in order.

    On a CPU this is faster than one call after the other on all threads, and, unlike threads that wait for one another,
    it does not suffer from another busy process. Elsewhere, and for a model that does not allow concurrent calls, it is
    the ordinary ``map``.
    """
    threads = torch.get_num_threads()
    jobs = min(threads, parts if model.concurrent and model.device.type == "cpu" else 1)
    if jobs <= 1:
        yield map
        return
    torch.set_num_threads(threads // jobs)
    try:
        with ThreadPoolExecutor(jobs) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)
