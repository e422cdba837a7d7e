"""Measures the guard's statistic on a bundled model: ``python benchmarks/guard.py cifar10``.

For every solver and budget: tune, judge on held-out noise against the best static default, and compare with each named
default on the same held-out noise. Writes ``benchmarks/results/guard_<model>.json`` after every cell; a run that was
stopped goes on where it was (measurements are kept in ``runs/``).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from sigmatune import load, schedules
from sigmatune.files import write_text
from sigmatune.solvers import SOLVERS
from sigmatune.statistics.paired import compare
from sigmatune.tuning import Settings, Workbench, tune_on

HERE = Path(__file__).parent


def machine() -> dict[str, object]:
    """What the figures were measured on and with."""
    packages = ("sigmatune", "torch", "numpy", "scipy", "diffusers", "cmaes")
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def cell(bench: Workbench, solver: str, calls: int) -> dict[str, object]:
    """Tunes for one solver and budget and compares the plan with every static default on the held-out noises."""
    plan = tune_on(bench, calls, solver=solver)
    assert plan.evidence is not None
    steps = plan.evidence["reference"]["steps"]
    own = bench.errors(plan, "held_out", reference_steps=steps, purpose="report")
    against = {}
    for label, family, options in schedules.defaults(bench.model.path, bench.model.default_family):
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
    parser.add_argument("--solvers", nargs="+", default=list(SOLVERS))
    parser.add_argument("--tuning", type=int, default=32)
    parser.add_argument("--validation", type=int, default=32)
    parser.add_argument("--held-out", type=int, default=96)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = Settings(args.tuning, args.validation, args.held_out, args.evaluations, seed=args.seed)
    bench = Workbench(load(args.model), settings, store=HERE.parent / "runs" / f"guard_{args.model}")
    out = HERE / "results" / f"guard_{args.model}.json"
    out.parent.mkdir(exist_ok=True)
    cells = []
    for calls in args.calls:
        for solver in args.solvers:
            cells.append(cell(bench, solver, calls))
            result = {
                "benchmark": f"benchmarks/guard.py {args.model}",
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "model": {"name": args.model, "fingerprint": bench.model.fingerprint()},
                "machine": machine(),
                "settings": vars(settings),
                "cells": cells,
            }
            write_text(out, json.dumps(result, indent=1) + "\n")
            print(solver, calls, cells[-1]["evidence"]["verdict"], flush=True)


if __name__ == "__main__":
    main()
