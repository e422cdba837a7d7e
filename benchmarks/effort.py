"""What an effort brings and costs: ``python benchmarks/effort.py``.

Every effort tunes the same budgets; the plans are compared on noises of another seed that no tuning saw, by the default measure
against one converged solution. Writes the ratio of the errors to those of effort "high" with a paired interval, and the network
evaluations by purpose, to ``benchmarks/results/effort.json``. A cell that is done is kept in ``benchmarks/runs/effort``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import datetime
import json
import math

import torch
from guard import HERE, machine

from sigmatune import load
from sigmatune.plan.file import dumps, loads
from sigmatune.statistics.paired import compare
from sigmatune.support.files import write_text
from sigmatune.tuning import TuningSettings, Workbench, tune
from sigmatune.tuning.effort import EFFORTS

MODELS = ("digits", "exact:cifar10-mixture-16")
SOLVERS, CALLS = ("euler", "dpmpp2m"), (4, 6, 10)
STORE = HERE.parent / "runs" / "effort"
JUDGE = TuningSettings(tuning=64, validation=8, held_out=256, reference_steps=96, seed=99)


def tuned(source: str, solver: str, effort: str) -> list[dict]:
    """The plans of one model, solver and effort: each budget by itself, then all of them together."""
    file = STORE / f"{source.replace(':', '-')}-{solver}-{effort}.json"
    if not file.exists():
        model = load(source)
        alone = [tune(model, calls, solver=solver, effort=effort) for calls in CALLS]
        together = tune(model, CALLS, solver=solver, effort=effort)
        cells = [{"alone": dumps(a), "together": dumps(t)} for a, t in zip(alone, together.values(), strict=True)]
        STORE.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(cells))
        print(file.stem, flush=True)
    return json.loads(file.read_text())


def main() -> None:
    """Tunes, compares and writes."""
    torch.set_num_threads(1)
    rows = []
    for source in MODELS:
        bench = Workbench(load(source), JUDGE)
        for solver in SOLVERS:
            plans = {effort: tuned(source, solver, effort) for effort in EFFORTS}
            for place, calls in enumerate(CALLS):
                best = bench.errors(loads(plans["high"][place]["alone"]), "held_out", purpose="judge")
                for effort, cells in plans.items():
                    plan, second = loads(cells[place]["alone"]), loads(cells[place]["together"])
                    against = compare(bench.errors(plan, "held_out", purpose="judge"), best)
                    evaluations = plan.cost["network_evaluations"]
                    rows.append(
                        {"model": source, "solver": solver, "calls": calls, "effort": effort,
                         "ratio": [math.exp(v) for v in (against.statistic, against.low, against.high)],
                         "gain": plan.evidence["gain"], "evaluations": evaluations,
                         "evaluations_together": second.cost["network_evaluations"]}
                    )  # fmt: skip
    result = {
        "benchmark": "benchmarks/effort.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "rows": rows,
    }
    write_text(HERE / "results" / "effort.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
