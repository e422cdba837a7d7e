"""Beta timesteps and the measured change: ``python benchmarks/beta.py``.

1. Stepwise analysis of the bundled models and of an exact Gaussian mixture (one full-covariance Gaussian per class of
   CIFAR-10 in grey, ``data/cifar10.npz``): when low and high frequencies change, the fitted Beta, the hand-picked ones.
2. On cifar10 with DDIM at 4, 6, 10, 15 and 20 steps, the guard's statistic against uniform timesteps: hand-picked Beta, fitted
   Beta, the measured density itself, and hand-made densities that no analysis produced.

Writes ``benchmarks/results/beta.json`` and ``docs/analysis_*.png``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from guard import HERE, machine, workbench

from sigmatune import load, schedules
from sigmatune.analysis.beta_fit import equal_bins, fit_beta
from sigmatune.analysis.figures import rendered
from sigmatune.analysis.result import Stepwise
from sigmatune.analysis.stepwise import analyze, chain
from sigmatune.analysis.summary import summary
from sigmatune.core.denoiser import Denoiser
from sigmatune.models.analytic import GaussianMixture
from sigmatune.noise import vp
from sigmatune.statistics.paired import compare
from sigmatune.support.files import write_bytes, write_text
from sigmatune.tuning import TuningSettings
from sigmatune.tuning.guard import judge

STEPS = (4, 6, 10, 15, 20)
BINS = 50
STORE = HERE.parent / "runs" / "analysis"


def mixture(size: int = 32) -> Denoiser:
    """CIFAR-10 in grey as ten Gaussians, one per class, with full covariances, on the path of the bundled model.

    Args:
        size: Pixels of a side, a divisor of 32; smaller images are means over squares.
    """
    file = HERE.parent / "data" / "cifar10.npz"
    if not file.exists():
        raise SystemExit("data/cifar10.npz is missing; run tools/fetch_cifar10.py first")
    data = np.load(file)
    grey = data["train"].astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 127.5 - 1
    grey = grey.reshape(-1, size, 32 // size, size, 32 // size).mean(axis=(2, 4)).reshape(-1, size**2)
    members = [grey[data["train_labels"] == label] for label in range(10)]
    means = np.stack([part.mean(axis=0) for part in members]).reshape(10, 1, size, size)
    covariances = np.stack([np.cov(part.T) + 1e-6 * np.eye(size**2) for part in members])
    return GaussianMixture(np.full(10, 0.1), means, covariances, vp("linear"))


def analyses(n: int, steps: int, names: Sequence[str] = ("cifar10", "digits", "mixture")) -> dict[str, Stepwise]:
    """The chains, kept on disk so that a run that was stopped goes on."""
    found = {}
    for name in names:
        model = mixture() if name == "mixture" else load(name)
        done = STORE / f"{name}-{n}-{steps}.npz"
        if done.exists():
            found[name] = Stepwise.load(done)
            continue
        STORE.mkdir(parents=True, exist_ok=True)
        found[name] = analyze(model, n, plan=chain(model, steps), store=STORE)
        found[name].save(done)
        print(f"{name}: analysed")
    return found


def densities(analysis: Stepwise) -> dict[str, list[float]]:
    """Measured densities over equal bins of time, clean end first, and hand-made ones."""
    x = (np.arange(BINS) + 0.5) / BINS
    hand = {"clean end": 2 * (1 - x), "noisy end": 2 * x, "middle": 6 * x * (1 - x), "both ends": 12 * (x - 0.5) ** 2}
    return {
        "measured": equal_bins(analysis, BINS),
        "measured in the estimate": equal_bins(analysis, BINS, of="x0"),
        "measured, low band": equal_bins(analysis, BINS, band="low"),
        "measured, high band": equal_bins(analysis, BINS, band="high"),
        **{f"hand-made: {name}": (values / values.sum()).tolist() for name, values in hand.items()},
    }


def choices(analysis: Stepwise) -> dict[str, tuple[str, dict[str, Any]]]:
    """Schedules to compare: (family, options) by label."""
    state, estimate = fit_beta(analysis), fit_beta(analysis, "x0")
    betas = {
        "Beta .5, .5 (paper, ADM-G)": (0.5, 0.5),
        "Beta .6, .6 (paper, Stable Diffusion)": (0.6, 0.6),
        "Beta fitted, a = b": (state.symmetric.value, state.symmetric.value),
        "Beta fitted": (state.a.value, state.b.value),
        "Beta fitted to the estimate": (estimate.a.value, estimate.b.value),
    }
    return {
        **{label: ("beta", {"a": a, "b": b}) for label, (a, b) in betas.items()},
        **{label: ("measured", {"density": density}) for label, density in densities(analysis).items()},
    }


def against_uniform(analysis: Stepwise, rows: int) -> list[dict[str, Any]]:
    """Error ratios to uniform timesteps with both ends (Beta with a = b = 1) and to the trailing ones."""
    bench = workbench("cifar10", TuningSettings(tuning=32, validation=32, held_out=rows))
    path, found = bench.model.path, []
    for steps in STEPS:
        rivals = {
            name: bench.plan(schedules.build(name, steps, path), "euler")
            for name in ("uniform-linspace", "uniform-trailing")
        }
        first = bench.plan(schedules.build("beta", steps, path), "euler")
        fine = judge(bench, first, rivals["uniform-linspace"]).reference_steps
        error = {name: bench.errors(plan, "held_out", reference_steps=fine) for name, plan in rivals.items()}
        for label, (family, options) in choices(analysis).items():
            plan = bench.plan(schedules.build(family, steps, path, **options), "euler")
            own = bench.errors(plan, "held_out", reference_steps=fine)
            entry: dict[str, Any] = {"steps": steps, "schedule": label, "rows": rows, "reference_steps": fine}
            entry["sigmas"] = plan.schedule.sigmas.tolist()
            for name in rivals:
                c = compare(own, error[name], seed=0)
                entry[name] = {key: math.exp(getattr(c, key)) for key in ("statistic", "low", "high")}
            found.append(entry)
            linspace, trailing = (entry[name] for name in rivals)
            print(f"{steps:2} {label:40} {linspace['statistic']:.3f} {trailing['statistic']:.3f}")
    return found


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--chain", type=int, default=200)
    parser.add_argument("--held-out", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = analyses(given.samples, given.chain)
    for name, analysis in found.items():
        write_bytes(HERE.parent / "docs" / f"analysis_{name}.png", rendered(analysis)[0])
    result = {
        "benchmark": "benchmarks/beta.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "analyses": {name: summary(analysis) for name, analysis in found.items()},
        "densities": densities(found["cifar10"]),
        "cells": against_uniform(found["cifar10"], given.held_out),
    }
    write_text(HERE / "results" / "beta.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
