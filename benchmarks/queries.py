"""What it brings to ask the network at other levels than those that are stepped to: ``python benchmarks/queries.py``.

Euler on cifar10 at 4, 5 and 6 calls, tuned by ``method="queries"``: the levels as ``auto`` finds them, then L-BFGS over the
levels and, apart from them, over the levels that the network is told. The steps stay Euler's own. For every budget the guard's
statistic against the best static default on the held-out noises, which nothing has seen before.

Writes ``benchmarks/results/queries.json``; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import datetime
import json
from dataclasses import replace

from guard import HERE, machine, single
from tuners import SETTINGS as TUNERS

from sigmatune import load
from sigmatune.support.files import write_text
from sigmatune.tuning import Workbench, tune_on

MODEL, SOLVER, CALLS = "cifar10", "euler", (4, 5, 6)
SETTINGS = replace(TUNERS, seed=1)
"""Noises that no other search has seen."""

BUDGET = 80_000
"""Network evaluations of single images, for all three budgets of calls."""


def main() -> None:
    """Measures."""
    single()
    bench = Workbench(load(MODEL), SETTINGS, store=HERE.parent / "runs" / "queries", measure="rms")
    plans = tune_on(bench, list(CALLS), solver=SOLVER, method="queries", budget=BUDGET)
    cells = []
    for calls, plan in plans.items():
        evidence = plan.evidence or {}
        cells.append(
            {
                "model": MODEL, "solver": SOLVER, "calls": calls, "network_calls": plan.calls,
                "sigmas": plan.schedule.sigmas.tolist(), "asked": plan.coefficients.q.tolist(), "gain": evidence["gain"],
                "baseline": evidence["baseline"], "error_ratio": evidence["error_ratio"], "statistic": evidence["statistic"],
                "reference": evidence["reference"], "cost": plan.cost,
            }
        )  # fmt: skip
        print(calls, evidence["verdict"], flush=True)
    result = {
        "benchmark": "benchmarks/queries.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "model": load(MODEL).fingerprint(),
        "held_out": SETTINGS.held_out,
        "seed": SETTINGS.seed,
        "cells": cells,
    }
    write_text(HERE / "results" / "queries.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
