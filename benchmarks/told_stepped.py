"""What a spectral network is told, and what it is stepped with, apart: ``python benchmarks/told_stepped.py``.

A network that was trained with a schedule for every image is told the ends of the image's curve, and sampled along it. Which of
the two is the gain? Every image is told one spectrum and stepped with another: a drawn one of its class, the data's mean, or a
drawn one of another class; the same classes and noises in every arm. On ``benchmarks/models/cifar10-spectral-cpu``, which was
trained once, so the intervals say how far images vary, not how far trainings would.

Writes ``benchmarks/results/told_stepped.json`` after every arm; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
from dataclasses import replace
from typing import Any

import torch
from guard import HERE, machine

from sigmatune import load
from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import generate
from sigmatune.evaluation.record import Figure
from sigmatune.rules import SpectralRule
from sigmatune.spectra.mixture import Mixture
from sigmatune.support.files import write_text
from training import BATCH, MODELS, RUNS, SOLVER, data_of, recipe_of

NAME, CALLS, METRICS, MOST = "cifar10-spectral-cpu", (8, 16, 32, 64), ("fd", "is"), 10_000
SPECTRA: dict[str, dict[str, Any]] = {"drawn": {}, "mean": {"mean": True}, "another class's": {"shuffled": True}}
FIRST = ("drawn", "drawn")
RESULT = HERE / "results" / "told_stepped.json"


def main() -> None:
    """Measures what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000)
    n = parser.parse_args().n
    torch.set_num_threads(1)
    RUNS.mkdir(parents=True, exist_ok=True)
    folder = MODELS / NAME
    model, spectra = load(folder, dtype=torch.bfloat16), Mixture.load(folder / "spectra.json")
    wanted = Wanted.of(METRICS, extractor("efficientnet-lite0", tuple(model.shape)))
    data = data_of(recipe_of(NAME), wanted, MOST)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {"cells": []}
    for calls in CALLS:
        rules = {name: rule(model, calls, spectra, control) for name, control in SPECTRA.items()}

        def seen(told: str, stepped: str, rules: dict[str, SpectralRule] = rules) -> list[Figure]:
            conditioned = rules[told].together(0, range(n), model)[0]
            plan = rules[stepped].plan(0, range(n), model)
            plan = replace(plan, fingerprint=conditioned.fingerprint(), micro_batch=BATCH)
            drawn = generate(conditioned, plan, n, wanted.extractors, folder=RUNS / "pictures", keep=False)
            return figures(drawn, wanted, data)

        done = {(c["told"], c["stepped"]) for c in result["cells"] if (c["calls"], c["n"]) == (calls, n)}
        arms = [(told, stepped) for told in SPECTRA for stepped in SPECTRA if (told, stepped) not in done]
        base = seen(*FIRST) if arms else []
        for told, stepped in arms:
            own = seen(told, stepped)
            result["cells"].append(
                {"calls": calls, "n": n, "told": told, "stepped": stepped, "figures": [f.to_dict() for f in own],
                 "minus": [{"name": a.name, "space": a.settings.space, **a.minus(b).to_dict()}
                           for a, b in zip(own, base, strict=True)] if (told, stepped) != FIRST else []}
            )  # fmt: skip
            keep(result)
            print(calls, told, stepped, [round(f.estimate.value, 1) for f in own], flush=True)


def rule(model: Any, calls: int, spectra: Mixture, control: dict[str, Any]) -> SpectralRule:
    """The rule that the network was trained for, with other spectra."""
    return SpectralRule.trained(model, calls, spectra, solver=SOLVER).edited(**control)


def keep(result: dict[str, Any]) -> None:
    """Writes what has been measured."""
    facts = {
        "benchmark": "benchmarks/told_stepped.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "solver": SOLVER,
        "reference": MOST,
    }
    write_text(RESULT, json.dumps({**result, **facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
