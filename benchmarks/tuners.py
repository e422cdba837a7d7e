"""What each tuner brings and costs: ``python benchmarks/tuners.py``.

On cifar10, on a Gaussian mixture fitted to CIFAR-10 (ten full-covariance Gaussians of the grey images at 16 x 16, exact) and on
digits; Euler, DPM-Solver++ 2M and UniPC; 4, 5, 6, 8 and 10 calls. Every method tunes all five budgets together. For every cell:
the guard's statistic against the best static default, and the same against each named default, all on the held-out noises.

Writes ``benchmarks/results/tuners.json`` after every method; a run that was stopped goes on where it was (measurements are kept
in ``runs/``; remove that folder to measure anew). With ``--assemble`` only what is in ``runs/`` is written.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

from beta import mixture
from guard import HERE, machine, single

from sigmatune import load, schedules
from sigmatune.plan import Plan
from sigmatune.statistics.paired import compare
from sigmatune.support.files import write_text
from sigmatune.tuning import TuningSettings, Workbench, tune_on

MODELS = ("cifar10", "mixture", "digits")
SOLVERS = ("euler", "dpmpp2m", "unipc")
CALLS = (4, 5, 6, 8, 10)
METHODS: dict[str, dict[str, Any]] = {
    "auto": {"method": "auto", "budget": 20_000},
    "auto, coefficients": {"method": "auto", "coefficients": True, "budget": 40_000},
    "static": {"method": "static"},
    "closed-form": {"method": "closed-form"},
    "discretisation": {"method": "discretisation"},
    "trajectory": {"method": "trajectory"},
    "surrogate": {"method": "surrogate", "budget": 20_000},
    "gradient": {"method": "gradient", "budget": 20_000},
    "search": {"method": "search", "budget": 20_000},
    "tpe": {"method": "tpe", "budget": 10_000},
    "evolution": {"method": "evolution", "budget": 10_000},
}
SETTINGS = TuningSettings(tuning=16, validation=24, held_out=64, evaluations=60, micro_batch=8)
STORE = HERE.parent / "runs" / "tuners"
OUT = HERE / "results" / "tuners.json"


def workbench(model: str) -> Workbench:
    """A workbench whose measurements are kept on disk and shared by all processes."""
    return Workbench(mixture(16) if model == "mixture" else load(model), SETTINGS, store=STORE / model, measure="rms")


def measured(model: str, solver: str, method: str) -> list[dict[str, Any]]:
    """Tunes one solver for all budgets by one method; a cell for each budget."""
    bench = workbench(model)
    plans = tune_on(bench, list(CALLS), solver=solver, **METHODS[method])
    return [cell(bench, model, solver, method, calls, plan) for calls, plan in plans.items()]


def cell(bench: Workbench, model: str, solver: str, method: str, calls: int, plan: Plan) -> dict[str, Any]:
    """What is known of one plan, compared with every static default on the held-out noises."""
    evidence, cost = plan.evidence or {}, plan.cost or {}
    steps = evidence["reference"]["steps"]
    own = bench.errors(plan, "held_out", reference_steps=steps, purpose="report")
    against = {}
    for label, family, options in schedules.defaults(bench.model.path, bench.model.default_schedule):
        default = bench.plan(schedules.build(family, plan.steps, bench.model.path, **options), solver)
        errors = bench.errors(default, "held_out", reference_steps=steps, purpose="report")
        found = compare(own, errors, seed=SETTINGS.seed)
        against[label] = {"statistic": found.statistic, "low": found.low, "high": found.high, "median": found.median}
    return {
        "model": model,
        "solver": solver,
        "method": method,
        "calls": calls,
        "steps": plan.steps,
        "network_calls": plan.calls,
        "sigmas": plan.schedule.sigmas.tolist(),
        "gain": evidence["gain"],
        "baseline": evidence["baseline"],
        "error_ratio": evidence["error_ratio"],
        "statistic": evidence["statistic"],
        "reference": evidence["reference"],
        "sliced_wasserstein": evidence["sliced_wasserstein_to_reference"],
        "against_each_default": against,
        "cost": cost,
    }


def assemble() -> None:
    """Writes what has been measured."""
    files = [STORE / f"{m}-{s}-{name}.json" for name in METHODS for m in MODELS for s in SOLVERS]
    cells = [cell for file in files if file.exists() for cell in json.loads(file.read_text())]
    result = {
        "benchmark": "benchmarks/tuners.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "models": {name: workbench(name).model.fingerprint() for name in {cell["model"] for cell in cells}},
        "settings": vars(SETTINGS),
        "methods": METHODS,
        "cells": cells,
    }
    write_text(OUT, json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Runs the matrix."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=SOLVERS)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--assemble", action="store_true", help="only write what has been measured")
    args = parser.parse_args()
    STORE.mkdir(parents=True, exist_ok=True)
    if not args.assemble:
        wanted = [(m, s, name) for name in args.methods for m in args.models for s in args.solvers]
        wanted = [job for job in wanted if not (STORE / f"{'-'.join(job)}.json").exists()]
        with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn"), initializer=single) as pool:
            jobs = {pool.submit(measured, *job): job for job in wanted}
            for future in as_completed(jobs):
                write_text(STORE / f"{'-'.join(jobs[future])}.json", json.dumps(future.result()) + "\n")
                ratios = " ".join(f"{cell['error_ratio']['value']:.2f}" for cell in future.result())
                print(*jobs[future], ratios, flush=True)
                assemble()
    assemble()


if __name__ == "__main__":
    main()
