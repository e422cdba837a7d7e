"""Measures the guard's statistic on a bundled model: ``python benchmarks/guard.py cifar10``.

For every solver and budget: tune, judge on held-out noise against the best static default, and compare with each named
default on the same held-out noise. Writes ``benchmarks/results/guard_<model>.json``; a run that was stopped goes on where
it was (measurements are kept in ``runs/``; remove that folder to measure anew).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import platform
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from sigmatune import load, schedules
from sigmatune.solvers import POSITION
from sigmatune.statistics.paired import compare
from sigmatune.support.files import write_text
from sigmatune.tuning import TuningSettings, Workbench, tune_on

HERE = Path(__file__).parent


def machine() -> dict[str, object]:
    """What the figures were measured on and with."""
    packages = ("sigmatune", "torch", "numpy", "scipy", "diffusers", "cmaes", "optuna")
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def workbench(model: str, settings: TuningSettings) -> Workbench:
    """A workbench whose measurements are kept on disk and shared by all processes."""
    return Workbench(load(model), settings, store=HERE.parent / "runs" / f"guard_{model}", measure="rms")


def single() -> None:
    """One thread per process."""
    torch.set_num_threads(1)


def cell(model: str, settings: TuningSettings, solver: str, calls: int) -> dict[str, Any]:
    """Tunes for one solver and budget and compares the plan with every static default on the held-out noises."""
    bench = workbench(model, settings)
    plan = tune_on(bench, calls, solver=solver)
    assert plan.evidence is not None
    steps = plan.evidence["reference"]["steps"]
    own = bench.errors(plan, "held_out", reference_steps=steps, purpose="report")
    against = {}
    for label, family, options in schedules.defaults(bench.model.path, bench.model.default_schedule):
        default = bench.plan(schedules.build(family, plan.steps, bench.model.path, **options), solver)
        errors = bench.errors(default, "held_out", reference_steps=steps, purpose="report")
        if plan.schedule.sigmas.tolist() == default.schedule.sigmas.tolist():
            continue
        against[label] = compare(own, errors, seed=bench.settings.seed).to_dict()
    return {
        "solver": solver,
        "calls": calls,
        "network_calls": plan.calls,
        "steps": plan.steps,
        "sigmas": plan.schedule.sigmas.tolist(),
        "family": plan.schedule.family,
        "evidence": plan.evidence,
        "cost": plan.cost,
        "against_each_default": against,
    }


def main() -> None:
    """Runs the matrix."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["cifar10", "digits"])
    parser.add_argument("--calls", type=int, nargs="+", default=[4, 6, 8, 10])
    parser.add_argument("--solvers", nargs="+", default=list(POSITION))
    parser.add_argument("--tuning", type=int, default=32)
    parser.add_argument("--validation", type=int, default=32)
    parser.add_argument("--held-out", type=int, default=96)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    args = parser.parse_args()
    settings = TuningSettings(args.tuning, args.validation, args.held_out, args.evaluations, seed=args.seed)
    out = HERE / "results" / f"guard_{args.model}.json"
    out.parent.mkdir(exist_ok=True)
    bench = workbench(args.model, settings)
    for split in ("tuning", "validation", "held_out"):
        bench.reference(split)  # shared by all cells, so it is made once, before they start
    bench.reference("held_out", 2 * settings.reference_steps)
    cells = []
    wanted = [(solver, calls) for calls in sorted(args.calls, reverse=True) for solver in args.solvers]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn"), initializer=single) as pool:
        for future in as_completed([pool.submit(cell, args.model, settings, *pair) for pair in wanted]):
            cells.append(future.result())
            print(cells[-1]["solver"], cells[-1]["calls"], cells[-1]["evidence"]["verdict"], flush=True)
    cells.sort(key=lambda found: (args.solvers.index(found["solver"]), found["calls"]))
    result = {
        "benchmark": f"benchmarks/guard.py {args.model}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "model": {"name": args.model, "fingerprint": bench.model.fingerprint()},
        "machine": machine(),
        "settings": vars(settings),
        "cells": cells,
    }
    write_text(out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
