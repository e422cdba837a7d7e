"""What tuning brings to pictures: ``python benchmarks/distances.py``, after ``python tools/build_exact.py``.

On an exact denoiser the converged samples are the data, so the Frechet distance to exact draws says how good images are.
Every rival of the guard is sampled; the best **by that distance** is what the tuned plan is compared with, in each space. All
rivals are sampled on few noises first and the best few of either space on all, and so is the best of those that span the
model's range, which earlier comparisons were made with. The floor is that of as many exact draws.

Writes ``benchmarks/results/distances.json``; what has been measured is kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
from functools import cached_property
from typing import Any

import numpy as np
import torch
from guard import HERE, machine

from sigmatune import load, schedules
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.extractors.base import principal
from sigmatune.plan import Plan, compile_plan, sample
from sigmatune.plan.file import dumps, loads
from sigmatune.statistics.frechet import Gaussian
from sigmatune.statistics.moments import Moments
from sigmatune.support.files import write_text
from sigmatune.support.pixels import to_pixels
from sigmatune.tuning import tune

SOLVERS, CALLS, SPACES = ("euler", "dpmpp2m", "unipc"), (4, 6, 8, 10), ("block10", "head-pca64")
WHOLE = ("uniform", "beta", "karras", "log-uniform")
"""The families of the defaults that earlier comparisons were made with, from the model's highest level to its lowest."""
DATA, FIRST, FINALISTS, COMPONENTS, SEED = 2000, 200, 3, 64, 77
WORK, RESULT = HERE.parent / "runs" / "distances", HERE / "results" / "distances.json"


class Subject:
    """A model and what its images are measured with."""

    def __init__(self, source: str, n: int) -> None:
        self.source, self.n, self.model = source, n, load(source)
        self.extract = extractor("efficientnet-lite0", tuple(self.model.shape))

    def features(self, x: torch.Tensor) -> dict[str, np.ndarray]:
        """Both spaces of end points."""
        seen = self.extract(to_pixels(x.float(), self.model.value_range))
        return {"block10": seen["block10"].astype(np.float64), "head-pca64": seen["head"] @ self.basis}

    @cached_property
    def drawn(self) -> dict[str, np.ndarray]:
        """The features of exact draws, whole spaces."""
        seen = self.extract(to_pixels(self.model.draw(DATA, seed=1).float(), self.model.value_range))
        return {space: seen[space] for space in ("block10", "head")}

    @cached_property
    def basis(self) -> Any:
        """The principal axes of the second space."""
        return principal(Moments.of(self.drawn["head"]).covariance, COMPONENTS)

    @cached_property
    def data(self) -> dict[str, Gaussian]:
        """The Gaussian of the exact draws in each space."""
        both = {"block10": self.drawn["block10"].astype(np.float64), "head-pca64": self.drawn["head"] @ self.basis}
        return {space: Gaussian.of(Moments.of(rows)) for space, rows in both.items()}

    def distances(self, x: torch.Tensor) -> dict[str, float]:
        """The Frechet distances of end points to the exact draws."""
        return {
            space: Gaussian.of(Moments.of(rows)).distance(self.data[space]) for space, rows in self.features(x).items()
        }

    def of(self, plan: Plan, n: int) -> dict[str, float]:
        """The distances of a plan on noises that no tuning saw."""
        return self.distances(sample(self.model, plan, n, seed=SEED, micro_batch=64))

    def floor(self) -> dict[str, float]:
        """The distances of further exact draws."""
        return self.distances(self.model.draw(self.n, seed=2))


def tuned(subject: Subject, solver: str, *, coefficients: bool) -> dict[int, Plan]:
    """The plans for all numbers of calls, of the default effort."""
    file = WORK / f"{subject.source.replace(':', '-')}, {solver}{', coefficients' if coefficients else ''}.json"
    if not file.exists():
        plans = tune(subject.model, CALLS, solver=solver, coefficients=coefficients)
        WORK.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({calls: dumps(plan) for calls, plan in plans.items()}))
    return {int(calls): loads(text) for calls, text in json.loads(file.read_text()).items()}


def cell(subject: Subject, solver: str, calls: int) -> dict[str, Any]:
    """The distances of the tuned plans and of the best rivals."""
    path = subject.model.path
    rivals = {
        rival.label: compile_plan(rival.schedule, solver, subject.model)
        for rival in schedules.rivals(calls, path, subject.model.default_schedule)
    }
    first = {label: subject.of(plan, FIRST) for label, plan in rivals.items()}
    whole = [label for label in first if label.startswith(WHOLE) and "sigma_m" not in label]
    best = {
        label
        for space in SPACES
        for listed, most in ((list(first), FINALISTS), (whole, 1))
        for label in sorted(listed, key=lambda name: first[name][space])[:most]
    }
    final = {label: subject.of(rivals[label], subject.n) for label in sorted(best)}
    plans = {
        "levels": tuned(subject, solver, coefficients=False)[calls],
        "coefficients": tuned(subject, solver, coefficients=True)[calls],
    }
    return {
        "tuned": {name: subject.of(plan, subject.n) for name, plan in plans.items()},
        "gain": {name: plan.evidence["gain"] for name, plan in plans.items()},
        "guard's rival": plans["levels"].evidence["baseline"],
        "error_ratio": {name: plan.evidence["error_ratio"] for name, plan in plans.items()},
        "rivals": final,
        "whole range": sorted(set(whole) & set(final)),
        "rivals on few noises": first,
    }


def main() -> None:
    """Measures what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="exact:cifar10-mixture-16")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--solvers", nargs="*", default=SOLVERS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    result = (
        json.loads(RESULT.read_text()) if RESULT.exists() else {"benchmark": "benchmarks/distances.py", "cells": []}
    )
    subject = Subject(given.model, given.n)
    floor = subject.floor()
    for solver in given.solvers:
        for calls in CALLS:
            key = {"model": given.model, "n": given.n, "solver": solver, "calls": calls}
            if any(key.items() <= done.items() for done in result["cells"]):
                continue
            result["cells"].append({**key, "floor": floor, **cell(subject, solver, calls)})
            result |= {
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "machine": machine(),
                "data": DATA,
                "few": FIRST,
            }
            write_text(RESULT, json.dumps(result, indent=1) + "\n")
            print(solver, calls, result["cells"][-1]["tuned"], flush=True)


if __name__ == "__main__":
    main()
