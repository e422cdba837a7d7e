"""What the Ray engine costs beside the network: ``python benchmarks/engine_overhead.py``.

The network sleeps for 50 ms a call, so that workers beyond the machine's cores cost nothing but their scheduling, and returns
what a real piece of 64 images returns: the features of the default extractor, of random directions and of the spectrum. Each
number of workers does the same pieces per worker; efficiency is the time of one worker's pieces in sleep over the time of all.
The bytes are those that the driver sends and receives for a real piece of ``digits``, images not kept.

Needs ``pip install 'sigmatune[ray,eval]'``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["PYTHONPATH"] = os.pathsep.join(
    [os.path.dirname(os.path.abspath(__file__)), os.environ.get("PYTHONPATH", "")]  # noqa: PTH100, PTH120 - before any import
)

import datetime
import json
import logging
import pickle
import time
from pathlib import Path
from typing import Any

import ray

from sigmatune.support.engine.ray_cluster import Ray

WORKERS = (1, 4, 16, 64)
CALLS, MICRO_BATCHES, SECONDS = 4, 4, 0.05
"""A piece: 64 images in four micro-batches of 16, four calls each."""

EACH = 6
"""Pieces of a worker."""

ROUNDS = 5
"""The fastest counts, as other processes only slow down."""


def slept(piece: tuple[bytes, int], tick: Any) -> bytes:
    """A piece whose network sleeps; returns as many bytes as it is asked for."""
    for _ in range(CALLS * MICRO_BATCHES):
        time.sleep(SECONDS)
        tick(1)
    return os.urandom(piece[1])


def real_bytes() -> tuple[int, int]:
    """Bytes of a real piece and of its result."""
    from sigmatune.evaluation import shards

    model, extractors, piece = real_piece("digits")
    return len(pickle.dumps(piece)), len(pickle.dumps(shards._made(model, extractors, piece, lambda rows: None)))


def real_piece(name: str, **options: Any) -> tuple[Any, list[Any], Any]:
    """A model, loaded with options, extractors, and a piece of 64 images."""
    import sigmatune as st
    from sigmatune.evaluation import shards
    from sigmatune.evaluation.extractors import extractor
    from sigmatune.evaluation.extractors.raw_pixels import Projections, Rings

    model = st.load(name, **options)
    plan = st.compile_plan(st.build_schedule("karras", CALLS, model.path), "euler", model)
    extractors = [extractor("efficientnet-lite0", tuple(model.pixel_shape)), Projections(), Rings()]
    return model, extractors, shards._Piece(plan, 0, range(64), 64, None, (0, 1, 2), keep=False)


def measured(workers: int, sent: int, received: int) -> dict[str, Any]:
    """The time of a number of workers, started and warm, for their pieces."""
    from engine_overhead import slept as function  # by its import path, not as the main program's

    pieces = [(os.urandom(sent), received)] * (EACH * workers)
    ideal = EACH * CALLS * MICRO_BATCHES * SECONDS
    with Ray(workers=workers) as engine:
        began = time.perf_counter()
        list(engine.run(function, [], [(b"", 1)]))
        while engine._idle.qsize() < workers:
            time.sleep(0.1)
        started, seconds, before = time.perf_counter() - began, [], time.process_time()
        for _ in range(ROUNDS):
            began = time.perf_counter()
            list(engine.run(function, [], pieces))
            seconds.append(time.perf_counter() - began)
        took, driver = min(seconds), (time.process_time() - before) / ROUNDS
    return {
        "workers": workers, "pieces": len(pieces), "seconds": took, "all_seconds": seconds, "efficiency": ideal / took,
        "start_seconds": started,
        "driver_cpu_ms_per_piece": 1000 * driver / len(pieces),
    }  # fmt: skip


def main() -> None:
    """Measures."""
    from guard import machine

    file = Path(__file__).parent / "results" / "engine_overhead.json"
    ray.init(
        address="local",
        num_cpus=max(WORKERS),
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False,
    )
    sent, received = real_bytes()
    rows = []
    for workers in WORKERS:
        rows.append(measured(workers, sent, received))
        print(rows[-1], flush=True)
    result = {
        "benchmark": "benchmarks/engine_overhead.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {**machine(), "ray": ray.__version__},
        "load": os.getloadavg()[0],
        "images_per_piece": 64, "calls": CALLS, "call_seconds": SECONDS, "pieces_per_worker": EACH,
        "bytes_per_image": {"sent": sent / 64, "received": received / 64},
        "rows": rows,
    }  # fmt: skip
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
