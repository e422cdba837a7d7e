"""Images against data: the comparisons of the sources' papers, on cifar10: ``python benchmarks/sources.py a`` (b, d, peers).

a      "Beta Sampling is All You Need" (Lee et al., 2024, https://arxiv.org/abs/2407.12173): with DDIM at 4 to 20 steps
       uniform timesteps, Beta(.5, .5) and Beta(.6, .6) as published, the Beta fitted to this model's own stepwise analysis,
       that analysis itself (the empirical transform), and a search over timestep subsets by evolution (in the way of
       AutoDiffusion, with the paired error as its objective).
b      "Optimizing Few-Step Sampler for Diffusion Probabilistic Model" (Huang, 2024,
           https://arxiv.org/abs/2412.10786): EDM's grid
       against the discretisation loss with DDIM at 4 to 20 steps.
d      "Towards Fast Stochastic Sampling in Diffusion Generative Models" (Pandey et al., 2024,
       https://arxiv.org/abs/2402.07211): samplers of phase space on the lifted model at 20, 50 and 100 calls, on the paper's
       quadratic grid and as chosen by the spectrum, against samplers of position.
peers  Schedules of the kinds that others published (``benchmarks/peers.py``) and our own tuners.

Frechet distances, scores and kernel distances to the training images, on the same noises, so that differences are of
pairs. A new suite is an entry of ``SUITES``. Writes ``benchmarks/results/source_SUITE.json`` after every entry; a run that
was stopped goes on where it was (features are kept in ``runs/``), and one of some numbers of steps keeps what the file says of
the others, if it is of the same model.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from beta import analyses
from guard import HERE, machine, single
from peers import PEERS

from sigmatune import compile_plan, load, schedules
from sigmatune.analysis.beta_fit import equal_bins, fit_beta
from sigmatune.evaluation import reference_set as reference
from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import generate
from sigmatune.evaluation.record import Figure
from sigmatune.models.bundled import reference_file
from sigmatune.plan import Plan
from sigmatune.solvers import SOLVERS
from sigmatune.support.files import write_text
from sigmatune.tuning import TuningSettings, Workbench, tune_on
from sigmatune.tuning.own_spectrum import own_modes
from sigmatune.tuning.spectral_search import choose

MODEL, SOLVER, LONG = "cifar10", "euler", 10
METRICS = ("fd", "is", "kid")
RUNS = HERE.parent / "runs" / "sources"
SEARCH = TuningSettings(tuning=16, validation=16, held_out=16, evaluations=60, micro_batch=8)

How = tuple[str, str, dict[str, Any]]
"""("family", its name, its options), ("tuner", a method of `tune`, its options), ("peer", a name in PEERS, {}), ("sampler", a
solver, the family and its options) or ("spectrum", a solver, options of `choose`)."""


def of_source_a() -> dict[str, How]:
    """What source A compares."""
    analysis = analyses(64, 200, [MODEL])[MODEL]
    fit = fit_beta(analysis)
    return {
        "uniform (trailing)": ("family", "uniform-trailing", {}),
        "uniform (leading)": ("family", "uniform-leading", {}),
        "Beta(.6, .6)": ("family", "beta", {"a": 0.6, "b": 0.6}),
        "Beta(.5, .5)": ("family", "beta", {"a": 0.5, "b": 0.5}),
        "Beta fitted": ("family", "beta", {"a": fit.a.value, "b": fit.b.value}),
        "measured change": ("family", "measured", {"density": equal_bins(analysis, 50)}),
        "evolution": ("tuner", "evolution", {"budget": 10_000}),
    }


def of_source_b() -> dict[str, How]:
    """What source B compares."""
    return {"EDM's grid, rho 7": ("family", "karras", {}), "discretisation loss": ("peer", "discretisation loss", {})}


def of_source_d() -> dict[str, How]:
    """What source D compares, and samplers of position."""
    phase = ("phase-em", "sscs", "naive-oba", "reduced-oba", "reduced-bao", "reduced-obab")
    quadratic: dict[str, How] = {name: ("sampler", name, {"family": "phase-time"}) for name in phase}
    position: dict[str, How] = {
        "DDIM": ("sampler", "euler", {"family": "uniform-trailing"}),
        "Euler ancestral": ("sampler", "ancestral", {"family": "uniform-trailing"}),
        "SDE-DPM-Solver++(2M)": ("sampler", "sde-dpmpp2m", {"family": "karras"}),
    }
    tuned: dict[str, How] = {
        "reduced-oba, noise and levels by the spectrum": ("spectrum", "reduced-oba", {}),
        "reduced-oba, levels by the spectrum": ("spectrum", "reduced-oba", {"lambda_s": 1.0}),
        "reduced-bao, levels by the spectrum": ("spectrum", "reduced-bao", {"lambda_s": 1.0}),
    }
    return quadratic | tuned | position


def of_peers() -> dict[str, How]:
    """Static families, kinds of schedule that others published, and our tuners."""
    families = {name: ("family", name, {}) for name in ("karras", "log-uniform", "uniform-trailing", "kl-optimal")}
    others: dict[str, How] = {name: ("peer", name, {}) for name in PEERS}
    tuners: dict[str, How] = {
        f"tune, {name}": ("tuner", name, {"budget": 5_000}) for name in ("trajectory", "surrogate", "auto")
    }
    return families | others | tuners


@dataclass(frozen=True)
class Suite:
    """A comparison.

    Attributes:
        entries: Makes what is compared, by label.
        rivals: The labels that differences are taken to.
        steps: Numbers of steps, or of calls of samplers that take several for a step.
        n, n_long: Images at up to and beyond 10 steps.
    """

    entries: Callable[[], dict[str, How]]
    rivals: tuple[str, ...]
    steps: tuple[int, ...]
    n: int
    n_long: int


SUITES = {
    "a": Suite(of_source_a, ("uniform (trailing)", "Beta(.6, .6)", "Beta(.5, .5)"), (4, 6, 10, 15, 20), 5000, 2000),
    "b": Suite(of_source_b, ("EDM's grid, rho 7",), (4, 6, 8, 10, 15, 20), 2000, 1000),
    "d": Suite(of_source_d, ("reduced-oba", "DDIM"), (20, 50, 100), 1000, 1000),
    "peers": Suite(of_peers, ("karras", "uniform-trailing"), (4, 6, 10), 1000, 1000),
}


def plan_of(bench: Workbench, steps: int, how: How) -> Plan:
    """The plan of an entry; a tuned one is handed out as the guard does: the best default where there is no gain."""
    kind, name, options = how
    if kind == "tuner":
        return tune_on(bench, steps, solver=SOLVER, method=name, **options)
    if kind == "sampler":
        given = dict(options)
        schedule = schedules.build(given.pop("family"), SOLVERS[name].steps_for(steps), bench.model.path, **given)
        return compile_plan(schedule, name, bench.model)
    if kind == "spectrum":
        chosen = choose(name, SOLVERS[name].steps_for(steps), own_modes(MODEL), bench.model.path, **options)
        return compile_plan(chosen.schedule, name, bench.model, **chosen.options)
    if kind == "peer":
        return compile_plan(PEERS[name](bench, steps), SOLVER, bench.model)
    return compile_plan(schedules.build(name, steps, bench.model.path, **options), SOLVER, bench.model)


def cell(label: str, steps: int, n: int, how: How, dtype: str) -> tuple[str, int, list[Figure], Plan]:
    """The figures of one entry at one number of steps."""
    model = load(MODEL, dtype=getattr(torch, dtype))
    wanted = Wanted.of(METRICS, extractor("efficientnet-lite0", tuple(model.shape)))
    plan = plan_of(Workbench(model, SEARCH, store=RUNS / "search" / dtype, measure="rms"), steps, how)
    sample = generate(model, plan, n, wanted.extractors, folder=RUNS / "pictures", keep=False)
    return label, steps, figures(sample, wanted, reference.load(reference_file(MODEL))), plan


def assembled(found: dict[tuple[str, int], tuple[list[Figure], Plan]], suite: Suite) -> list[dict[str, Any]]:
    """What has been measured, each with its differences to the rivals."""
    cells = []
    for (label, steps), (own, plan) in sorted(found.items(), key=lambda item: item[0][1]):
        against = {}
        for rival in suite.rivals:
            if (rival, steps) in found and rival != label:
                pairs = zip(own, found[rival, steps][0], strict=True)
                against[rival] = [{"name": a.name, "space": a.settings.space, **a.minus(b).to_dict()} for a, b in pairs]
        cells.append(
            {
                "schedule": label,
                "steps": steps,
                "n": own[0].settings.n,
                "sigmas": plan.schedule.sigmas.tolist(),
                "solver": plan.solver,
                "solver_options": dict(plan.solver_options),
                "calls": plan.calls,
                "tuning": (plan.cost or {}).get("network_evaluations", {}),
                "figures": [figure.to_dict() for figure in own],
                "minus": against,
            }
        )
    return cells


def kept(file: Path, model: str, dtype: str, steps: Collection[int]) -> list[dict[str, Any]]:
    """Cells of other numbers of steps that were measured earlier on this model."""
    if not file.is_file():
        return []
    old = json.loads(file.read_text())
    return [one for one in old["cells"] if (old["model"], old["dtype"]) == (model, dtype) and one["steps"] not in steps]


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--steps", type=int, nargs="+", help="only these numbers of steps")
    parser.add_argument("--n", type=int, help="another number of images, of all")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"), help="the network's arithmetic")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    given = parser.parse_args()
    suite = SUITES[given.suite]
    RUNS.mkdir(parents=True, exist_ok=True)
    file, columns = HERE / "results" / f"source_{given.suite}.json", given.steps or suite.steps
    model = load(MODEL).fingerprint()
    before = kept(file, model, given.dtype, columns)
    found: dict[tuple[str, int], tuple[list[Figure], Plan]] = {}
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn"), initializer=single) as pool:
        jobs = [
            pool.submit(cell, label, steps, given.n or (suite.n if steps <= LONG else suite.n_long), how, given.dtype)
            for steps in columns
            for label, how in suite.entries().items()
        ]
        for job in as_completed(jobs):
            label, steps, own, plan = job.result()
            found[label, steps] = own, plan
            print(steps, label, *(f"{f.name} {f.settings.space} {f.estimate.value:.4g}" for f in own), flush=True)
            result = {
                "benchmark": f"benchmarks/sources.py {given.suite}",
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "machine": machine(),
                "model": model,
                "dtype": given.dtype,
                "cells": sorted(before + assembled(found, suite), key=lambda one: int(one["steps"])),
            }
            write_text(file, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
