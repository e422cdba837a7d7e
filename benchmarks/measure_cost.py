"""What a measure costs in a tuning: ``python benchmarks/measure_cost.py``.

The bundled CIFAR-10 network is tuned with the default measure, on one thread, and every call of the measure is timed in
processor seconds: fitting it, errors of end points, the modes of the surrogate, and squared errors whose gradient is taken,
forward and backward. Writes ``benchmarks/results/measure_cost.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import datetime
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from guard import machine

from sigmatune import load, measures
from sigmatune.measures.whitened import Whitened
from sigmatune.support.files import write_text
from sigmatune.tuning import TuningSettings, Workbench, tune_on
from sigmatune.tuning.followed_modes import RingModes

RESULT = Path(__file__).parent / "results" / "measure_cost.json"
MODEL, SOLVER, CALLS, BUDGET = "cifar10", "dpmpp2m", 4, 2500
SETTINGS = TuningSettings(tuning=16, validation=16, held_out=16, reference_steps=24)

spent: Counter[str] = Counter()
"""Processor seconds; "again" is what was done a second time to be timed."""


def timed(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose processor seconds are counted."""

    def call(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            spent[kind] += time.process_time() - began

    return call


def timed_squares(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Squared errors: where their gradient is wanted, forward and backward are done again by themselves, and timed."""

    def call(measure: Whitened, x: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:
            began = time.process_time()
            alone = x.detach().requires_grad_()
            torch.autograd.grad(function(measure, alone, exact).sum(), alone)
            spent["gradients"] += time.process_time() - began
            spent["again"] += time.process_time() - began
        return function(measure, x, exact)

    return call


def main() -> None:
    """Times one tuning."""
    torch.set_num_threads(1)
    measures.fit = timed("fit", measures.fit)  # type: ignore[assignment]
    Whitened.squares = timed_squares(Whitened.squares)  # type: ignore[method-assign]
    Whitened.errors = timed("errors", Whitened.errors)  # type: ignore[method-assign]
    RingModes.rotated = timed("modes", RingModes.rotated)  # type: ignore[method-assign]
    bench = Workbench(load(MODEL), SETTINGS)
    began = time.process_time()
    plan = tune_on(bench, CALLS, solver=SOLVER, budget=BUDGET)
    seconds = time.process_time() - began - spent.pop("again", 0.0)
    result = {
        "benchmark": "benchmarks/measure_cost.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "model": MODEL, "solver": SOLVER, "calls": CALLS, "budget": BUDGET,
        "measure": bench.measure_choice.to_dict(),
        "stages": [entry["stage"] for entry in plan.cost["stages"]],
        "network_evaluations": plan.cost["network_evaluations"],
        "cpu_seconds": {"tuning": round(seconds, 2), **{kind: round(value, 4) for kind, value in sorted(spent.items())}},
        "share": sum(spent.values()) / seconds,
    }  # fmt: skip
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["cpu_seconds"]), f"{result['share']:.3%}")


if __name__ == "__main__":
    main()
