"""Our plans beside those of the kinds that others have published: ``python benchmarks/peer_plans.py``.

On an exact denoiser of CIFAR-10 at 16 x 16. Every method gets the same tuning noises; errors are on noises that none has seen,
against one converged solution, under both measures, as a ratio to the best static default by the same measure. The Frechet
distances are to exact draws. The cost is network evaluations of single images; a gradient counts as three, the teacher and our
guard are included.

Writes ``benchmarks/results/peer_plans.json`` after every cell; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import math
from typing import Any

import torch
from distances import SEED, Subject
from guard import HERE, machine
from learned_peers import LEARNED, PLANS

from sigmatune import schedules
from sigmatune.plan import Plan, compile_plan
from sigmatune.statistics.paired import compare
from sigmatune.support.files import write_text
from sigmatune.tuning import TuningSettings, Workbench, tune

MODEL, SOLVERS, CALLS, N = "exact:cifar10-mixture-16", ("euler", "dpmpp2m"), (4, 6, 8), 1000
PEER = TuningSettings(tuning=48, validation=8, held_out=8, reference_steps=64)
JUDGE = TuningSettings(tuning=8, validation=64, held_out=128, reference_steps=128, seed=SEED)
MEASURES = ("whitened", "rms")
RESULT = HERE / "results" / "peer_plans.json"


def made(subject: Subject, name: str, steps: int, solver: str) -> tuple[Plan, int]:
    """The plan of a method, and its network evaluations."""
    if name.startswith("tune"):
        plan = tune(subject.model, steps, solver=solver, coefficients="coefficients" in name)
        assert plan.cost is not None
        return plan, int(plan.cost["network_evaluations"]["total"])
    bench = Workbench(subject.model, PEER, measure="rms")
    plan = PLANS[name](bench, steps, solver)
    return plan, sum(bench.costs.spent.values())


def judged(benches: dict[str, Workbench], plan: Plan, best: dict[str, Plan]) -> dict[str, list[float]]:
    """The error over that of the best default, with a paired interval, by measure."""
    ratios = {}
    for name, bench in benches.items():
        own, other = (bench.errors(one, "held_out", purpose="judge") for one in (plan, best[name]))
        against = compare(own, other)
        ratios[name] = [math.exp(v) for v in (against.statistic, against.low, against.high)]
    return ratios


def main() -> None:
    """Measures what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, nargs="*", default=CALLS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"cells": []}
    result |= {
        "benchmark": "benchmarks/peer_plans.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "model": MODEL,
        "n": N,
        "rows": JUDGE.held_out,
    }
    subject = Subject(MODEL, N)
    benches = {name: Workbench(subject.model, JUDGE, measure=name) for name in MEASURES}
    result["floor"] = subject.floor()
    for calls in given.calls:
        for solver in SOLVERS:
            rivals = {
                rival.label: compile_plan(rival.schedule, solver, subject.model)
                for rival in schedules.rivals(calls, subject.model.path, subject.model.default_schedule)
            }
            scores = {
                name: {label: bench.score(plan, "validation") for label, plan in rivals.items()}
                for name, bench in benches.items()
            }
            names = {name: min(listed, key=lambda label: listed[label]) for name, listed in scores.items()}
            best = {name: rivals[label] for name, label in names.items()}
            for method in (*PLANS, "tune", "tune, coefficients"):
                if method in LEARNED and method != "LD3-type" and solver != "dpmpp2m":
                    continue  # their table replaces the solver's
                key = {"method": method, "solver": solver, "calls": calls}
                if any(key.items() <= done.items() for done in result["cells"]):
                    continue
                plan, cost = made(subject, method, calls, solver)
                cell = {**key, "evaluations": cost, "ratio": judged(benches, plan, best), "rival": names,
                        "distances": subject.of(plan, N), "levels": plan.schedule.sigmas.tolist()}  # fmt: skip
                result["cells"].append(cell)
                write_text(RESULT, json.dumps(result, indent=1) + "\n")
                print(calls, solver, method, cost, {k: round(v[0], 2) for k, v in cell["ratio"].items()},
                      {k: round(v, 1) for k, v in cell["distances"].items()}, flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
