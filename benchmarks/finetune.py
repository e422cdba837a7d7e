"""What it brings to fine-tune weights on the levels that will be used: ``python benchmarks/finetune.py`` (``psld``).

ablation  On cifar10 with Euler at 4, 6, 8 and 10 calls: a baseline grid, the tuned schedule alone, fine-tuning alone (on the
          grid's levels), both (on the tuned levels), and both in turn (two rounds of half the images, the levels chosen again
          after each). All three fine-tunings see the same number of images. Frechet and kernel distances to the training
          images on noises that none of it has seen, the same for all, with differences of pairs to the baseline and to the
          tuned schedule. The source: Optimizing Few-Step Sampler for Diffusion Models (Huang, 2024),
          https://arxiv.org/abs/2412.10786.
psld      Networks of phase space and of position at equal training, CIFAR-10 at 16 x 16 (recipes ``cifar10-psld-cpu`` and
          ``cifar10-edm-uncond-cpu``): reduced OBA at 50 and 100 calls, the first through its own score and the second lifted.
          The source: Towards Fast Stochastic Sampling in Diffusion Generative Models (Pandey et al., 2024),
          https://arxiv.org/abs/2402.07211.

Writes ``benchmarks/results/finetune.json`` and ``finetune_psld.json`` after every cell; a run that was stopped goes on, and
one of some numbers of calls keeps what is known of the others.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from guard import HERE, machine

from sigmatune import compile_plan, load, load_plan, schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation import reference_set as reference
from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import generate
from sigmatune.evaluation.record import Figure
from sigmatune.models.bundled import reference_file
from sigmatune.plan import Plan
from sigmatune.solvers import SOLVERS
from sigmatune.support.files import write_text
from sigmatune.training.data import Pictures, Reading
from sigmatune.training.data import load as read_images
from sigmatune.training.recipe import Training
from sigmatune.tuning import TuningSettings as Noises
from sigmatune.tuning import tune
from sigmatune.workflows.finetune import KEEP, FinetuneJob, FinetuneSettings, ReferenceData, finetune

ROOT = HERE.parent
RUNS = ROOT / "runs" / "finetune"
MODEL, SOLVER, GRID = "cifar10", "euler", "uniform-trailing"
CALLS = (4, 6, 8, 10)
METRICS = ("fd", "kid")
IMAGES, BATCH, RATE = 6400, 64, 2e-4
"""Images that every fine-tuning sees, images per step, and the learning rate."""

NOISES = Noises(tuning=16, validation=24, held_out=32, evaluations=30, micro_batch=8)
BUDGET = 10_000
"""Network evaluations that tuning may spend, for all budgets of calls together at first, for one of them later."""

SEED = 1000
"""Of the noises that are judged on; tuning and choosing see those of 0 and 1."""

JUDGED = 256
"""Images of the verdict within a fine-tuning; the table is of many more."""

ENTRIES = ("baseline grid", "schedule only", "fine-tuning only", "both", "both in turn")


def training(images: int) -> Training:
    return Training(images=images, batch=BATCH, rate=RATE, warmup=10, weight_decay=0.0, precision="bf16")


def tuned(calls: list[int]) -> dict[int, Plan]:
    """The plans for the old weights."""
    store = RUNS / "tuning"
    store.mkdir(parents=True, exist_ok=True)
    model = load(MODEL, dtype=torch.bfloat16)
    return tune(model, calls, solver=SOLVER, budget=BUDGET, settings=NOISES, store=store)


def entry(
    label: str, calls: int, plan: Plan, images: Pictures, data: ReferenceData
) -> tuple[Denoiser, Plan, dict[str, Any]]:
    """Model and plan of an entry, and what they took."""
    old = load(MODEL, dtype=torch.bfloat16)
    grid = compile_plan(schedules.build(GRID, calls, old.path), SOLVER, old)
    if label == "baseline grid":
        return old, grid, {}
    spent = dict(plan.cost or {})
    if label == "schedule only":
        return old, plan, {"tuning": spent}
    rounds = 2 if label == "both in turn" else 1
    settings = FinetuneSettings(
        rounds=rounds, training=training(IMAGES // rounds), flip=True, method="auto" if rounds > 1 else KEEP, budget=BUDGET,
        noises=NOISES, dtype="bfloat16",
    )  # fmt: skip
    folder = RUNS / f"{label.replace(' ', '-')}-{calls}"
    start = grid if label == "fine-tuning only" else plan
    found = finetune(FinetuneJob(MODEL, images, folder, data, settings, device="cpu"), start)
    last = folder / f"round-{rounds}"
    new = load(str(last / "training" / "model"), dtype=torch.bfloat16)
    rounds_told = found.evidence["rounds"]
    took = {
        "images_seen": sum(one["images"] for one in rounds_told),
        "training_seconds": sum(one["seconds"] for one in rounds_told),
        "seconds": (found.plan.cost or {})["seconds"],
        "rounds": rounds_told,
        "verdict": found.evidence["verdict"],
    }
    if label != "fine-tuning only":
        took["tuning"] = spent
    return new, load_plan(last / "plan.json"), took


def ablation(n: int, calls: list[int]) -> None:
    images = read_images(str(ROOT / "data" / "cifar10.npz"), Reading(key="train"))
    shape = tuple(load(MODEL).shape)
    wanted = Wanted.of(METRICS, extractor("efficientnet-lite0", shape))
    known = reference.load(reference_file(MODEL))
    data = ReferenceData(known, wanted.extractor, JUDGED, 0, RUNS / "pictures")
    plans = tuned(list(CALLS))  # whatever is asked for, so that parts of the table can be measured side by side
    found: dict[tuple[str, int], tuple[list[Figure], dict[str, Any]]] = {}
    for number in calls:
        for label in ENTRIES:
            model, plan, took = entry(label, number, plans[number], images, data)
            made = generate(model, plan, n, wanted.extractors, seed=SEED, folder=RUNS / "judged", keep=False)
            own = figures(made, wanted, known)
            found[label, number] = own, {"sigmas": plan.schedule.sigmas.tolist(), **took}
            print(number, label, *(f"{f.name} {f.settings.space} {f.estimate.value:.4g}" for f in own), flush=True)
            record(
                "finetune",
                "ablation",
                cells(found, ("baseline grid", "schedule only")),
                n=n,
                images=IMAGES,
                solver=SOLVER,
            )


def cells(
    found: Mapping[tuple[str, int], tuple[list[Figure], dict[str, Any]]], rivals: tuple[str, ...]
) -> list[dict[str, Any]]:
    """What was measured, with differences of pairs."""
    made = []
    for (label, number), (own, more) in found.items():
        against = {}
        for rival in rivals:
            if rival != label and (rival, number) in found:
                pairs = zip(own, found[rival, number][0], strict=True)
                against[rival] = [{"name": a.name, "space": a.settings.space, **a.minus(b).to_dict()} for a, b in pairs]
        made.append(
            {"entry": label, "calls": number, **more, "figures": [figure.to_dict() for figure in own], "minus": against}
        )
    return made


def record(name: str, what: str, found: list[dict[str, Any]], **more: Any) -> None:
    """Writes what was measured, and keeps what the file says of other numbers of calls in the same settings."""
    file, own = HERE / "results" / f"{name}.json", {cell["calls"] for cell in found}
    old = json.loads(file.read_text()) if file.is_file() else {}
    same = old.get("model") == load(MODEL).fingerprint() and all(old.get(key) == value for key, value in more.items())
    kept = [cell for cell in old["cells"] if cell["calls"] not in own] if same else []
    result = {
        "benchmark": f"benchmarks/finetune.py {what}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "model": load(MODEL).fingerprint(),
        "dtype": "bfloat16",
        "seed": SEED,
        **more,
        "cells": sorted(kept + found, key=lambda cell: int(cell["calls"])),
    }
    write_text(file, json.dumps(result, indent=1).replace(f"{ROOT}/", "") + "\n")


# ------------------------------------------------------------------------------------------------------------ phase space

TWINS = {"native": "cifar10-psld-cpu", "lifted": "cifar10-edm-uncond-cpu"}
PHASE, LONG, MOST = "reduced-oba", (50, 100), 10_000


def psld(n: int, calls: list[int]) -> None:
    from training import RUNS as TRAINED
    from training import data_of, recipe_of, trained

    found: dict[tuple[str, int], tuple[list[Figure], dict[str, Any]]] = {}
    for label, name in TWINS.items():
        folder = trained(name)
        took = json.loads((TRAINED / name / "model" / "training.json").read_text())
        model = load(str(folder), dtype=torch.bfloat16)
        wanted = Wanted.of(METRICS, extractor("efficientnet-lite0", tuple(model.shape)))
        known = data_of(recipe_of(name), wanted, MOST)
        for number in calls:
            grid = schedules.build("phase-time", SOLVERS[PHASE].steps_for(number), model.path)
            plan = replace(compile_plan(grid, PHASE, model), micro_batch=50)
            made = generate(model, plan, n, wanted.extractors, seed=SEED, folder=RUNS / "judged", keep=False)
            own = figures(made, wanted, known)
            found[label, number] = own, {"recipe": name, "training": took}
            print(number, label, *(f"{f.name} {f.settings.space} {f.estimate.value:.4g}" for f in own), flush=True)
            record("finetune_psld", "psld", cells(found, ("lifted",)), n=n, reference=MOST, solver=PHASE)


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="ablation", choices=("ablation", "psld"))
    parser.add_argument("--n", type=int, help="images of each entry; 2000, or 1000 of phase space")
    parser.add_argument("--calls", type=int, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    Path(RUNS).mkdir(parents=True, exist_ok=True)
    if given.what == "ablation":
        ablation(given.n or 2000, given.calls or list(CALLS))
    else:
        psld(given.n or 1000, given.calls or list(LONG))


if __name__ == "__main__":
    main()
