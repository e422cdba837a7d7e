"""How good estimates are: ``python benchmarks/estimates.py``.

Every model is tuned as by default for several numbers of calls; the estimate from before is divided by what it took, for
network evaluations and for seconds. "pipeline" is a tiny Stable Diffusion pipeline with guidance, as tests build it. Writes
``benchmarks/results/estimates.json``. Seconds mean something on an idle machine only.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import sys
import time
from typing import Any

from guard import HERE, machine

from sigmatune import load, tune
from sigmatune.support.files import write_text
from sigmatune.tuning.budget import Budget
from sigmatune.tuning.effort import EFFORTS
from sigmatune.tuning.estimates import TuningJob
from sigmatune.tuning.forecast import of_purposes

MODELS, CALLS, SOLVER, EFFORT = ("digits", "emoji", "cifar10", "pipeline"), (4, 6, 8), "dpmpp2m", EFFORTS["normal"]


def model_of(source: str) -> Any:
    """The model, or the tiny pipeline with prompts."""
    if source != "pipeline":
        return load(source)
    sys.path.insert(0, str(HERE.parent / "tests"))
    from tiny_pipelines import sd15

    return load(sd15(), prompts=["a red cat", "a blue dog", "a green bird"], negative_prompt="blur", guidance=3.0)


def cell(source: str, calls: int) -> dict:
    """The estimate of one tuning and what it took."""
    model = model_of(source)
    estimate = TuningJob([calls], SOLVER, budget=Budget.of(int(EFFORT.search))).estimate(model, EFFORT.settings)
    began = time.monotonic()
    plan = tune(model, calls, solver=SOLVER, progress=False)
    took, counts = time.monotonic() - began, plan.cost["network_evaluations"]
    spent = counts["total"]
    return {
        "model": source, "calls": calls, "estimate": estimate.to_dict(), "evaluations": spent,
        "by_purpose": of_purposes(counts), "seconds": took,
        "evaluations_ratio": estimate.total / spent, "seconds_ratio": estimate.seconds / took,
    }  # fmt: skip


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--calls", nargs="+", type=int, default=CALLS)
    asked = parser.parse_args()
    cells = []
    for source in asked.models:
        for calls in asked.calls:
            cells.append(cell(source, calls))
            ratios = ", ".join(f"{name} {cells[-1][f'{name}_ratio']:.2f}" for name in ("evaluations", "seconds"))
            print(f"{source}, {calls} calls: estimate / actual: {ratios}", flush=True)
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    result = {"benchmark": "benchmarks/estimates.py", "date": date, "machine": machine(), "cells": cells}
    write_text(HERE / "results" / "estimates.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
