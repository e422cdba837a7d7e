"""Spectrally optimal plans without a network: ``python benchmarks/closed_form.py``.

P(r) = max(r, 1/2)^-2.2 on the full 32 x 32 grid, scaled to mean 1/4; every N = 1..50 for Euler and DPM-Solver++(2M), the
regulariser off. Writes errors per mode, next to those of the published defaults, and seconds to
``benchmarks/results/closed_form.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import datetime
import json
import time
from pathlib import Path

import numpy as np
import torch
from guard import machine

from sigmatune import schedules
from sigmatune.noise import VE
from sigmatune.support.files import write_text
from sigmatune.tuning.gaussian_optimum import Modes, error, optimal

STEPS = range(1, 51)


def spectrum(size: int = 32) -> Modes:
    """The power law of the design."""
    f = np.fft.fftfreq(size) * size
    power = np.maximum(np.hypot(f[:, None], f[None, :]), 0.5) ** -2.2
    return Modes.of(power * 0.25 / power.mean())


def main() -> None:
    """Measures."""
    torch.set_num_threads(1)
    modes, path, rows = spectrum(), VE(), []
    optimal("euler", 2, modes, path)  # the first call pays for imports
    total = time.perf_counter()
    for solver in ("euler", "dpmpp2m"):
        for steps in STEPS:
            began = time.perf_counter()
            found = optimal(solver, steps, modes, path)
            seconds = time.perf_counter() - began
            rivals = {
                label: error(solver, schedules.build(family, steps, path, **options).sigmas, modes)
                for label, family, options in schedules.defaults(path)
            }
            rows.append(
                {"solver": solver, "steps": steps, "error": error(solver, found.sigmas, modes), "defaults": rivals,
                 "sigmas": found.sigmas.tolist(), "seconds": round(seconds, 3)}
            )  # fmt: skip
    total = time.perf_counter() - total
    result = {
        "benchmark": "benchmarks/closed_form.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "threads": 1,
        "seconds": round(total, 1),
        "plans": rows,
    }
    write_text(Path(__file__).parent / "results" / "closed_form.json", json.dumps(result, indent=1) + "\n")
    print(f"{len(rows)} plans in {total:.1f} s")


if __name__ == "__main__":
    main()
