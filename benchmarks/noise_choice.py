"""How much noise images want: ``python benchmarks/noise_choice.py``, after ``python tools/build_exact.py cifar10-mixture-16``.

Phase-space samplers on an exact denoiser of CIFAR-10, with the papers' settings (lambda_s = 1, the quadratic grid) and with
noise and levels chosen for the spectrum of the data under the whitened measure and under root mean square. The Frechet
distances to exact draws say what the images are like; no choice has seen them.

Writes ``benchmarks/results/noise_choice.json`` after every cell; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
from typing import Any

import torch
from distances import Subject
from guard import HERE, machine

from sigmatune import schedules
from sigmatune.plan import Plan, compile_plan
from sigmatune.solvers import SOLVERS
from sigmatune.support.files import write_text
from sigmatune.tuning.own_spectrum import own_modes
from sigmatune.tuning.spectral_search import SpectralSearch, choose

MODEL, SAMPLERS, CALLS, N = (
    "exact:cifar10-mixture-16",
    ("reduced-oba", "reduced-bao", "reduced-obab"),
    (20, 50, 100),
    1000,
)
CHOICES = ("papers", "whitened", "rms")
RESULT = HERE / "results" / "noise_choice.json"


def plan_of(subject: Subject, sampler: str, calls: int, choice: str) -> Plan:
    """The papers' settings, or noise and levels for the spectrum under a measure."""
    model, steps = subject.model, SOLVERS[sampler].steps_for(calls)
    if choice == "papers":
        return compile_plan(schedules.build("phase-time", steps, model.path), sampler, model)
    chosen = choose(sampler, steps, own_modes(MODEL), model.path, SpectralSearch(measure=choice))
    return compile_plan(chosen.schedule, sampler, model, **chosen.options)


def main() -> None:
    """Measures what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"cells": []}
    subject = Subject(MODEL, N)
    result |= {
        "benchmark": "benchmarks/noise_choice.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "model": MODEL,
        "n": N,
        "floor": subject.floor(),
    }
    for calls in CALLS:
        for sampler in SAMPLERS:
            for choice in CHOICES:
                key = {"sampler": sampler, "calls": calls, "choice": choice}
                if any(key.items() <= done.items() for done in result["cells"]):
                    continue
                plan = plan_of(subject, sampler, calls, choice)
                levels = plan.schedule.sigmas
                cell = {**key, "lambda_s": plan.solver_options["lambda_s"], "ends": [float(levels[0]), float(levels[-2])],
                        "distances": subject.of(plan, N)}  # fmt: skip
                result["cells"].append(cell)
                write_text(RESULT, json.dumps(result, indent=1) + "\n")
                print(cell, flush=True)


if __name__ == "__main__":
    main()
