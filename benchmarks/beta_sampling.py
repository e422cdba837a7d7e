"""Source A, "Beta Sampling is All You Need" (Lee et al., 2024): ``python benchmarks/beta_sampling.py``.

On cifar10 with DDIM at 4, 6, 10, 15 and 20 steps: uniform timesteps, Beta(.5, .5) and Beta(.6, .6) as published, the Beta
fitted to this model's own stepwise analysis, that analysis itself (the empirical transform), and a search over timestep
subsets by evolution (in the way of AutoDiffusion, with the paired error as its objective). Frechet distances and scores
against the training images, on the same noises, so that differences are of pairs.

Writes ``benchmarks/results/beta_sampling.json`` after every entry; a run that was stopped goes on where it was (features are
kept in ``runs/``). ``--n`` and ``--n-long`` set the pictures at up to and beyond 10 steps.
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

from beta import analyses
from guard import HERE, machine, single

from sigmatune import compile_plan, load, schedules
from sigmatune.analysis.beta_fit import equal_bins, fit_beta
from sigmatune.denoiser import Denoiser
from sigmatune.evaluation import reference
from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import generate
from sigmatune.evaluation.result import Figure
from sigmatune.files import write_text
from sigmatune.models.bundled import reference_file
from sigmatune.plan import Plan
from sigmatune.tuning import Settings, Workbench, tune_on

MODEL, SOLVER, STEPS, LONG = "cifar10", "euler", (4, 6, 10, 15, 20), 10
METRICS = ("fd", "is", "kid")
RUNS = HERE.parent / "runs" / "beta_sampling"
OUT = HERE / "results" / "beta_sampling.json"
RIVAL, HAND, FITTED = "uniform (trailing)", ("Beta(.6, .6)", "Beta(.5, .5)"), "Beta fitted"
SEARCHED = "evolution of timestep subsets"
SEARCH = Settings(tuning=16, validation=16, held_out=16, evaluations=60, micro_batch=8)


def entries() -> dict[str, tuple[str, dict[str, Any]]]:
    """Family and options of each schedule by label; the searched one has none."""
    analysis = analyses(64, 200)[MODEL]
    fit = fit_beta(analysis)
    return {
        RIVAL: ("uniform-trailing", {}),
        "uniform (leading)": ("uniform-leading", {}),
        HAND[0]: ("beta", {"a": 0.6, "b": 0.6}),
        HAND[1]: ("beta", {"a": 0.5, "b": 0.5}),
        FITTED: ("beta", {"a": fit.a.value, "b": fit.b.value}),
        "measured change (empirical transform)": ("measured", {"density": equal_bins(analysis, 50)}),
        SEARCHED: ("", {}),
    }


def plan_of(model: Denoiser, label: str, steps: int, family: str, options: dict[str, Any]) -> Plan:
    """The plan of one entry; the searched one is tuned, and handed out even where the guard would keep a default."""
    if label == SEARCHED:
        bench = Workbench(model, SEARCH, store=RUNS / "search")
        found = tune_on(bench, steps, solver=SOLVER, method="evolution")
        cost = (found.cost or {}).get("network_evaluations", {})
        return found.with_notes(cost={"search": cost.get("search", 0)})
    return compile_plan(schedules.build(family, steps, model.path, **options), SOLVER, model)


def cell(label: str, steps: int, n: int, family: str, options: dict[str, Any]) -> tuple[str, int, list[Figure], Plan]:
    """The figures of one schedule at one number of steps."""
    model = load(MODEL)
    wanted = Wanted.of(METRICS, extractor("efficientnet-lite0", tuple(model.shape)))
    known = reference.load(reference_file(MODEL))
    plan = plan_of(model, label, steps, family, options)
    sample = generate(model, plan, n, wanted.extractors, folder=RUNS / "pictures", keep=False)
    return label, steps, figures(sample, wanted, known), plan


def assembled(found: dict[tuple[str, int], tuple[list[Figure], Plan]]) -> list[dict[str, Any]]:
    """What has been measured, each with its paired difference to uniform timesteps and to the best hand-picked Beta."""
    cells = []
    for (label, steps), (own, plan) in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        against = {}
        for rival in (RIVAL, *HAND):
            if (rival, steps) in found and rival != label:
                pairs = zip(own, found[rival, steps][0], strict=True)
                against[rival] = [{"name": a.name, "space": a.settings.space, **a.minus(b).to_dict()} for a, b in pairs]
        cells.append(
            {
                "schedule": label,
                "steps": steps,
                "n": own[0].settings.n,
                "sigmas": plan.schedule.sigmas.tolist(),
                "search_evaluations": (plan.cost or {}).get("search", 0),
                "figures": [figure.to_dict() for figure in own],
                "minus": against,
            }
        )
    return cells


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=5000, help="pictures at up to 10 steps")
    parser.add_argument("--n-long", type=int, default=2000, help="pictures beyond")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    given = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, int], tuple[list[Figure], Plan]] = {}
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn"), initializer=single) as pool:
        jobs = [
            pool.submit(cell, label, steps, given.n if steps <= LONG else given.n_long, *how)
            for steps in STEPS
            for label, how in entries().items()
        ]
        for job in as_completed(jobs):
            label, steps, own, plan = job.result()
            found[label, steps] = own, plan
            print(steps, label, *(f"{f.name} {f.settings.space} {f.estimate.value:.4g}" for f in own), flush=True)
            result = {
                "benchmark": "benchmarks/beta_sampling.py",
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "machine": machine(),
                "model": load(MODEL).fingerprint(),
                "cells": assembled(found),
            }
            write_text(OUT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
