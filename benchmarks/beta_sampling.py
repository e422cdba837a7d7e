r"""Beta sampling on denoisers whose converged images are their best: ``python benchmarks/beta_sampling.py``.

"Beta Sampling is All You Need" (Lee et al., 2024, https://arxiv.org/abs/2407.12173) finds that timesteps at the quantiles of a
Beta distribution give better images than uniform ones. Compared here, with DDIM and DPM-Solver++(2M), on exact denoisers of
real data and on networks:

- uniform timesteps: trailing, leading, and with both ends, which is Beta(1, 1);
- Beta(.5, .5) and Beta(.6, .6), inclusive of both ends as in the paper and end-open as in user interfaces;
- the Beta fitted to the model's own stepwise analysis, that analysis itself, and the Beta whose closed-form error under
  the whitened measure is smallest for the spectrum of the data;
- **which half of time it is**: the quantiles of Beta(.5, .5) in the noisy half and uniform ones in the clean half, and the
  other way round;
- evolution over subsets of the timesteps with a Frechet distance as its objective, in the way of AutoDiffusion;
- ``tune`` with its defaults, whose objective is the whitened error;
- the first phase of "Optimizing Few-Step Sampler for Diffusion Probabilistic Model" (Huang, 2024,
  https://arxiv.org/abs/2412.10786): levels by the discretisation loss of the model's error table, under root mean square as
  published and under the whitened measure, and EDM's grid, which that paper starts from.

A model is a name or a folder of averaged weights, for which ``--data`` has the training images. Writes
``benchmarks/results/beta_sampling.json`` after every entry; a run that was stopped goes on where it was. Features are kept in
``runs/``, so that differences are of pairs, with jackknife intervals.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from guard import HERE, machine
from peers import PEERS

from sigmatune import compile_plan, load, schedules
from sigmatune.analysis.beta_fit import equal_bins, fit_beta
from sigmatune.analysis.result import Stepwise
from sigmatune.analysis.stepwise import analyze, chain
from sigmatune.evaluation import reference_set
from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import Sample, generate
from sigmatune.evaluation.record import Figure
from sigmatune.evaluation.search_objective import FrechetObjective
from sigmatune.measures.whitened import mode_weights
from sigmatune.models.bundled import reference_file, spectra_file
from sigmatune.plan import Plan
from sigmatune.plan.file import dumps, loads
from sigmatune.spectra import measured_spectra
from sigmatune.spectra.sources import open_images
from sigmatune.support.files import write_text
from sigmatune.support.pixels import to_pixels
from sigmatune.tuning import TuningSettings, Workbench, tune
from sigmatune.tuning.beta_optimum import optimal_beta
from sigmatune.tuning.blackbox import SearchSpace, tune_by_trials
from sigmatune.tuning.gaussian_optimum import Modes
from sigmatune.tuning.own_spectrum import own_modes

WORK, RESULT = HERE.parent / "runs" / "beta_sampling", HERE / "results" / "beta_sampling.json"
STEPS, SOLVERS, METRICS, SEED = (4, 6, 10, 15, 20), ("euler", "dpmpp2m"), ("fd", "kid", "is"), 77
RIVALS = ("uniform trailing", "uniform, both ends")
ANALYSED, CHAIN, BINS, REFERENCE = 64, 200, 200, 10_000
BATCH = 64
"""Images at once, which changes speed and no row."""

TRIALS, TRIED, SPACE = 60, 256, "block10"
"""Evolution: plans, images for each, the space of the objective."""

BETAS = {"Beta(.5, .5)": 0.5, "Beta(.6, .6)": 0.6}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform trailing": ("uniform-trailing", {}),
    "uniform leading": ("uniform-leading", {}),
    "uniform, both ends": ("uniform-linspace", {}),
    **{name: ("beta", {"a": a, "b": a}) for name, a in BETAS.items()},
    "EDM's grid, rho 7": ("karras", {}),
    **{f"{name}, end-open": ("beta-open", {"a": a, "b": a}) for name, a in BETAS.items()},
}
FOUND = ("Beta fitted", "measured change", "Beta in closed form")
HALVES = ("Beta(.5, .5) in the noisy half", "Beta(.5, .5) in the clean half")
SEARCHED = ("evolution", "tune")
LOSSES = {"discretisation loss": "rms", "discretisation loss, whitened": "whitened"}
LABELS = (*FAMILIES, *HALVES, *FOUND, *SEARCHED, *LOSSES)


def halves(noisy: bool) -> list[float]:
    """The density of Beta(.5, .5) over equal bins of one half of time, a flat one over the other; each half holds a half."""
    share = 2 / np.pi * np.arcsin(np.sqrt(np.linspace(0, 1, BINS + 1)))
    half, flat = BINS // 2, np.full(BINS // 2, 1 / BINS)
    own = np.diff(share)
    return list(np.concatenate([flat, own[half:]] if noisy else [own[:half], flat]))


class Batched(FrechetObjective):
    """The objective of evolution, in larger batches."""

    def __call__(self, plan: Plan) -> float:
        """The distance of a plan's images."""
        return super().__call__(replace(plan, micro_batch=BATCH))


def name_of(source: str) -> str:
    """What a model is called; a folder of a training's snapshots has the number of epochs as its name."""
    folder = Path(source)
    if not folder.is_dir():
        return source
    return f"{folder.parent.name}-{folder.name}" if folder.name.isdigit() else folder.name


class Subject:
    """A model, its reference set, and what an analysis of it says."""

    def __init__(self, source: str, data: Path) -> None:
        self.source, self.data, self.model = source, data, load(source)
        self.name = name_of(source)
        self.wanted = Wanted.of(METRICS, extractor("efficientnet-lite0", tuple(self.model.shape)))
        self.work = WORK / self.name.replace(":", "-")
        self.work.mkdir(parents=True, exist_ok=True)

    @cached_property
    def reference(self) -> reference_set.Reference:
        """The training images, or exact draws."""
        beside = reference_file(self.source)
        if beside is not None:
            return reference_set.load(str(beside))
        own = self.work / "reference.npz"
        if not own.exists():
            images = reduced(self.data, int(self.model.shape[-1]), REFERENCE)
            name = f"{REFERENCE:,} training images at {self.model.shape[-1]} pixels"
            reference_set.measure(open_images(images), list(self.wanted.extractors), name=name).save(str(own))
        return reference_set.load(str(own))

    @cached_property
    def modes(self) -> Modes:
        """The spectrum, with the weights of the whitened measure."""
        if spectra_file(self.source) is None:
            images = torch.from_numpy(reduced(self.data, int(self.model.shape[-1]), REFERENCE)).permute(0, 3, 1, 2)
            spectrum = measured_spectra.measure(images.float() / 127.5 - 1).all
            of = Modes.of_rings(spectrum.power.reshape(-1, spectrum.rings).mean(axis=0), spectrum.count)
        else:
            of = own_modes(self.source)
        return replace(of, weight=mode_weights(of.power, of.count))

    @cached_property
    def analysis(self) -> Stepwise:
        """The stepwise analysis."""
        file = self.work / f"analysis-{ANALYSED}-{CHAIN}.npz"
        if not file.exists():
            analyze(self.model, ANALYSED, plan=chain(self.model, CHAIN), store=self.work).save(file)
        return Stepwise.load(file)

    def schedule(self, label: str, solver: str, steps: int) -> Any:
        """The levels of a label that no search finds."""
        path = self.model.path
        if label in FAMILIES:
            family, options = FAMILIES[label]
            return schedules.build(family, steps, path, **options)
        if label in LOSSES:
            bench = Workbench(self.model, TuningSettings(), store=self.work / "losses", measure=LOSSES[label])
            return PEERS["discretisation loss"](bench, steps)
        if label in HALVES:
            return schedules.build("measured", steps, path, density=halves(label == HALVES[0]))
        if label == "Beta fitted":
            fit = fit_beta(self.analysis)
            return schedules.build("beta", steps, path, a=fit.a.value, b=fit.b.value)
        if label == "measured change":
            return schedules.build("measured", steps, path, density=equal_bins(self.analysis, 50))
        return optimal_beta(solver, steps, self.modes, path)

    def plan(self, label: str, solver: str, steps: int) -> Plan:
        """The plan of a label; searched ones are kept."""
        if label not in SEARCHED:
            return compile_plan(self.schedule(label, solver, steps), solver, self.model)
        file = self.work / f"{label}-{solver}-{steps}.json"
        if not file.exists():
            found = self.evolved(solver, steps) if label == "evolution" else tune(self.model, steps, solver=solver)
            write_text(file, dumps(found))
        return loads(file.read_text())

    def evolved(self, solver: str, steps: int) -> Plan:
        """The subset of timesteps that evolution finds, by the distance of images from noises of their own."""
        used = self.wanted.extractors[0]
        objective = Batched(self.model, self.reference, used, SPACE, n=TRIED, seed=SEED + 1)
        bench = Workbench(self.model, TuningSettings(), store=self.work / "evolution")
        return tune_by_trials(bench, steps, SearchSpace([solver], "subset"), trials=TRIALS, objective=objective).plan

    def figures(self, plan: Plan, n: int) -> list[Figure]:
        """The figures of a plan, on noises that no search saw."""
        plan = replace(plan, micro_batch=BATCH)
        seen = generate(self.model, plan, n, self.wanted.extractors, seed=SEED, folder=self.work / "images", keep=False)
        return figures(seen, self.wanted, self.reference)


def drawn(subject: Subject, n: int) -> list[dict[str, Any]]:
    """The figures of exact draws, which no sampler can undercut by more than chance."""
    pixels = to_pixels(subject.model.draw(n, seed=SEED).float(), subject.model.value_range)
    features = {one.name: [dict(one(pixels))] for one in subject.wanted.extractors}
    seen = Sample(n, {"draws": subject.name, "seed": SEED}, tuple(subject.model.shape), features)
    return [one.to_dict() for one in figures(seen, subject.wanted, subject.reference)]


def reduced(file: Path, size: int, n: int) -> np.ndarray:
    """The first n training images, (n, size, size, 3), means over squares."""
    images = np.load(file)["train"][:n].astype(np.float64)
    times = images.shape[1] // size
    means = images.reshape(len(images), size, times, size, times, 3).mean(axis=(2, 4))
    return np.asarray(means.round(), dtype=np.uint8)


def group(subject: Subject, key: dict[str, Any], done: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What is missing of one solver and number of steps, with differences of pairs to the uniform timesteps."""
    solver, steps, n = key["solver"], key["steps"], key["n"]
    missing = [label for label in LABELS if not any({**key, "schedule": label}.items() <= one.items() for one in done)]
    if not missing:
        return
    rivals = {label: subject.figures(subject.plan(label, solver, steps), n) for label in RIVALS}
    for label in missing:
        plan = subject.plan(label, solver, steps)
        seen = subject.figures(plan, n)
        yield {
            **key,
            "schedule": label,
            "family": plan.schedule.family,
            "options": dict(plan.schedule.options),
            "sigmas": plan.schedule.sigmas.tolist(),
            "calls": plan.calls,
            "evidence": {name: plan.evidence[name] for name in ("gain", "baseline")} if plan.evidence else None,
            "tuning": (plan.cost or {}).get("network_evaluations", {}),
            "figures": [one.to_dict() for one in seen],
            "minus": {rival: minus(seen, of) for rival, of in rivals.items() if rival != label},
        }
        print(subject.name, solver, steps, label, [round(one.estimate.value, 1) for one in seen], flush=True)


def minus(own: list[Figure], rival: list[Figure]) -> list[dict[str, Any]]:
    """The differences of pairs."""
    return [
        {"name": a.name, "space": a.settings.space, **a.minus(b).to_dict()} for a, b in zip(own, rival, strict=True)
    ]


def main() -> None:
    """Measures what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["exact:cifar10-mixture-16"])
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=SOLVERS)
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--data", type=Path, default=Path("data/cifar10.npz"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {"cells": []}
    for source in given.models:
        subject = Subject(source, given.data)
        if source.startswith("exact:") and source not in result.setdefault("draws", {}):
            result["draws"][source] = drawn(subject, given.n)
        for solver in given.solvers:
            for steps in given.steps:
                key = {"model": subject.name, "n": given.n, "solver": solver, "steps": steps}
                for cell in group(subject, key, result["cells"]):
                    result["cells"].append(cell)
                    result |= {
                        "benchmark": "benchmarks/beta_sampling.py",
                        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                        "machine": machine(),
                        "evolution": {"trials": TRIALS, "images": TRIED, "space": SPACE},
                    }
                    write_text(RESULT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
