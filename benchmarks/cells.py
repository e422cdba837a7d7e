"""Judges returned plans on fresh noises of synthetic models: ``python benchmarks/cells.py --shard 0/2``, then ``1/2``.

Exact denoisers of Gaussians, broad and narrow mixtures, rare modes, rings and finite sets, and random networks of three kinds;
Euler, Heun, DPM-Solver++(2M) and UniPC; 3 to 10 calls. Every plan that ``tune`` returns is compared with its rival on 512
noises that tuning never saw, against a solution of another method (Runge-Kutta of fourth order in log sigma), by the mean of
its measure's error and by the energy and the sliced distance of the set of end points. "Significantly worse" is a one-sided
test of the jackknifed difference, corrected by Holm over all cells and quantities, with a false alarm rate of 5% for all.

A cell in which the first half of the guard saw a gain and the second a loss is *given up*; its plan is judged on the same fresh
noises, which says how often this was right. Each cell is kept in ``runs/cells``; a stopped run resumes. The run that finds all
cells there writes ``benchmarks/results/cells.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from guard import machine
from synthetic import Make, lobes, models

from sigmatune import measures
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.rng import START, noise
from sigmatune.noise import VE
from sigmatune.plan import Plan, sample
from sigmatune.statistics.holm import holm
from sigmatune.support.files import make_folder, write_text
from sigmatune.tuning import TuningSettings, guard, tuner
from sigmatune.tuning.no_loss import EndPoints, losses

HERE = Path(__file__).parent
SETTINGS = TuningSettings(tuning=16, validation=32, held_out=96, evaluations=20, reference_steps=48, micro_batch=96)
BUDGET = 3000
SOLVERS, CALLS = ("euler", "dpmpp2m", "unipc", "heun"), (5, 3, 8, 4, 10, 6)
FRESH, FRESH_SEED, FINE = 512, 20_261_128, 400
FALSE_ALARMS = 0.05


def cells() -> list[tuple[str, Make, str, int]]:
    """The case that started this, with a user's settings, and three cells of every model: (model, its maker, solver, calls)."""
    lost = partial(lobes, [0.8, 0.2], np.zeros((2, 1)), [0.1, 3.0], VE())
    listed: list[tuple[str, Make, str, int]] = [("broad: 0.2 of 1, 0.1 and 3", lost, "dpmpp2m", 5)]
    for number, (name, make) in enumerate(models()):
        for turn in range(3):
            place = 3 * number + turn
            listed.append((name, make, SOLVERS[(place + number // 4) % 4], CALLS[place % 6]))
    return listed


def fine(model: Denoiser, eps: torch.Tensor) -> torch.Tensor:
    r"""The end points by the classical Runge-Kutta method for :math:`dx / d\log\sigma = x - D(x; \sigma)`, and one denoise."""
    grid = np.linspace(np.log(model.path.sigma_max), np.log(model.path.sigma_min), FINE + 1)

    def D(x: torch.Tensor, log_sigma: float) -> torch.Tensor:
        sigma = float(np.clip(np.exp(log_sigma), model.path.sigma_min, model.path.sigma_max))
        return model(x / np.hypot(1.0, sigma), sigma)

    x = eps * model.path.sigma_max
    for t, s in pairwise(grid):
        h, middle = s - t, (s + t) / 2
        k1 = x - D(x, t)
        y = x + h / 2 * k1
        k2 = y - D(y, middle)
        y = x + h / 2 * k2
        k3 = y - D(y, middle)
        y = x + h * k3
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + y - D(y, s))
    return D(x, grid[-1])


def candidate(
    model: Denoiser, solver: str, calls: int, settings: TuningSettings, budget: int | None
) -> tuple[Plan, Plan, Plan, guard.Judged]:
    """Tunes: the returned plan, the tuned one, the rival, and the verdict."""
    seen: list[Any] = []

    def judge(bench: Any, tuned: Plan, default: Plan, **rest: Any) -> guard.Judged:
        seen.extend([tuned, default, guard.judge(bench, tuned, default, **rest)])
        return seen[-1]

    with mock.patch.object(tuner, "judge", judge):
        returned = tuner.tune(model, calls, solver=solver, settings=settings, budget=budget)
    return returned, seen[0], seen[1], seen[2]


def cell(name: str, make: Make, solver: str, calls: int, *, in_full: bool = False) -> dict[str, Any]:
    """One cell: what the guard said, and what fresh noises say of the tuned plan; in full with a user's settings."""
    began, model, work = time.process_time(), make(), (TuningSettings(), None) if in_full else (SETTINGS, BUDGET)
    returned, tuned, rival, judged = candidate(model, solver, calls, *work)
    evidence = dict(returned.evidence or {})
    first = judged.converged and judged.comparison.gain
    result = {
        "model": name, "solver": solver, "calls": calls, "gain": judged.gain, "given_up": bool(first and judged.lost),
        "returned": returned.schedule.sigmas.tolist(), "baseline": evidence["baseline"], "verdict": evidence["verdict"],
        "error_ratio": evidence["error_ratio"], "no_loss": evidence["no_loss"], "measure": evidence["measure"]["name"],
    }  # fmt: skip
    if first:
        eps = noise(FRESH_SEED, range(FRESH), START, model.shape, dtype=torch.float64)
        measure, exact = measures.from_dict(evidence["measure"]), fine(model, eps)
        x, y = (
            sample(model, plan, seed=FRESH_SEED, indices=range(FRESH), micro_batch=FRESH) for plan in (tuned, rival)
        )
        errors = measure.errors(x, exact).numpy(), measure.errors(y, exact).numpy()
        result["fresh"] = [loss.to_dict() for loss in losses(measure, EndPoints(x, y, exact, errors))]
    return {**result, "cpu_seconds": round(time.process_time() - began, 1)}


def file_of(number: int) -> Path:
    """Where a cell is kept."""
    return make_folder(HERE.parent / "runs" / "cells") / f"{number}.json"


def key(cell: dict[str, Any]) -> tuple[str, str, int]:
    """What a cell is called."""
    return cell["model"], cell["solver"], cell["calls"]


def significant(found: list[dict[str, Any]]) -> tuple[list[tuple[str, str, int]], int]:
    """The cells whose tuned plan is worse in a mean or a distance of sets, corrected over all of them, and how many tests.

    The upper tail is reported, not counted.
    """
    tests = [(key(c), q["p"]) for c in found for q in c["fresh"] if not q["name"].startswith("mean of the worst")]
    adjusted = holm([p for _, p in tests])
    worse = [name for (name, _), p in zip(tests, adjusted, strict=True) if p <= FALSE_ALARMS]
    return list(dict.fromkeys(worse)), len(tests)


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts."""
    gains, given_up = [c for c in found if c["gain"]], [c for c in found if c["given_up"]]
    (worse, tests), (right, _) = significant(gains), significant(given_up)
    return {
        "cells": len(found),
        "models": len({c["model"] for c in found}),
        "gains": len(gains),
        "worse_than_the_rival": len(worse),
        "worse_cells": worse,
        "given_up": len(given_up),
        "given_up_and_worse_on_fresh_noises": len(right),
        "given_up_rightly": right,
        "false_alarm_rate": FALSE_ALARMS,
        "tests": tests,
        "fresh_noises": FRESH,
        "cpu_seconds": round(sum(c["cpu_seconds"] for c in found)),
    }


def main() -> None:
    """Runs a shard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shard", default="0/1", help="i/n: every n-th cell from the i-th on")
    args = parser.parse_args()
    first, every = map(int, args.shard.split("/"))
    torch.set_num_threads(1)
    listed = cells()
    for number in range(first, len(listed), every):
        if not file_of(number).exists():
            write_text(file_of(number), json.dumps(cell(*listed[number], in_full=number == 0)) + "\n")
            said = json.loads(file_of(number).read_text())
            print(
                number, said["model"], said["solver"], said["calls"], said["verdict"], said["cpu_seconds"], flush=True
            )
    files = [file_of(number) for number in range(len(listed))]
    if all(file.exists() for file in files):
        found = [json.loads(file.read_text()) for file in files]
        result = {"benchmark": "benchmarks/cells.py", "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                  "machine": machine(), "settings": {**vars(SETTINGS), "budget": BUDGET, "fine_steps": FINE},
                  "summary": summary(found), "cells": found}  # fmt: skip
        write_text(HERE / "results" / "cells.json", json.dumps(result, indent=1) + "\n")
        print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
