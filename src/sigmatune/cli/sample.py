"""``sigmatune sample``: images from a model with a plan."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sigmatune.cli.common import Several, conditions, may_write, progress_bar
from sigmatune.cli.dry_run import CallSeconds, DryRun, assumed, counted, show
from sigmatune.cli.shared_options import (
    Device,
    EngineName,
    Force,
    Guidance,
    Interval,
    Labels,
    MicroBatch,
    Model,
    Negative,
    Prompts,
    SamplingData,
    Seed,
    Size,
    SolverOption,
    Values,
)
from sigmatune.support.errors import SigmaTuneError, ending

if TYPE_CHECKING:
    import torch

    from sigmatune.cli.untuned import Untuned
    from sigmatune.core.denoiser import Denoiser
    from sigmatune.plan import Plan
    from sigmatune.plan.estimate import CostEstimate
    from sigmatune.rules import SpectralRule
    from sigmatune.support.engine import Engine
    from sigmatune.support.progress import Progress


logger = logging.getLogger(__name__)


class SampleCommand(Several):
    """``--labels 0 1 2`` is ``--labels 0 --labels 1 --labels 2``."""

    options = ("--labels",)


COMMAND = SampleCommand

WORTH = 40
"""Calls of a micro-batch from which on one of them is measured first, to say how long all of them take."""


def sample(
    model: Model,
    plan: Path | None = typer.Argument(None, help="Plan file or rule file; none with --solver and --calls."),
    n: int = typer.Option(64, "-n", help="How many images; image i depends on the seed and i alone."),
    out: Path = typer.Option(
        Path("samples.png"), "--out", "-o", help="PNG grid, or .npz with uint8 images (n, H, W, C)."
    ),
    solver: str = typer.Option(
        "",
        help="Without a plan file: sample with this solver. With a plan file: require that the plan was tuned for it.",
    ),
    calls: int = typer.Option(0, help="Without a plan file: network calls per image."),
    grid: str = typer.Option(
        "", help="Without a plan file: a family such as karras:rho=7; uniform, quadratic (phase space); auto."
    ),
    lambda_s: str = typer.Option("", help="Noise of the position in phase space: a number, or auto (by the spectrum)."),
    solver_option: SolverOption = [],
    data: SamplingData = "",
    values: Values = "auto",
    seed: Seed = 0,
    micro_batch: MicroBatch = 0,
    noise: str = typer.Option(
        "", help="Stochastic solvers: noise by call, or by level, so that another number of steps keeps the images."
    ),
    device: Device = "auto",
    force: Force = False,
    prompts: Prompts = None,
    labels: Labels = [],
    negative_prompt: Negative = None,
    guidance: Guidance = None,
    interval: Interval = None,
    size: Size = 0,
    engine: EngineName = "local",
    dry_run: DryRun = False,
    each: CallSeconds = None,
) -> None:
    """Sample images with a plan or rule file, or an untuned plan, and write them as a PNG grid or an .npz.

    Image i uses prompt or label number i; shorter lists repeat. A tuned plan remembers prompts, labels, guidance and size.
    """
    from sigmatune.cli.untuned import Untuned
    from sigmatune.core import soundness
    from sigmatune.core.schedule import whole
    from sigmatune.support.engine import engine as engine_of
    from sigmatune.workflows.image_grids import save_images

    if out.suffix.lower() not in (".png", ".npz"):
        raise SigmaTuneError(f"the output must be a .png or .npz file, not {ending(out)}.")
    may_write((out, "samples"), model=model, inputs=(plan, data, prompts), force=force)
    whole(n, "n")
    _check(seed, micro_batch, noise, device, engine)
    assumed(each, dry_run=dry_run)
    given = conditions(prompts, labels, negative_prompt, guidance, interval, size)
    untuned = Untuned(model, solver, calls, grid, lambda_s, solver_option, data, values)
    loaded = _loaded(plan, untuned)
    denoiser, remarks = counted(model, device, given, each, loaded)
    denoiser, table = (denoiser, untuned.plan(denoiser)) if loaded is None else _runnable(loaded, denoiser, seed, n)
    estimate = _cost(denoiser, table, n, micro_batch, each, always=dry_run)
    if dry_run and estimate is not None:
        show(replace(estimate, notes=remarks), denoiser, as_json=False, engine=engine)
        return
    soundness.check(denoiser)
    logger.info(
        "sampling %d images by %s: %d steps, %d calls, seed %d", n, table.solver, table.steps, table.calls, seed
    )
    with engine_of(engine) as running:
        shown = estimate and estimate.on(running, denoiser)
        with progress_bar("sampling", estimate=shown) as report:
            images = _images(denoiser, table, n, running, report, seed=seed, micro_batch=micro_batch, noise=noise)
    save_images(denoiser.decode(images), out, denoiser.value_range)
    if plan is None:
        print(described(table))
    print(f"{n} images, {table.network_calls(denoiser)} network calls each, written to {out}")


def _cost(
    denoiser: Denoiser, plan: Plan, n: int, rows: int, each: float | None, *, always: bool
) -> CostEstimate | None:
    """What the images cost; None for so few that measuring a call would be a large part of it."""
    from sigmatune.workflows.evaluation_estimates import estimate

    size = rows or plan.micro_batch
    evaluations = plan.evaluations(denoiser, n, size)
    if not always and evaluations < WORTH * size:
        return None
    return estimate(denoiser, {"images": evaluations}, 0, each, size)


def _check(seed: int, micro_batch: int, noise: str, device: str, engine: str) -> None:
    """Refuses numbers and names that are wrong for any model."""
    from sigmatune.cli.before import check_places
    from sigmatune.core.schedule import whole
    from sigmatune.plan.plan import check_noise

    check_places(device, engine, seed)
    if micro_batch:
        whole(micro_batch, "micro_batch")
    if noise:
        check_noise(noise)


def _loaded(file: Path | None, untuned: Untuned) -> Plan | SpectralRule | None:
    """The plan or rule of a file; None for the untuned plan of the options.

    Raises:
        SigmaTuneError: if file and options contradict each other, or there are too few of them.
    """
    from sigmatune import solvers
    from sigmatune.rules.rule_file import load_any

    if file is None:
        if not untuned.solver or not untuned.calls:
            raise SigmaTuneError("give a plan file, or --solver and --calls for an untuned plan.")
        untuned.check()
        return None
    if untuned.calls or untuned.grid or untuned.lambda_s or untuned.given or untuned.data:
        raise SigmaTuneError(
            "a plan file already fixes --calls, --grid, --lambda-s, --solver-option and --data; leave them out."
        )
    loaded = load_any(file)
    wanted = solvers.solver(untuned.solver).name if untuned.solver else loaded.solver
    if wanted != loaded.solver:
        raise SigmaTuneError(
            f"{file} was tuned for the solver {loaded.solver}, not {wanted}; tune a plan for that solver."
        )
    return loaded


def _runnable(loaded: Plan | SpectralRule, denoiser: Denoiser, seed: int, n: int) -> tuple[Denoiser, Plan]:
    """A plan and the model that runs it; a rule conditions the model on its choices for every row."""
    from sigmatune.plan import Plan

    return (denoiser, loaded) if isinstance(loaded, Plan) else loaded.together(seed, range(n), denoiser)


def _images(
    model: Denoiser, plan: Plan, n: int, engine: Engine, progress: Progress, *, seed: int, micro_batch: int, noise: str
) -> torch.Tensor:
    """The images in the model's scale; on an engine with workers every micro-batch is a piece, and its images come back."""
    from sigmatune.core.schedule import whole
    from sigmatune.evaluation.shards import end_points_of
    from sigmatune.plan import sample
    from sigmatune.support.progress import Count

    kind: Any = noise or None  # checked by the plan
    if not engine.workers:
        return sample(
            model, plan, n, seed=seed, micro_batch=micro_batch or None, noise=kind,
            progress=lambda *done: progress("sampling", *done),
        )  # fmt: skip
    plan = plan if kind is None else plan.with_noise(kind)
    plan = replace(plan, micro_batch=whole(micro_batch or plan.micro_batch, "micro_batch"))
    return end_points_of(model, plan, seed, range(n), Count(progress, "sampling", n).add, engine)


def described(plan: Plan) -> str:
    """Describes an untuned plan in one line."""
    named = {
        **plan.schedule.options,
        **{k: v for k, v in plan.solver_options.items() if k in ("lambda_s", "form", "eta")},
    }
    numbers = [
        f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}"
        for k, v in named.items()
        if not isinstance(v, dict | list) and v != ""
    ]
    return f"{plan.solver}, {plan.schedule.family}, {plan.calls} calls{': ' * bool(numbers)}{', '.join(numbers)}"
