"""What the radial average costs beside the transform that it needs: ``python benchmarks/rapsd.py``.

The ratio of the processor time of ``rapsd`` to that of ``torch.fft.rfft2(norm="ortho")`` on the same batch, interleaved in
one run, one thread, medians; and the memory that a stream of batches needs, for 1, 4 and 16 of them, each in a process of
its own. Compare ratios from an idle machine: neighbours that share its caches cost ``rapsd`` more than the transform.
Writes ``benchmarks/results/rapsd.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import datetime
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from guard import machine

from sigmatune.spectra import rapsd
from sigmatune.spectra.measured_spectra import measure
from sigmatune.support.files import write_text

SHAPES = [(256, 3, 32, 32), (256, 1, 28, 28), (64, 3, 64, 64), (8, 3, 256, 256), (4, 3, 512, 512), (2, 3, 1024, 1024)]
RUNS = 201
BATCH, IMAGE = 256, (3, 64, 64)
TARGET = 1.5
UNIT = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss in a MiB


def seconds(work: Callable[[], object]) -> float:
    """Processor time of the one thread."""
    began = time.thread_time()  # of the processor, so that a busy machine does not matter
    work()
    return time.thread_time() - began


def ratio(shape: tuple[int, ...]) -> dict[str, object]:
    """Medians of interleaved runs, and the quartiles of the ratio from run to run."""
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    pairs = [
        (seconds(lambda: torch.fft.rfft2(images, norm="ortho")), seconds(lambda: rapsd(images)))
        for _ in range(RUNS + 5)
    ][5:]
    transform, whole = (statistics.median(column) for column in zip(*pairs, strict=True))
    low, _, high = statistics.quantiles((ours / theirs for theirs, ours in pairs), n=4)
    return {"shape": list(shape), "ratio": round(whole / transform, 3), "quartiles": [round(low, 3), round(high, 3)],
            "rfft2_ms": round(1e3 * transform, 3), "rapsd_ms": round(1e3 * whole, 3)}  # fmt: skip


def stream(path: str) -> float:
    """Peak resident MiB of a process that has measured an archive."""
    torch.set_num_threads(1)
    measure(path, batch=BATCH)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT


def peak(batches: int) -> dict[str, object]:
    """Measures a compressed archive of that many batches in a fresh process."""
    images = np.random.default_rng(0).integers(0, 256, (batches * BATCH, *IMAGE), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        np.savez_compressed(path, images)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found = pool.submit(stream, str(path)).result()
    return {"batches": batches, "data_mib": round(4 * images.size / 2**20, 1), "peak_mib": round(found, 1)}


def main() -> None:
    """Measures."""
    memory = [peak(batches) for batches in (1, 4, 16)]
    torch.set_num_threads(1)
    result = {
        "benchmark": "benchmarks/rapsd.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "threads": 1,
        "runs": RUNS,
        "target": TARGET,
        "ratios": [ratio(shape) for shape in SHAPES],
        "memory": {"shape": [BATCH, *IMAGE], "measured": memory},
    }
    write_text(Path(__file__).parent / "results" / "rapsd.json", json.dumps(result, indent=1) + "\n")
    for row in [*result["ratios"], *memory]:
        print(row)


if __name__ == "__main__":
    main()
