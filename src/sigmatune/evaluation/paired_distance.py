"""The paired error of a plan: how far its images are from the converged solution of the same noises.

The typical error is exp of the trimmed mean over rows of the log of the error, as in :mod:`sigmatune.statistics.paired`,
here for a single plan. The error is by the plan's own measure, or without one the root mean square over the image, in the
model's scale. It needs no data and measures no distance to data.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from scipy.stats import trim_mean

from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation.generation import AT_ONCE, Progress, end_points, shards_of, small_shard
from sigmatune.evaluation.record import EvaluationSettings, Figure, versions
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.plan.reference import REFERENCE_FAMILY, REFERENCE_SOLVER, reference_plan
from sigmatune.statistics.jackknife import Estimate, Rows, jackknife
from sigmatune.statistics.paired import TRIM
from sigmatune.support.errors import SigmaTuneError

MOST = 256
"""Rows; the reference solution of each costs as much as dozens of plans."""

FIRST, LAST = 48, 384
CHANGE = 0.01
"""The reference's steps are doubled until the typical error changes by less than this share of itself."""


class ErrorMeasure(Protocol):
    """What a fitted measure (:mod:`sigmatune.measures`, on a floor above) is here."""

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> Mapping[str, Any]: ...
    def errors(self, x: torch.Tensor, exact: torch.Tensor) -> torch.Tensor: ...
    def digest(self) -> str: ...


def paired(
    model: Denoiser,
    plan: Plan,
    n: int,
    *,
    seed: int = 0,
    measure: ErrorMeasure | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Figure:
    """Measures the paired error on the first n noises, at most :data:`MOST`.

    Args:
        model, plan: What is measured.
        n: How many noises.
        seed: Their seed.
        measure: The measure of the error, the plan's; by default the root mean square.
        folder: Keeps the end points.
        progress: Receives the current action.

    Raises:
        SigmaTuneError: for a stochastic plan, or if the reference does not converge.
    """
    if not plan.coefficients.deterministic:
        raise SigmaTuneError("paired errors compare end points of the same noise, so they need a deterministic plan.")
    rows = range(min(n, MOST))
    parts = shards_of(rows, small_shard(model, reference_plan(model, FIRST)))

    def sampled(part: range) -> torch.Tensor:
        return end_points(model, plan, part, seed=seed, folder=folder)

    small = len(rows) * int(np.prod(model.shape)) <= AT_ONCE
    ends = cache(sampled) if small else sampled  # what is large is read or sampled again for every reference

    def errors(steps: int) -> Array:
        logs, solution = [], reference_plan(model, steps)
        for part in parts:
            exact = end_points(model, solution, part, seed=seed, folder=folder)
            if progress is not None:
                progress(f"end points of {steps} steps", part.stop, len(rows))
            x = ends(part)
            if measure is not None:
                e = measure.errors(x, exact)
            else:
                e = (x.double() - exact.double()).flatten(1).square().mean(dim=1).sqrt()
            logs.append(e.clamp(min=1e-12).log().numpy())
        return np.concatenate(logs)

    steps, now = FIRST, errors(FIRST)
    while True:
        before, steps = now, 2 * steps
        if steps > LAST:
            raise SigmaTuneError(
                f"the reference did not converge within {LAST} steps, so paired errors mean nothing here."
            )
        now = errors(steps)
        if abs(trim_mean(now, TRIM) - trim_mean(before, TRIM)) < CHANGE:
            break

    def typical(keep: Rows) -> float:
        return float(np.exp(trim_mean(now[keep], TRIM)))

    (estimate,) = jackknife(len(now), typical)
    solution = {"name": f"{REFERENCE_FAMILY}, {REFERENCE_SOLVER}", "steps": steps, "n": len(rows)}
    origin = {"seed": seed, "indices": [0, len(rows)]}
    dtype = model.arithmetic()
    seen: dict[str, Any] = {"name": "none", "dtype": dtype}
    if measure is not None and measure.name != "rms":
        seen["measure"] = {"name": measure.name, "options": dict(measure.options), "digest": measure.digest()}
    space = "data" if "measure" not in seen else seen["measure"]["name"]
    settings = EvaluationSettings(len(rows), solution, seen, space, origin, dtype, versions())
    return Figure("paired", "lower", Estimate(estimate.value, estimate.left), settings)
