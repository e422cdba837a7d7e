"""Splitting integrators where their order can be seen: ``python benchmarks/splitting.py``.

"Towards Fast Stochastic Sampling in Diffusion Generative Models" (Pandey et al., 2024, https://arxiv.org/abs/2402.07211) ranks
samplers of phase space by the Frechet distance on CIFAR-10. Here an exact denoiser of CIFAR-10 is lifted, so that
converged samples are the data and no training error can decide:

- all samplers with the papers' settings: lambda_s = 1, the quadratic grid, the last level that they sample to;
- the noisy ones with lambda_s from a grid, **chosen by the Frechet distance** on noises of their own, as the authors did;
- noise and levels chosen by the spectrum under the whitened measure, which has seen no image;
- samplers of position: DDIM, Euler ancestral, and SDE-DPM-Solver++(2M) on Karras levels.

Frechet distances to exact draws with jackknife intervals, and differences of pairs to reduced OBA. Writes
``benchmarks/results/splitting.json`` after every cell; a run that was stopped goes on where it was.
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

from sigmatune import load, schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation import reference_set
from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import generate
from sigmatune.evaluation.record import Figure
from sigmatune.models.bundled import reference_file
from sigmatune.plan import Plan, compile_plan
from sigmatune.solvers import SOLVERS
from sigmatune.support.files import write_text
from sigmatune.tuning.own_spectrum import own_modes
from sigmatune.tuning.spectral_search import choose

MODEL, CALLS, SEED, BATCH = "exact:cifar10-mixture-16", (20, 50, 100, 200), 77, 64
SAMPLERS = (
    "reduced-oba", "phase-em", "sscs", "naive-oba", "naive-bao", "naive-obab", "naive-ba", "naive-bab",
    "reduced-bao", "reduced-obab", "reduced-ba", "reduced-bab",
)  # fmt: skip
TUNED = ("reduced-oba", "reduced-bao", "reduced-obab")
POSITION = {"euler": "uniform-trailing", "ancestral": "uniform-trailing", "sde-dpmpp2m": "karras"}
LAMBDAS, TRIED, SPACE = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), 200, "block10"
"""The grid of lambda_s, and the images and the space by which one of them is chosen."""

WORK, RESULT = HERE.parent / "runs" / "splitting", HERE / "results" / "splitting.json"


class Subject:
    """The lifted model and exact draws."""

    def __init__(self) -> None:
        file = reference_file(MODEL)
        if file is None:
            raise SystemExit(f"{MODEL} is not built; run python tools/build_exact.py {MODEL.removeprefix('exact:')}")
        self.model: Denoiser = load(MODEL)
        self.known = reference_set.load(str(file))
        self.wanted = Wanted.of(("fd",), extractor("efficientnet-lite0", tuple(self.model.shape)))

    def figures(self, plan: Plan, n: int, seed: int = SEED) -> list[Figure]:
        """The distances of a plan's images."""
        plan = replace(plan, micro_batch=BATCH)
        seen = generate(self.model, plan, n, self.wanted.extractors, seed=seed, folder=WORK, keep=False)
        return figures(seen, self.wanted, self.known)

    def plan(self, sampler: str, calls: int, family: str = "phase-time", **options: Any) -> Plan:
        """A sampler's plan on the papers' grid, or on another family's levels."""
        steps = SOLVERS[sampler].steps_for(calls)
        return compile_plan(schedules.build(family, steps, self.model.path), sampler, self.model, **options)

    def by_distance(self, sampler: str, calls: int) -> Plan:
        """The lambda_s of the grid whose images are nearest, on noises that the comparison does not use."""
        plans = [self.plan(sampler, calls, lambda_s=value) for value in LAMBDAS]

        def distance(plan: Plan) -> float:
            of_space = [f for f in self.figures(plan, TRIED, SEED + 1) if f.settings.space == SPACE]
            return float(of_space[0].estimate.value)

        return min(plans, key=distance)

    def by_spectrum(self, sampler: str, calls: int) -> Plan:
        """Noise and levels by the spectrum."""
        chosen = choose(sampler, SOLVERS[sampler].steps_for(calls), own_modes(MODEL), self.model.path)
        return compile_plan(chosen.schedule, sampler, self.model, **chosen.options)


def entries(subject: Subject, calls: int) -> list[tuple[str, str, Any]]:
    """Sampler, how it was set, and what makes its plan."""
    return [
        *((name, "papers", lambda name=name: subject.plan(name, calls)) for name in SAMPLERS),
        *((name, "lambda_s by distance", lambda name=name: subject.by_distance(name, calls)) for name in TUNED),
        *((name, "by the spectrum", lambda name=name: subject.by_spectrum(name, calls)) for name in TUNED),
        *((name, "position", lambda name=name: subject.plan(name, calls, POSITION[name])) for name in POSITION),
    ]


def main() -> None:
    """Measures what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    WORK.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"cells": []}
    subject = Subject()
    for calls in given.calls:
        key = {"calls": calls, "n": given.n}
        done = {(c["sampler"], c["set"]) for c in result["cells"] if key.items() <= c.items()}
        missing = [entry for entry in entries(subject, calls) if entry[:2] not in done]
        base = subject.figures(subject.plan(SAMPLERS[0], calls), given.n) if missing else []
        for sampler, how, make in missing:
            plan = make()
            own = subject.figures(plan, given.n)
            gaps = [{"space": a.settings.space, **a.minus(b).to_dict()} for a, b in zip(own, base, strict=True)]
            levels = plan.schedule.sigmas
            result["cells"].append(
                {**key, "sampler": sampler, "set": how, "plan_solver": plan.solver, "family": plan.schedule.family,
                 "network_calls": plan.calls, "lambda_s": plan.solver_options.get("lambda_s"),
                 "ends": [float(levels[0]), float(levels[-2])], "figures": [f.to_dict() for f in own], "minus": gaps}
            )  # fmt: skip
            keep(result, subject)
            print(calls, sampler, how, [round(f.estimate.value, 1) for f in own], flush=True)


def keep(result: dict[str, Any], subject: Subject) -> None:
    """Writes what has been measured."""
    facts = {
        "benchmark": "benchmarks/splitting.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "model": MODEL,
        "reference": subject.known.spec(),
        "grid": list(LAMBDAS),
        "tried": TRIED,
    }
    write_text(RESULT, json.dumps({**result, **facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
