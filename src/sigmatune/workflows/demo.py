"""The demo: the main job on a real model in two minutes, with one table and one figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sigmatune.models import load
from sigmatune.plan import Plan
from sigmatune.plan.estimate import CostEstimate
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_bytes
from sigmatune.support.progress import Parts, Progress
from sigmatune.tuning import TuningSettings, Workbench, tune_on
from sigmatune.tuning.baseline import baseline
from sigmatune.tuning.both_numbers import ENERGY, both_numbers
from sigmatune.tuning.budget import Budget
from sigmatune.tuning.estimates import TuningJob
from sigmatune.tuning.measure_choice import MeasureRequest
from sigmatune.workflows.image_grids import side_by_side

CASES = (("dpmpp2m", 4), ("dpmpp2m", 6))
USUAL = MeasureRequest()
SHOWN = 8
"""How many noises the figure shows: the first of the held-out range, not a selection."""

TITLE = "error of a sample, energy distance of the set: lower is better"

FULL = TuningSettings(tuning=16, validation=8, held_out=24, reference_steps=32, micro_batch=8)
SMALL = TuningSettings(tuning=16, validation=16, held_out=32, reference_steps=24, micro_batch=8)
BUDGET, SMALL_BUDGET = 8_000, 5_000
"""Budget of tuning for both cases, in network evaluations of single images."""


@dataclass(frozen=True)
class Demo:
    """The result of the demo.

    Attributes:
        model: Name of the model.
        rows: The table, as text: solver, calls, default, its error, tuned error, ratio of errors, ratio of distances of sets.
        notes: Sentences to print below it.
        plans: The plans, in the order of the cases.
        files: Their files.
        bench: Their workbench, which holds the guard's measurements.
    """

    model: str
    rows: list[list[str]]
    notes: list[str]
    plans: list[Plan]
    files: list[Path]
    bench: Workbench


def files_of(model: str, out: Path) -> list[tuple[Path, str]]:
    """The outputs of :func:`run` in a folder, each file with its kind."""
    name = Path(model).name
    plans = [(out / f"{name}-{solver}-{calls}.json", "plan") for solver, calls in CASES]
    return [*plans, (out / f"{name}.png", "demo")]


def estimate_of(model: str, *, small: bool = False) -> CostEstimate:
    """What the tuning at both budgets will cost, by a measured call of the model.

    Args:
        model, small: As for :func:`run`.
    """
    solver, budget = CASES[0][0], Budget.of(SMALL_BUDGET if small else BUDGET)
    job = TuningJob([calls for _, calls in CASES], solver, "auto", coefficients=True, budget=budget)
    return job.estimate(load(model), SMALL if small else FULL)


def run(
    model: str,
    out: Path,
    *,
    small: bool = False,
    force: bool = False,
    measure: MeasureRequest = USUAL,
    progress: Progress | None = None,
) -> Demo:
    """Tunes a model at two budgets and writes the plans and one figure.

    Args:
        model: The argument of :func:`sigmatune.load`.
        out: Folder to write to, created if missing.
        small: A smaller search.
        force: Replace files that SigmaTune did not write.
        measure: What is minimised.
        progress: Receives the work of both budgets as one whole.

    Raises:
        SigmaTuneError: if the folder cannot be made or the model cannot be loaded.
    """
    bench = Workbench(load(model), SMALL if small else FULL, measure=measure.name, measure_options=measure.options)
    parts = Parts(progress, [calls for _, calls in CASES])
    name = Path(model).name
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SigmaTuneError(f"cannot make the folder {out}: {error.strerror or error}.") from None
    rows, plans, files, panels, said, notes, finest = [], [], [], [], [], [], 0
    for solver, calls in CASES:
        share = (SMALL_BUDGET if small else BUDGET) // len(CASES)
        bench.progress.progress = parts.take()
        plan = tune_on(bench, calls, solver=solver, coefficients=True, budget=share)
        file = out / f"{name}-{solver}-{calls}.json"
        plan.save(file, force=force)
        default = baseline(bench, plan)
        evidence: dict[str, Any] = dict(plan.evidence or {})
        steps = evidence["reference"]["steps"]
        finest = max(finest, steps)
        errors = [_typical_error(bench, which, steps) for which in (default, plan)]
        both = both_numbers(evidence)
        assert both is not None  # the guard has just written it
        rows.append(
            [solver, str(calls), default.schedule.family, f"{errors[0]:.4f}",
             f"{errors[1]:.4f}" if evidence["gain"] else "no gain", both.shown_error, both.shown_sets]
        )  # fmt: skip
        large = both.large if evidence["gain"] else "no gain, the best default stays"
        said.append(f"{calls} calls: {large}. {both.sentence}".strip())
        plans.append(plan)
        files.append(file)
        notes.append(f"plan for {calls} calls: {file}")
        names = [(default, default.schedule.family, "baseline"), (plan, "tuned", "plan")]
        for (which, called, side), size in list(zip(names, errors, strict=True))[: 1 + bool(evidence["gain"])]:
            label = f"{calls} calls, {called}: error {size:.3f}, set {_set_distance(evidence, side)}"
            panels.append((label, _shown(bench, which)))
    panels.append((f"{finest} calls, the reference", bench.reference("held_out", finest)[:SHOWN]))
    picture = out / f"{name}.png"
    title = f"{name}: the same noises, best static default and tuned plan\n{TITLE}"
    write_bytes(picture, side_by_side(panels, title, bench.model.value_range, kind="demo"))
    notes.append(f"same noises side by side: {picture}")
    return Demo(name, rows, [*said, *notes], plans, files, bench)


def _typical_error(bench: Workbench, plan: Plan, steps: int) -> float:
    errors = bench.errors(plan, "held_out", reference_steps=steps, purpose="guard")
    return float(torch.from_numpy(errors).log().mean().exp())


def _set_distance(evidence: Mapping[str, Any], side: str) -> str:
    """The energy distance of a plan's samples to the converged ones, a root, as text."""
    return f"{max(evidence['sets'][ENERGY][side], 0.0) ** 0.5:.3f}"


def _shown(bench: Workbench, plan: Plan) -> torch.Tensor:
    return bench.outputs(plan, "held_out", purpose="guard")[:SHOWN]
