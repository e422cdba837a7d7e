"""What the Ray engine costs beside the network: ``python benchmarks/engine_overhead.py``.

The network sleeps for 50 ms a call, so that workers beyond the machine's cores cost nothing but their scheduling. A piece is
that of ``evaluate``: 64 images in four micro-batches of four calls each, 0.8 s of sleep. It returns as many bytes as a real
piece: the features of the default extractor, of random directions and of the spectrum. They are made once in each worker,
because a real one has them from its network. For each number of workers a cluster with as many slots is started, and the clock
after all workers. Each number of workers does the same pieces per worker in every round; efficiency is the sleep of one worker
over the time of a round, from the command's asking for the first piece to its having the last result.

What the processors do meanwhile is counted by kind of process, for all rounds: the command, Ray's own processes, the workers;
and for workers that wait, too. Where the sum comes near to the machine's cores they are the limit, not the engine.

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
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import ray

from sigmatune.support.engine.ray_cluster import Ray

WORKERS = (1, 4, 16, 64)
CALLS, MICRO_BATCHES, SECONDS = 4, 4, 0.05
"""A piece: 64 images in four micro-batches of 16, four calls each."""

EACH = 6
"""Pieces of a worker."""

IDLE = 5.0
"""Seconds for which idle workers are watched."""

ROUNDS = 5
"""The fastest counts, as other processes only slow down."""


@lru_cache(maxsize=1)
def features(size: int) -> Any:
    """Random numbers of a size in bytes."""
    return np.frombuffer(os.urandom(size), dtype=np.uint8)


def slept(piece: tuple[bytes, int], tick: Any) -> Any:
    """A piece whose network sleeps; returns as many bytes as it is asked for."""
    for _ in range(CALLS * MICRO_BATCHES):
        time.sleep(SECONDS)
        tick(1)
    return features(piece[1])


def cpu_seconds() -> dict[str, float]:
    """CPU seconds so far of this process, of Ray's own processes below it, and of the workers among them."""
    parents, found = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            found[int(folder.name)] = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
            parents[int(folder.name)] = int(fields[1])
    seconds = {"command": found[os.getpid()], "ray": 0.0, "workers": 0.0}
    for process, spent in found.items():
        above = process
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and process != above:
            with suppress(OSError):
                name = (Path("/proc") / str(process) / "cmdline").read_bytes()
                seconds["workers" if name.startswith(b"ray::") else "ray"] += spent
    return seconds


def busy(before: dict[str, float], seconds: float) -> dict[str, float]:
    """How many cores each kind of process has kept busy for some seconds."""
    after = cpu_seconds()
    return {kind: (after[kind] - before[kind]) / seconds for kind in before}


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
    ray.init(
        address="local", num_cpus=workers, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False
    )
    with Ray() as engine:
        began = time.perf_counter()
        list(engine.run(function, [], [(b"", 1)]))
        while engine.ready < workers:
            time.sleep(0.1)
        started, seconds = time.perf_counter() - began, []
        list(engine.run(function, [], pieces[:workers]))  # every worker has made its bytes
        before = cpu_seconds()
        time.sleep(IDLE)
        idle, before = busy(before, IDLE), cpu_seconds()
        for _ in range(ROUNDS):
            began = time.perf_counter()
            list(engine.run(function, [], pieces))
            seconds.append(time.perf_counter() - began)
        took, cores = min(seconds), busy(before, sum(seconds))
    ray.shutdown()
    return {
        "workers": workers, "pieces": len(pieces), "seconds": took, "all_seconds": seconds, "efficiency": ideal / took,
        "start_seconds": started, "busy_cores": cores, "busy_cores_idle": idle,
        "driver_cpu_ms_per_piece": 1000 * cores["command"] * sum(seconds) / ROUNDS / len(pieces),
    }  # fmt: skip


def main() -> None:
    """Measures."""
    from guard import machine

    file = Path(__file__).parent / "results" / "engine_overhead.json"
    load = os.getloadavg()[0]
    sent, received = real_bytes()
    rows = []
    for workers in WORKERS:
        rows.append(measured(workers, sent, received))
        print(rows[-1], flush=True)
    result = {
        "benchmark": "benchmarks/engine_overhead.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {**machine(), "ray": ray.__version__},
        "load": load,
        "images_per_piece": 64, "calls": CALLS, "call_seconds": SECONDS, "pieces_per_worker": EACH,
        "bytes_per_image": {"sent": sent / 64, "received": received / 64},
        "rows": rows,
    }  # fmt: skip
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
