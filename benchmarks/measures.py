"""Which error ranks schedules as pictures do: ``python benchmarks/measures.py``, after building the exact denoisers.

For every model, solver and number of calls, schedules that differ in all ways (seven named grids and some random ones) are
sampled from the same noises. Every candidate for a measure gives each of them an error against the converged solution of these
noises; Frechet distances, in two spaces, to data (exact draws, or training images) and to the converged samples say what the
pictures show. A measure is good where the two agree: Spearman's correlation over the schedules, and how much worse the schedule
of the smallest error is than the best one (``regret``).

Writes ``benchmarks/results/measures.json`` as it goes; a run that was stopped goes on where it was. ``--only`` for some models,
``--models`` lists them, ``--only`` with none computes the summary again.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from guard import machine
from ranking import summary

from sigmatune import compile_plan, load, measures, schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import Schedule
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.extractors.base import principal
from sigmatune.noise import NoisePath
from sigmatune.plan import sample
from sigmatune.plan.reference import reference_plan
from sigmatune.spectra.sources import open_images
from sigmatune.statistics.frechet import Gaussian
from sigmatune.statistics.moments import Moments
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_text
from sigmatune.support.pixels import to_pixels

HERE = Path(__file__).parent
RESULT, WORK = HERE / "results" / "measures.json", HERE.parent / "runs" / "measures"
SOLVERS, CALLS = ("euler", "dpmpp2m"), (4, 6, 10)
NAMED = (
    ("uniform-trailing", {}), ("uniform-leading", {}), ("uniform-linspace", {}), ("beta", {"a": 0.6, "b": 0.6}),
    ("beta", {"a": 0.5, "b": 0.5}), ("beta-open", {"a": 0.6, "b": 0.6}), ("karras", {}),
)  # fmt: skip
REFERENCE_STEPS, DATA_ROWS, COMPONENTS = 40, 2000, 64
SPACES = ("block10", "head-pca64")
EXPONENTS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Subject:
    """A model, how many noises and random schedules it gets, the data that it is a model of (none: exact draws), and calls."""

    source: str
    rows: int
    random: int = 7
    data: tuple[str, str, int] | None = None
    calls: tuple[int, ...] = CALLS


SUBJECTS = {
    "mixture of CIFAR-10, 16": Subject("exact:cifar10-mixture-16", 192),
    "network, CIFAR-10, 16": Subject("benchmarks/models/cifar10-edm-uncond-cpu", 128, 7, ("cifar10", "train", 16)),
    "mixture of CIFAR-10, 32": Subject("exact:cifar10-mixture-32", 128),
    "network, emoji, 32": Subject("benchmarks/models/unfinished/emoji", 64, 3, ("emoji", "images", 32), (4, 6)),
    "mixture of emoji, 32": Subject("exact:emoji-mixture-32", 128),
    "network, CIFAR-10, 32": Subject("cifar10", 64, 3, ("cifar10", "train", 32), (4, 6)),
}

CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "rms": ("rms", {}),
    **{f"rings, {p:g}": ("whitened", {"channels": "shared", "exponent": p, "floor": 1e-4}) for p in EXPONENTS},
    **{f"colours, {p:g}": ("whitened", {"channels": "principal", "exponent": p, "floor": 1e-4}) for p in EXPONENTS},
    **{
        f"rings, {p:g}, floor {floor:g}": ("whitened", {"channels": "shared", "exponent": p, "floor": floor})
        for p in (0.75, 1.0) for floor in (1e-2, 1e-6)
    },
    **{
        f"colours, 1, floor {floor:g}": ("whitened", {"channels": "principal", "exponent": 1.0, "floor": floor})
        for floor in (1e-2, 1e-6)
    },
}  # fmt: skip
PAIRED = {f"features, {space}": space for space in SPACES}


# ---------------------------------------------------------------------------------------------------------- schedules


def grids(path: NoisePath, calls: int, count: int) -> Iterator[tuple[str, Schedule]]:
    """The named grids that exist on a path, and random ones, the same in every run."""
    for family, options in NAMED:
        try:
            yield schedules.label(schedules.FAMILIES[family], options), schedules.build(family, calls, path, **options)
        except SigmaTuneError as error:  # two levels meet
            print(f"{family}, {calls} calls: {error}", flush=True)
    for i in range(count):
        yield f"random {i}", random_grid(path, calls, i)


def random_grid(path: NoisePath, calls: int, seed: int) -> Schedule:
    """Levels with gaps in log sigma from a Dirichlet distribution, between ends that are log-uniform near those of the path."""
    rng = np.random.default_rng([seed, calls])
    high = np.exp(rng.uniform(np.log(10), np.log(min(path.sigma_max, 1e3))))
    low = np.exp(rng.uniform(np.log(path.sigma_min), np.log(0.1)))
    share = np.concatenate([[0], rng.dirichlet(np.full(calls - 1, 2.0)).cumsum()])
    levels = np.clip(high * (low / high) ** share, path.sigma_min, path.sigma_max)
    return Schedule(np.append(levels, 0.0), "random", {"seed": seed}).bound(path)


# --------------------------------------------------------------------------------------------------------------- model


def opened(source: str) -> Denoiser:
    """A model by its name, or by its folder from the root of the repository."""
    return load(str(HERE.parent / source) if source.startswith("benchmarks/") else source)


class Judge:
    """What the pictures of one model are measured with."""

    def __init__(self, name: str) -> None:
        self.name, self.subject = name, SUBJECTS[name]
        self.model = opened(self.subject.source)
        self.extract = extractor("efficientnet-lite0", tuple(self.model.shape))
        self.exact = self._kept(name, lambda: self.sampled(reference_plan(self.model, REFERENCE_STEPS)))
        self.fitted = {label: measures.fit(of, self.exact, **options) for label, (of, options) in CANDIDATES.items()}
        self.of_exact = self.seen(self.exact)
        self.converged = {space: Gaussian.sampled(rows) for space, rows in self.of_exact.items()}

    def sampled(self, plan: Any) -> torch.Tensor:
        """The end points of a plan on the noises."""
        return sample(self.model, plan, self.subject.rows, seed=0, micro_batch=32)

    def _kept(self, name: str, make: Any) -> torch.Tensor:
        WORK.mkdir(parents=True, exist_ok=True)
        file = WORK / f"{name}, {self.subject.rows}, {REFERENCE_STEPS}.npy"
        if not file.is_file():
            np.save(file, make().numpy())
        return torch.from_numpy(np.load(file))

    @cached_property
    def _data(self) -> dict[str, Any]:
        """The features of data, whole spaces; kept, for they take minutes."""
        file = WORK / f"{self.name}, {DATA_ROWS} of the data.npz"
        if not file.is_file():
            seen = self.extract(to_pixels(self._images().float(), self.model.value_range))
            np.savez(file, **{space: seen[space] for space in ("block10", "head")})
        with np.load(file) as kept:
            return dict(kept)

    def _images(self) -> torch.Tensor:
        if self.subject.data is None:
            return self.model.draw(DATA_ROWS, seed=1)  # type: ignore[attr-defined]  # exact denoisers only
        data, key, size = self.subject.data
        images = open_images(HERE.parent / "data" / f"{data}.npz", key=key, size=size).drawn(DATA_ROWS)
        return torch.cat([batch for batch, _ in images])

    @cached_property
    def _basis(self) -> Any:
        return principal(Moments.of(self._data["head"]).covariance, COMPONENTS)

    @cached_property
    def data(self) -> dict[str, Gaussian]:
        """The Gaussian of the data in every space."""
        return {space: Gaussian.of(Moments.of(rows)) for space, rows in self._spaces(self._data).items()}

    def _spaces(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"block10": features["block10"].astype(np.float64), "head-pca64": features["head"] @ self._basis}

    def seen(self, x: torch.Tensor) -> dict[str, Any]:
        """The features of end points in every space."""
        return self._spaces(self.extract(to_pixels(x.float(), self.model.value_range)))

    def cell(self, schedule: Schedule, solver: str) -> dict[str, Any]:
        """The errors of a schedule by every candidate (mean log, and root of the mean square), and its distances."""
        x = self.sampled(compile_plan(schedule, solver, self.model))
        errors = {label: fitted.errors(x, self.exact).numpy() for label, fitted in self.fitted.items()}
        features = self.seen(x)
        for label, space in PAIRED.items():
            errors[label] = np.sqrt(np.square(features[space] - self.of_exact[space]).mean(axis=1))
        sets = {space: Gaussian.sampled(rows) for space, rows in features.items()}
        return {
            "log": {label: float(np.log(e).mean()) for label, e in errors.items()},
            "square": {label: float(np.square(e).mean() ** 0.5) for label, e in errors.items()},
            "data": {space: of.distance(self.data[space]) for space, of in sets.items()},
            "converged": {space: of.distance(self.converged[space]) for space, of in sets.items()},
        }

    def floor(self) -> dict[str, float]:
        """The distance of the converged samples to the data: what no schedule gets below by much."""
        return {space: of.distance(self.data[space]) for space, of in self.converged.items()}


# ------------------------------------------------------------------------------------------------------------- running


def stored() -> dict[str, Any]:
    """What has been measured so far."""
    if RESULT.is_file():
        return json.loads(RESULT.read_text())  # type: ignore[no-any-return]
    return {"benchmark": "benchmarks/measures.py", "subjects": {}, "cells": []}


def run(name: str) -> None:
    """Measures what is missing of one model."""
    result, subject = stored(), SUBJECTS[name]
    model = opened(subject.source)
    about = {
        "source": subject.source,
        "fingerprint": model.fingerprint(),
        "exact": subject.data is None,
        "rows": subject.rows,
    }
    known = result["subjects"].get(name, {})
    if known and any(known[key] != about[key] for key in about):
        raise SystemExit(f"{name} was measured otherwise; remove its cells from {RESULT}.")
    missing = list(wanted(result["cells"], name, model.path))
    judge = Judge(name) if missing else None
    began, spent = time.process_time(), known.get("cpu_seconds", 0.0)
    for label, schedule, solver, calls in missing:
        cell = {"model": name, "schedule": label, "solver": solver, "calls": calls}
        result["cells"].append({**cell, **judge.cell(schedule, solver)})
        print(name, calls, solver, label, result["cells"][-1]["data"], flush=True)
        about |= {"converged": judge.floor(), "cpu_seconds": round(spent + time.process_time() - began)}
        result["subjects"][name] = about
        write({**result, **facts()})


def wanted(cells: list[dict[str, Any]], name: str, path: NoisePath) -> Iterator[tuple[str, Schedule, str, int]]:
    """What has not been measured of a model."""
    done = {(cell["schedule"], cell["solver"], cell["calls"]) for cell in cells if cell["model"] == name}
    for calls in SUBJECTS[name].calls:
        for label, schedule in grids(path, calls, SUBJECTS[name].random):
            for solver in SOLVERS:
                if (label, solver, calls) not in done:
                    yield label, schedule, solver, calls


def facts() -> dict[str, Any]:
    """When, on what and how."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    settings = {"reference_steps": REFERENCE_STEPS, "data": DATA_ROWS, "spaces": list(SPACES)}
    return {"date": date, "machine": machine(), **settings, "candidates": list(CANDIDATES) + list(PAIRED)}


def keep_summary() -> None:
    """Writes the summary of what has been measured beside it."""
    result = stored()
    if result["cells"]:
        exact = {name: about["exact"] for name, about in result["subjects"].items()}
        cells = [cell for cell in result["cells"] if cell["calls"] in SUBJECTS[cell["model"]].calls]
        write({**result, "summary": summary(cells, exact)})


def write(result: dict[str, Any]) -> None:
    """One cell a line."""
    cells = ",\n".join(json.dumps(cell) for cell in result["cells"])
    rest = json.dumps({**result, "cells": []}, indent=1)
    write_text(RESULT, rest.replace('"cells": []', f'"cells": [\n{cells}\n]', 1) + "\n")


def main() -> None:
    """Measures all models, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(SUBJECTS), metavar="MODEL")
    parser.add_argument("--models", action="store_true", help="list the models")
    given = parser.parse_args()
    if given.models:
        print("\n".join(SUBJECTS))
        return
    torch.set_num_threads(1)
    for name in given.only:
        run(name)
        keep_summary()
    keep_summary()


if __name__ == "__main__":
    main()
