"""``sigmatune sample``: images from a model with a plan."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sigmatune.cli.common import (
    Force,
    Guidance,
    Interval,
    Labels,
    Negative,
    Prompts,
    Several,
    Size,
    Values,
    conditions,
    load_model,
    may_write,
    progress_bar,
)
from sigmatune.errors import SigmaTuneError

if TYPE_CHECKING:
    from sigmatune.plan import Plan


logger = logging.getLogger(__name__)


class Command(Several):
    """``--labels 0 1 2`` is ``--labels 0 --labels 1 --labels 2``."""

    options = ("--labels",)


def sample(
    model: str = typer.Argument(help="cifar10, digits, a diffusers folder, or a hub id."),
    plan: Path | None = typer.Argument(None, help="Plan file or rule file; none with --solver and --calls."),
    n: int = typer.Option(64, "-n", help="How many images; image i depends on the seed and i alone."),
    out: Path = typer.Option(
        Path("samples.png"), "--out", "-o", help="PNG grid, or .npz with uint8 images (n, H, W, C)."
    ),
    solver: str = typer.Option(
        "",
        help="Without a plan file: sample by this solver. With one: insist on it; the plan must have been tuned for it.",
    ),
    calls: int = typer.Option(0, help="Without a plan file: network calls per image."),
    grid: str = typer.Option(
        "", help="Without a plan file: a family such as karras:rho=7; uniform, quadratic (phase space); auto."
    ),
    lambda_s: str = typer.Option("", help="Noise of the position in phase space: a number, or auto, by the spectrum."),
    solver_option: list[str] = typer.Option([], help="The solver's own option, such as eta=0.5."),
    data: str = typer.Option("", help="Images whose spectrum auto goes by; a bundled model brings its own."),
    values: Values = "auto",
    seed: int = typer.Option(0, help="Seed of the noise."),
    micro_batch: int = typer.Option(0, help="Images per network call; the plan's own by default."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, mps."),
    force: Force = False,
    prompts: Prompts = None,
    labels: Labels = [],
    negative_prompt: Negative = None,
    guidance: Guidance = None,
    interval: Interval = None,
    size: Size = 0,
) -> None:
    """Sample images with a plan or rule file, or an untuned plan, and write them as a PNG grid or an .npz.

    Image i has the prompt or label number i, from the start again where there are fewer.
    """
    from sigmatune import soundness
    from sigmatune.cli.untuned import Untuned
    from sigmatune.plan import Plan
    from sigmatune.plan import sample as run
    from sigmatune.rules.rule_file import load_any
    from sigmatune.schedule import whole
    from sigmatune.solvers import SOLVERS
    from sigmatune.workflows.pictures import save_images

    if out.suffix not in (".png", ".npz"):
        raise SigmaTuneError(f"images are written as .png or .npz, not {out.suffix or 'without an ending'!r}.")
    may_write((out, "samples"), model=model, inputs=(plan, data, prompts), force=force)
    whole(n, "n")
    given = conditions(prompts, labels, negative_prompt, guidance, interval, size)
    untuned = Untuned(model, solver, calls, grid, lambda_s, solver_option, data, values)
    if plan is None:
        if not solver or not calls:
            raise SigmaTuneError("give a plan file, or --solver and --calls for an untuned plan.")
        denoiser = load_model(model, device, given)
        table = untuned.plan(denoiser)
    else:
        if calls or grid or lambda_s or solver_option or data:
            raise SigmaTuneError(
                "a plan file says all that --calls, --grid, --lambda-s, --solver-option and --data say."
            )
        loaded = load_any(plan)
        if solver and SOLVERS[solver].name != loaded.solver:
            raise SigmaTuneError(
                f"{plan} was tuned for the solver {loaded.solver}, not {SOLVERS[solver].name}; tune a plan for that solver."
            )
        denoiser = load_model(model, device, given)
        if isinstance(loaded, Plan):
            table = loaded
        else:
            denoiser, table = loaded.together(seed, range(n), denoiser)
    soundness.check(denoiser)
    logger.info(
        "sampling %d images by %s: %d steps, %d calls, seed %d", n, table.solver, table.steps, table.calls, seed
    )
    with progress_bar() as report:
        images = run(
            denoiser,
            table,
            n,
            seed=seed,
            micro_batch=micro_batch or None,
            progress=lambda *done: report("sampling", *done),
        )
    save_images(denoiser.decode(images), out, denoiser.value_range)
    if plan is None:
        print(told(table))
    print(f"{n} images, {table.network_calls(denoiser)} network calls each, written to {out}")


def told(plan: Plan) -> str:
    """What an untuned plan is, in a line."""
    named = {
        **plan.schedule.options,
        **{k: v for k, v in plan.solver_options.items() if k in ("lambda_s", "form", "eta")},
    }
    numbers = [
        f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}"
        for k, v in named.items()
        if not isinstance(v, dict | list)
    ]
    return f"{plan.solver}, {plan.schedule.family}, {plan.calls} calls: {', '.join(numbers)}"
