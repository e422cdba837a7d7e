"""Noise laws of training against each other, and what they cost: ``python benchmarks/training.py compare``.

overhead     What per-image schedules add to a training step: CPU time of the law and of what tells the network its ends,
             as shares of the step, in one run. Writes ``results/training_overhead.json``.
train        Trains the recipes ``cifar10-*-cpu`` into ``runs/training/``, one after the other (``--only`` for some).
keep         Copies what was trained (``--only``) to ``benchmarks/models``: weights in float16 and the log, which the
             measurements then read.
compare      Images of these models at 8, 32 and 64 calls against the training images: SiD2, EDM, the spectral curve of
             the mean, and one for each image: drawn, the data's mean, another class's. The same network, images, steps and
             batch, the same classes and noises. Frechet distance, kernel distance and Inception-type score with intervals, and
             differences to SiD2 of pairs. Trains what is not trained yet. Writes ``results/training.json`` after every cell.
resolutions  Trains ``emoji-16``, ``-32`` and ``-64``: one recipe at three sizes.
cascade      Trains both stages of ``cifar10-cascade`` and samples one after the other, 16 to 32.

All of it goes on where it was stopped.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from guard import HERE, machine

from sigmatune import compile_plan, load, schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation import reference_set as reference
from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import generate
from sigmatune.evaluation.record import Figure
from sigmatune.plan import Plan, sample
from sigmatune.rules import Control, SpectralRule
from sigmatune.spectra.mixture import Mixture
from sigmatune.spectra.sources import open_images
from sigmatune.support.files import write_text
from sigmatune.training import cascade
from sigmatune.training.laws import LAWS, Domain
from sigmatune.training.previews import write as write_grid
from sigmatune.training.recipe import Recipe, read
from sigmatune.training.recipe import write as write_recipe
from sigmatune.training.run import prepare, train
from sigmatune.training.run_options import RunOptions
from sigmatune.training.trainer import Trainer

ROOT = HERE.parent
RUNS, MODELS = ROOT / "runs" / "training", HERE / "models"
SOLVER, BATCH = "dpmpp2m", 50
CALLS = (8, 32, 64)
METRICS = ("fd", "is", "kid")
BASELINE = "SiD2"
ENTRIES = {
    "SiD2": ("cifar10-sid2-cpu", "shifted-cosine"),
    "spectral per image, drawn": ("cifar10-spectral-cpu", "drawn"),
    "spectral per image, data's mean": ("cifar10-spectral-cpu", "mean"),
    "spectral per image, another class's": ("cifar10-spectral-cpu", "shuffled"),
    "spectral, of the mean": ("cifar10-spectral-global-cpu", "spectral"),
    "EDM": ("cifar10-edm-cpu", "karras"),
}
"""What is compared: a recipe, and how the levels of its images are chosen."""


def recipe_of(name: str) -> Recipe:
    recipe = read(ROOT / "recipes" / f"{name}.yaml")
    source = str(ROOT / recipe.data.source)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"source": source})})


def trained(name: str) -> Path:
    """The folder of a recipe's model: one that is kept here, or one that is trained, or trained on, if need be."""
    folder, recipe, kept = RUNS / name, recipe_of(name), MODELS / name
    if kept.is_dir() and read(kept / "recipe.yaml").identity() == recipe.identity():
        return kept
    if (folder / "model" / "training.json").is_file():
        return folder / "model"
    RUNS.mkdir(parents=True, exist_ok=True)
    last = 0.0

    def told(report: Any) -> None:
        nonlocal last
        if time.monotonic() - last > 30 or report.step == report.steps:
            last = time.monotonic()
            print(
                f"{name}: step {report.step} of {report.steps}, loss {report.loss:.4f}, "
                f"{report.images_per_second:.0f} images/s, {report.left / 60:.0f} min left",
                flush=True,
            )

    return train(recipe, folder, log=told)


def keep(names: list[str]) -> None:
    """Copies trained models and their logs to where they are kept."""
    for name in names:
        shutil.copytree(RUNS / name / "model", MODELS / name, dirs_exist_ok=True)
        shutil.copyfile(RUNS / name / "log.jsonl", MODELS / name / "log.jsonl")
        write_text(MODELS / name / "recipe.yaml", write_recipe(read(ROOT / "recipes" / f"{name}.yaml")))
        took = MODELS / name / "training.json"
        write_text(took, took.read_text().replace(f"{ROOT}/", ""))  # where the data lie on this machine


def sampler(model: Any, spectra: Mixture, how: str, calls: int, n: int) -> tuple[Denoiser, Plan]:
    """The plan of an entry, and the model that has been told the classes of its images."""
    rule = SpectralRule.of(model, "spectral-mixed", calls, spectra, control=Control(by_class=True))
    labels, size = rule.labels(0, range(n)), int(model.shape[-1])
    if how in ("drawn", "mean", "shuffled"):
        own = SpectralRule.trained(model, calls, spectra, solver=SOLVER)
        control = {"drawn": {}, "mean": {"mean": True}, "shuffled": {"shuffled": True}}[how]
        return own.edited(**control).together(0, range(n), model)
    if how == "spectral":
        curve = model.conditioner.curve
        options = {"kappa_min": curve["kappa_min"], "kappa_max": curve["kappa_max"], "widen": 0.0}
        grid = schedules.build(f"spectral-{curve['curve']}", calls, model.path, spectrum=spectra.mean(), **options)
    else:
        options = {"shift": 32 / size} if how == "shifted-cosine" else {}
        grid = schedules.build(how, calls, model.path, **options)
    told = model.conditioned(range(n), labels, None)
    return told, compile_plan(grid, SOLVER, told)


def data_of(recipe: Recipe, wanted: Wanted, most: int) -> reference.Reference:
    """The statistics of the first training images, which are kept."""
    file = RUNS / f"reference-{recipe.data.size}-{most}.npz"
    if not file.is_file():
        from sigmatune.training.data import Reading
        from sigmatune.training.data import load as read_images

        data = read_images(recipe.data.source, Reading(key=recipe.data.key, size=recipe.data.size, most=most))
        images = open_images(data.values.permute(0, 2, 3, 1).numpy())
        reference.measure(images, wanted.extractors, name=f"CIFAR-10 train, {most} drawn").save(file)
    return reference.load(file)


def compare(n: int, calls: list[int], most: int, only: list[str]) -> None:
    found: dict[tuple[str, int], list[Figure]] = {}
    for label, (name, how) in ENTRIES.items():
        if only and name not in only:
            continue
        folder = trained(name)
        model, spectra = load(folder, dtype=torch.bfloat16), Mixture.load(folder / "spectra.json")
        wanted = Wanted.of(METRICS, extractor("efficientnet-lite0", tuple(model.shape)))
        data = data_of(recipe_of(name), wanted, most)
        for number in calls:
            told, plan = sampler(model, spectra, how, number, n)
            plan = replace(plan, micro_batch=BATCH)
            made = generate(told, plan, n, wanted.extractors, folder=RUNS / "pictures", keep=False)
            own = found[label, number] = figures(made, wanted, data)
            print(number, label, *(f"{f.name} {f.settings.space} {f.estimate.value:.4g}" for f in own), flush=True)
            record(found, n, most)


def record(found: dict[tuple[str, int], list[Figure]], n: int, most: int) -> None:
    """Writes what has been measured, with the differences to the baseline."""
    cells = []
    for (label, number), own in found.items():
        base = found.get((BASELINE, number))
        pairs = [] if base is None or label == BASELINE else zip(own, base, strict=True)
        minus = [{"name": a.name, "space": a.settings.space, **a.minus(b).to_dict()} for a, b in pairs]
        cells.append(
            {"entry": label, "calls": number, "figures": [figure.to_dict() for figure in own], "minus_sid2": minus}
        )
    names = dict.fromkeys(ENTRIES[label][0] for label, _ in found)
    trainings = {name: json.loads((trained(name) / "training.json").read_text()) for name in names}
    result = {
        "benchmark": "benchmarks/training.py compare",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "n": n,
        "reference": most,
        "solver": SOLVER,
        "trainings": trainings,
        "cells": cells,
    }
    text = json.dumps(result, indent=1).replace(f"{ROOT}/", "")
    write_text(HERE / "results" / "training.json", text + "\n")


# -------------------------------------------------------------------------------------------------------------- overhead


class Clock:
    """CPU time of this thread that is spent in a function."""

    def __init__(self, function: Any) -> None:
        self.function, self.spent = function, 0.0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        began = time.thread_time()
        try:
            return self.function(*arguments, **named)
        finally:
            self.spent += time.thread_time() - began


def overhead(steps: int) -> None:
    torch.set_num_threads(1)
    rows = []
    for name, batch in (("cifar10-spectral-cpu", 64), ("cifar10-spectral", 32), ("emoji-64", 32)):
        full = recipe_of(name)
        recipe = full.model_copy(
            update={
                "data": full.data.model_copy(update={"most": 1024}),
                "training": full.training.model_copy(update={"batch": batch, "compile": False}),
                "saving": full.saving.model_copy(update={"trackers": []}),
            }
        )
        job = prepare(recipe)
        shared = LAWS["spectral"].with_options(Domain(job.objective.path, job.data.shape, job.spectrum), {})
        trainer = Trainer(
            job.network,
            job.objective,
            job.data,
            recipe.training,
            RUNS / "overhead",
            RunOptions(saving=recipe.saving, device="cpu"),
        )
        own = Clock(job.task.law.draw)
        tells = Clock(job.network.conditioning.forward)
        object.__setattr__(job.task.law, "draw", own)
        job.network.conditioning.forward = tells
        plain, spent = 0.0, 0.0
        trainer._one()  # what is only done once
        own.spent = tells.spent = 0.0
        for step in range(steps):
            began = time.thread_time()
            trainer._one()
            trainer.step += 1
            spent += time.thread_time() - began
            images = job.data.batch(0, step, range(batch), batch).images
            u = torch.rand(batch, generator=torch.Generator().manual_seed(step), dtype=torch.float64).numpy()
            began = time.thread_time()
            shared.draw(u, images)
            plain += time.thread_time() - began
        share = (own.spent - plain + tells.spent) / spent
        rows.append(
            {
                "recipe": name,
                "batch": batch,
                "steps": steps,
                "step_ms": 1e3 * spent / steps,
                "law_ms": 1e3 * own.spent / steps,
                "shared_law_ms": 1e3 * plain / steps,
                "telling_ms": 1e3 * tells.spent / steps,
                "overhead": share,
            }
        )
        print(rows[-1], flush=True)
    result = {
        "benchmark": "benchmarks/training.py overhead",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "rows": rows,
    }
    write_text(HERE / "results" / "training_overhead.json", json.dumps(result, indent=1) + "\n")


# --------------------------------------------------------------------------------------------------------------- cascade


def sample_cascade(n: int, calls: int) -> None:
    first, second = trained("cifar10-cascade-1"), trained("cifar10-cascade-2")
    small, large = load(first), load(second)
    low = sample(small, SpectralRule.trained(small, calls, Mixture.load(first / "spectra.json"), solver=SOLVER), n)
    told = cascade.enlarged(low.clamp(-1, 1), large.shape[-1])
    large = large.given(images=told)
    rule = SpectralRule.trained(large, calls, Mixture.load(second / "spectra.json"), solver=SOLVER)
    # The class of a row is a function of (seed, index), so both stages are told the same one; the noise is another seed's.
    model, plan = rule.together(0, range(n), large)
    high = told + sample(model, plan, n, seed=1)
    for name, images in (("first", low), ("enlarged", told), ("second", high)):
        write_grid(RUNS / f"cascade-{name}.png", images.clamp(-1, 1), (-1.0, 1.0))
    print(f"written to {RUNS}/cascade-*.png")


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "train", "keep", "compare", "resolutions", "cascade"))
    parser.add_argument("--only", nargs="+", default=[], help="only these recipes")
    parser.add_argument("--n", type=int, default=1000, help="images of each entry")
    parser.add_argument("--calls", type=int, nargs="+", default=list(CALLS))
    parser.add_argument("--reference", type=int, default=10_000, help="training images that are compared with")
    parser.add_argument("--steps", type=int, default=10, help="steps that the overhead is measured on")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.what == "overhead":
        overhead(given.steps)
    elif given.what == "train":
        for name in given.only or dict.fromkeys(recipe for recipe, _ in ENTRIES.values()):
            trained(name)
    elif given.what == "keep":
        keep(given.only)
    elif given.what == "compare":
        compare(given.n, given.calls, given.reference, given.only)
    elif given.what == "resolutions":
        for size in (16, 32, 64):
            trained(f"emoji-{size}")
    else:
        sample_cascade(36, given.calls[0])


if __name__ == "__main__":
    main()
