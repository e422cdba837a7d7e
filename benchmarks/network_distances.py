"""What tuning brings to a network's images: ``python benchmarks/network_distances.py digits`` (or emoji, cifar10).

The tuned plan, levels alone and with coefficients, against the static default that is best by the same Frechet distance: to
the training images, and to the converged samples of the network itself. All defaults are sampled on few noises first, the best
few of either space and reference on all. Differences are of pairs (the same noises), with 95 % jackknife intervals.

Writes ``benchmarks/results/network_distances.json`` after every cell; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
from typing import Any

import numpy as np
import torch
from guard import HERE, machine

from sigmatune import load, schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation import reference_set
from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import generate
from sigmatune.evaluation.record import Figure
from sigmatune.evaluation.reference_set import Reference
from sigmatune.models.bundled import reference_file
from sigmatune.plan import Plan, compile_plan, sample
from sigmatune.plan.file import dumps, loads
from sigmatune.plan.reference import reference_plan
from sigmatune.spectra.sources import open_images
from sigmatune.support.files import write_text
from sigmatune.support.pixels import to_pixels
from sigmatune.tuning import tune

SIZES = {"digits": (1000, 200), "emoji": (500, 128), "cifar10": (500, 128)}
"""Images of the final comparison, and of the choice among defaults."""
SOLVERS, CALLS, FINALISTS, STEPS, CONVERGED, SEED = ("euler", "dpmpp2m"), (4, 8), 2, 40, 1000, 77
WORK, RESULT = HERE.parent / "runs" / "network_distances", HERE / "results" / "network_distances.json"


class Judge:
    """A network and both references."""

    def __init__(self, name: str) -> None:
        self.name, self.model = name, load(name)
        self.n, self.few = SIZES[name]
        self.wanted = Wanted.of(("fd",), extractor("efficientnet-lite0", tuple(self.model.shape)))
        self.references = {"data": reference_set.load(str(reference_file(name))), "converged": converged(self.model)}

    def of(self, plan: Plan, n: int) -> dict[str, Figure]:
        """The distances by "reference, space"."""
        seen = generate(self.model, plan, n, self.wanted.extractors, seed=SEED, keep=False)
        return {
            f"{name}, {figure.settings.space}": figure
            for name, reference in self.references.items()
            for figure in figures(seen, self.wanted, reference)
        }


def converged(model: Denoiser) -> Reference:
    """The statistics of the network's converged samples, from noises of their own."""
    exact = sample(model, reference_plan(model, STEPS), CONVERGED, seed=SEED + 1, micro_batch=64)
    used = [extractor("efficientnet-lite0", tuple(model.shape))]
    return reference_set.measure(
        open_images(to_pixels(exact.float(), model.value_range)), used, name="converged samples"
    )


def tuned(judge: Judge, solver: str, *, coefficients: bool) -> dict[int, Plan]:
    """The plans for all numbers of calls, of the default effort."""
    file = WORK / f"{judge.name}, {solver}{', coefficients' if coefficients else ''}.json"
    if not file.exists():
        plans = tune(judge.model, CALLS, solver=solver, coefficients=coefficients)
        WORK.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({calls: dumps(plan) for calls, plan in plans.items()}))
    return {int(calls): loads(text) for calls, text in json.loads(file.read_text()).items()}


def cell(judge: Judge, solver: str, calls: int) -> dict[str, Any]:
    """The distances of both tuned plans and of the best rivals, and their differences."""
    model = judge.model
    rivals = {
        rival.label: compile_plan(rival.schedule, solver, model)
        for rival in schedules.rivals(calls, model.path, model.default_schedule)
    }
    first = {label: judge.of(plan, judge.few) for label, plan in rivals.items()}
    places = list(next(iter(first.values())))
    best = {
        label
        for place in places
        for label in sorted(first, key=lambda name: first[name][place].estimate.value)[:FINALISTS]
    }
    final = {label: judge.of(rivals[label], judge.n) for label in sorted(best)}
    found: dict[str, Any] = {"rivals": {label: values(seen) for label, seen in final.items()}, "tuned": {}}
    for kind in ("levels", "coefficients"):
        plan = tuned(judge, solver, coefficients=kind == "coefficients")[calls]
        assert plan.evidence is not None
        own, against = judge.of(plan, judge.n), {}
        for place in places:
            label = min(final, key=lambda name: final[name][place].estimate.value)
            minus = own[place].minus(final[label][place])
            against[place] = {"rival": label, "value": minus.value, "half": minus.half}
        found["tuned"][kind] = {
            "distances": values(own),
            "minus the best": against,
            "gain": plan.evidence["gain"],
            "error_ratio": plan.evidence["error_ratio"],
        }
    return found


def values(seen: dict[str, Figure]) -> dict[str, float]:
    """The bare numbers."""
    return {place: float(np.float64(figure.estimate.value)) for place, figure in seen.items()}


def main() -> None:
    """Measures what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=SIZES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {"cells": []}
    judge = Judge(given.model)
    for solver in SOLVERS:
        for calls in CALLS:
            key = {"model": given.model, "n": judge.n, "solver": solver, "calls": calls}
            if any(key.items() <= done.items() for done in result["cells"]):
                continue
            result["cells"].append({**key, **cell(judge, solver, calls)})
            result |= {
                "benchmark": "benchmarks/network_distances.py",
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "machine": machine(),
                "converged": CONVERGED,
            }
            write_text(RESULT, json.dumps(result, indent=1) + "\n")
            print(solver, calls, result["cells"][-1]["tuned"], flush=True)


if __name__ == "__main__":
    main()
