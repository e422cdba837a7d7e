"""Judges returned plans on fresh noises of synthetic models: ``python benchmarks/cells.py --shard 0/2``, then ``1/2``.

Exact denoisers of Gaussians, broad and narrow mixtures, rare modes, rings and finite sets, and random networks of three kinds;
Euler, Heun, DPM-Solver++(2M) and UniPC; 3 to 10 calls. Every plan that ``tune`` returns is compared with its rival on 512
noises that tuning never saw, against a solution of another method (Runge-Kutta of fourth order in log sigma), by the mean of
its measure's error and by the energy and the sliced distance of the set of end points. "Significantly worse" is a one-sided
test of the jackknifed difference, corrected by Holm over all cells and quantities, with a false alarm rate of 5% for all.

A cell in which the first half of the guard saw a gain and the second a loss is *given up*; its plan is judged on the same fresh
noises, which says how often this was right. Each cell is kept in ``runs/cells``; a stopped run resumes. The run that finds all
cells there writes ``benchmarks/results/cells.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from guard import machine

from sigmatune import measures
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.rng import START, noise
from sigmatune.models.analytic import Empirical, GaussianMixture, GaussianSpectrum, gaussian
from sigmatune.models.function import from_callable
from sigmatune.noise import VE, NoisePath, vp
from sigmatune.plan import Plan, sample
from sigmatune.statistics.holm import holm
from sigmatune.support.files import make_folder, write_text
from sigmatune.tuning import TuningSettings, guard, tuner
from sigmatune.tuning.no_loss import Ends, losses

HERE = Path(__file__).parent
SETTINGS = TuningSettings(tuning=16, validation=32, held_out=96, evaluations=20, reference_steps=48, micro_batch=96)
BUDGET = 2000
SOLVERS, CALLS = ("euler", "dpmpp2m", "unipc", "heun"), (5, 3, 8, 4, 10, 6)
FRESH, FRESH_SEED, FINE = 512, 20_261_128, 400
FALSE_ALARMS = 0.05
Make = Callable[[], Denoiser]


def lobes(weights: list[float], means: Any, widths: list[float], path: NoisePath) -> GaussianMixture:
    """A mixture of round Gaussians."""
    mu = np.asarray(means, dtype=np.float64)
    covariances = np.square(np.asarray(widths))[:, None, None] * np.eye(mu.shape[1])
    return GaussianMixture(np.asarray(weights) / np.sum(weights), mu, covariances, path)


def paths() -> Iterator[NoisePath]:
    """The two kinds of range, in turn."""
    while True:
        yield VE()
        yield vp()


def power(size: int, slope: float) -> np.ndarray:
    """A power law on the full grid, of mean 1/4."""
    f = np.fft.fftfreq(size) * size
    p = np.maximum(np.hypot(f[:, None], f[None, :]), 0.5) ** -slope
    return np.asarray(p / p.mean() / 4)


def gaussians(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """Spectra on a grid and Gaussians of a few numbers."""
    for size, slope in ((4, 1.0), (8, 2.2), (8, 3.0)):
        yield (
            f"spectrum {size} x {size}, slope {slope}",
            partial(GaussianSpectrum, power(size, slope), (1, size, size), next(path)),
        )
    for d, ratio in ((2, 10.0), (4, 100.0), (8, 1000.0)):
        yield (
            f"gaussian of {d}, axes to {ratio:g}",
            partial(gaussian, np.zeros(d), np.diag(np.geomspace(1, 1 / ratio, d)), next(path)),
        )


def broad(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """A narrow and a broad lobe about the same place."""
    for d, share, narrow, wide in (
        (1, 0.5, 0.1, 3.0), (1, 0.05, 0.1, 3.0), (1, 0.3, 0.02, 1.0), (1, 0.1, 0.5, 5.0),
        (2, 0.2, 0.1, 3.0), (2, 0.1, 0.05, 1.0), (3, 0.2, 0.1, 2.0), (4, 0.05, 0.2, 4.0),
    ):  # fmt: skip
        name = f"broad {share:g} of {d}, {narrow:g} and {wide:g}"
        yield name, partial(lobes, [1 - share, share], np.zeros((2, d)), [narrow, wide], next(path))


def rare(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """One mode far away that holds few of the data."""
    for d, share, away, width in (
        (1, 0.02, 4.0, 0.3), (1, 0.05, 10.0, 0.5), (1, 0.1, 2.0, 0.1), (2, 0.01, 5.0, 0.5),
        (2, 0.03, 3.0, 0.2), (2, 0.1, 20.0, 1.0), (4, 0.05, 4.0, 0.3), (8, 0.02, 6.0, 0.5),
    ):  # fmt: skip
        means = np.zeros((2, d))
        means[1, 0] = away
        yield (
            f"rare {share:g} of {d} at {away:g}",
            partial(lobes, [1 - share, share], means, [width, width], next(path)),
        )


def narrow(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """Several narrow modes of random weights."""
    for seed, (d, modes, width) in enumerate(
        ((1, 3, 0.02), (1, 8, 0.05), (2, 4, 0.02), (2, 9, 0.1), (2, 16, 0.05), (4, 6, 0.05), (8, 5, 0.1), (3, 12, 0.03))
    ):
        rng = np.random.default_rng(seed)
        weights, means = rng.dirichlet(np.ones(modes)), rng.normal(size=(modes, d)) * 1.5
        yield (
            f"{modes} modes of {d}, {width:g} wide",
            partial(lobes, weights.tolist(), means, [width] * modes, next(path)),
        )


def rings(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """Rings of one or two radii, as many lobes as look like a line."""
    for radii, width in (
        ([1.0], 0.05),
        ([1.0], 0.2),
        ([3.0], 0.1),
        ([0.5, 2.0], 0.1),
        ([1.0, 4.0], 0.3),
        ([0.2], 0.01),
    ):
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        means = np.concatenate([r * np.stack([np.cos(angles), np.sin(angles)], axis=1) for r in radii])
        yield (
            f"rings of {radii}, {width:g} wide",
            partial(lobes, [1.0] * len(means), means, [width] * len(means), next(path)),
        )


def finite(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """Finite sets of images with a spectrum, and of points."""
    for n, size, slope in ((8, 4, 2.0), (32, 8, 2.2), (64, 8, 1.0)):
        images = GaussianSpectrum(power(size, slope), (1, size, size)).draw(n, seed=n)
        yield f"{n} images {size} x {size}", partial(Empirical, images, next(path))
    for n, d in ((5, 2), (40, 3), (100, 6)):
        points = torch.from_numpy(np.random.default_rng(n).normal(size=(n, d)))
        yield f"{n} points of {d}", partial(Empirical, points, next(path))


def networks(_: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """Random networks with EDM's preconditioning: dense, convolutional, and with attention over the modes of the data."""
    flat, grids = ((2,), (6,), (16,)), ((1, 8, 8), (2, 4, 4))
    kinds = {"dense": flat, "convolutional": grids, "attention": ((3,), (8,), (1, 4, 4))}
    for kind, shape in ((kind, shape) for kind, shapes in kinds.items() for shape in shapes):
        yield f"{kind} network, {shape}", partial(network, kind, shape)


def network(kind: str, shape: tuple[int, ...]) -> Denoiser:
    r"""A random network :math:`D = c_{skip} x + c_{out} F(c_{in} x, \log \sigma / 4)` in float64."""
    rng, d, hidden = np.random.default_rng(sum(shape) + len(kind)), int(np.prod(shape)), 24

    def weight(*size: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=size) / np.sqrt(np.prod(size[1:])))

    first, second, last = weight(hidden, d + 2), weight(hidden, hidden), weight(d, hidden)
    kernels = [weight(8, shape[0] + 1, 3, 3), weight(8, 8, 3, 3), weight(shape[0], 8, 3, 3)] if len(shape) == 3 else []
    keys = weight(12, d) * d**0.5

    def features(u: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        if kind == "attention":
            return torch.softmax(u.flatten(1) @ keys.T * (1 - time), dim=1) @ keys
        if kind == "dense":
            joined = torch.cat([u.flatten(1), torch.sin(3 * time), torch.cos(3 * time)], dim=1)
            return torch.tanh(torch.tanh(2 * joined @ first.T) @ second.T * 2) @ last.T
        y = torch.cat([u, time[:, :, None, None].expand(-1, 1, *shape[1:])], dim=1)
        for kernel in kernels[:-1]:
            y = torch.tanh(2 * torch.nn.functional.conv2d(y, kernel, padding=1))
        return torch.nn.functional.conv2d(y, kernels[-1], padding=1)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        s = sigma.view(-1, *[1] * len(shape))
        total = (s**2 + 0.25).sqrt()
        out = features(x / total, (sigma.log() / 4)[:, None]).view(x.shape)
        return x * 0.25 / total**2 + out * s * 0.5 / total

    return from_callable(denoise, shape, dtype=torch.float64, name=f"{kind} {shape}")


def models() -> list[tuple[str, Make]]:
    """All models by name."""
    path = paths()
    families = (gaussians, broad, rare, narrow, rings, finite, networks)
    return [(f"{family.__name__}: {name}", make) for family in families for name, make in family(path)]


def cells() -> list[tuple[str, Make, str, int]]:
    """The case that started this, and three cells of every model: (model, how to make it, solver, calls)."""
    lost = partial(lobes, [0.8, 0.2], np.zeros((2, 1)), [0.1, 3.0], VE())
    listed: list[tuple[str, Make, str, int]] = [("broad: 0.2 of 1, 0.1 and 3", lost, "dpmpp2m", 5)]
    for number, (name, make) in enumerate(models()):
        for turn in range(3):
            place = 3 * number + turn
            listed.append((name, make, SOLVERS[(place + number // 4) % 4], CALLS[place % 6]))
    return listed


def fine(model: Denoiser, eps: torch.Tensor) -> torch.Tensor:
    r"""The end points by the classical Runge-Kutta method for :math:`dx / d\log\sigma = x - D(x; \sigma)`, and one denoise."""
    grid = np.linspace(np.log(model.path.sigma_max), np.log(model.path.sigma_min), FINE + 1)

    def D(x: torch.Tensor, log_sigma: float) -> torch.Tensor:
        sigma = float(np.clip(np.exp(log_sigma), model.path.sigma_min, model.path.sigma_max))
        return model(x / np.hypot(1.0, sigma), sigma)

    x = eps * model.path.sigma_max
    for t, s in pairwise(grid):
        h, middle = s - t, (s + t) / 2
        k1 = x - D(x, t)
        y = x + h / 2 * k1
        k2 = y - D(y, middle)
        y = x + h / 2 * k2
        k3 = y - D(y, middle)
        y = x + h * k3
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + y - D(y, s))
    return D(x, grid[-1])


def candidate(model: Denoiser, solver: str, calls: int) -> tuple[Plan, Plan, Plan, guard.Judged]:
    """Tunes: the returned plan, the tuned one, the rival, and the verdict."""
    seen: list[Any] = []

    def judge(bench: Any, tuned: Plan, default: Plan, **rest: Any) -> guard.Judged:
        seen.extend([tuned, default, guard.judge(bench, tuned, default, **rest)])
        return seen[-1]

    with mock.patch.object(tuner, "judge", judge):
        returned = tuner.tune(model, calls, solver=solver, settings=SETTINGS, budget=BUDGET)
    return returned, seen[0], seen[1], seen[2]


def cell(name: str, make: Make, solver: str, calls: int) -> dict[str, Any]:
    """One cell: what the guard said, and what fresh noises say of the tuned plan."""
    began, model = time.process_time(), make()
    returned, tuned, rival, judged = candidate(model, solver, calls)
    evidence = dict(returned.evidence or {})
    first = judged.converged and judged.comparison.gain
    result = {
        "model": name, "solver": solver, "calls": calls, "gain": judged.gain, "given_up": bool(first and judged.lost),
        "returned": returned.schedule.sigmas.tolist(), "baseline": evidence["baseline"], "verdict": evidence["verdict"],
        "error_ratio": evidence["error_ratio"], "no_loss": evidence["no_loss"], "measure": evidence["measure"]["name"],
    }  # fmt: skip
    if first:
        eps = noise(FRESH_SEED, range(FRESH), START, model.shape, dtype=torch.float64)
        measure, exact = measures.from_dict(evidence["measure"]), fine(model, eps)
        x, y = (
            sample(model, plan, seed=FRESH_SEED, indices=range(FRESH), micro_batch=FRESH) for plan in (tuned, rival)
        )
        errors = measure.errors(x, exact).numpy(), measure.errors(y, exact).numpy()
        result["fresh"] = [loss.to_dict() for loss in losses(measure, Ends(x, y, exact, errors))]
    return {**result, "cpu_seconds": round(time.process_time() - began, 1)}


def file_of(number: int) -> Path:
    """Where a cell is kept."""
    return make_folder(HERE.parent / "runs" / "cells") / f"{number}.json"


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts, with the correction over all cells and quantities; the upper tail is reported, not counted."""
    tests = [(c, q) for c in found for q in c.get("fresh", ()) if not q["name"].startswith("mean of the worst")]
    kept = [(c, q) for c, q in tests if c["gain"]]
    worse = [(c["model"], c["solver"], c["calls"], q["name"]) for (c, q), p in
             zip(kept, holm([q["p"] for _, q in kept]), strict=True) if p <= FALSE_ALARMS]  # fmt: skip
    given_up = [c for c in found if c["given_up"]]
    right = [c for c in given_up if min(holm([q["p"] for q in c["fresh"]])) <= FALSE_ALARMS]
    return {
        "cells": len(found), "models": len({c["model"] for c in found}), "gains": sum(c["gain"] for c in found),
        "worse_than_the_rival": len({one[:3] for one in worse}), "worse": worse,
        "given_up": len(given_up), "given_up_and_worse_on_fresh_noises": len(right),
        "false_alarm_rate": FALSE_ALARMS, "tests": len(kept), "fresh_noises": FRESH,
        "cpu_seconds": sum(c["cpu_seconds"] for c in found),
    }  # fmt: skip


def main() -> None:
    """Runs a shard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shard", default="0/1", help="i/n: every n-th cell from the i-th on")
    args = parser.parse_args()
    first, every = map(int, args.shard.split("/"))
    torch.set_num_threads(1)
    listed = cells()
    for number in range(first, len(listed), every):
        if not file_of(number).exists():
            write_text(file_of(number), json.dumps(cell(*listed[number])) + "\n")
            said = json.loads(file_of(number).read_text())
            print(
                number, said["model"], said["solver"], said["calls"], said["verdict"], said["cpu_seconds"], flush=True
            )
    files = [file_of(number) for number in range(len(listed))]
    if all(file.exists() for file in files):
        found = [json.loads(file.read_text()) for file in files]
        result = {"benchmark": "benchmarks/cells.py", "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                  "machine": machine(), "settings": {**vars(SETTINGS), "budget": BUDGET, "fine_steps": FINE},
                  "summary": summary(found), "cells": found}  # fmt: skip
        write_text(HERE / "results" / "cells.json", json.dumps(result, indent=1) + "\n")
        print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
