"""``sigmatune sample``: images from a model with a plan."""

from __future__ import annotations

from pathlib import Path

import typer

from sigmatune.cli.common import (
    Guidance,
    Interval,
    Labels,
    Negative,
    Prompts,
    Several,
    Size,
    conditions,
    load_model,
    progress_bar,
    writable,
)
from sigmatune.errors import SigmaTuneError


class Command(Several):
    """``--labels 0 1 2`` is ``--labels 0 --labels 1 --labels 2``."""

    options = ("--labels",)


def sample(
    model: str = typer.Argument(help="cifar10, digits, a diffusers folder, or a hub id."),
    plan: Path = typer.Argument(help="Plan file or rule file."),
    n: int = typer.Option(64, "-n", help="How many images; image i depends on the seed and i alone."),
    out: Path = typer.Option(
        Path("samples.png"), "--out", "-o", help="PNG grid, or .npz with uint8 images (n, H, W, C)."
    ),
    solver: str = typer.Option("", help="Insist on this solver; the plan must have been tuned for it."),
    seed: int = typer.Option(0, help="Seed of the noise."),
    micro_batch: int = typer.Option(0, help="Images per network call; the plan's own by default."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, mps."),
    prompts: Prompts = None,
    labels: Labels = [],
    negative_prompt: Negative = None,
    guidance: Guidance = None,
    interval: Interval = None,
    size: Size = 0,
) -> None:
    """Sample images with a plan or rule file and write them as a PNG grid or an .npz.

    Image i has the prompt or label number i, from the start again where there are fewer.
    """
    from sigmatune.plan import Plan
    from sigmatune.plan import sample as run
    from sigmatune.rules.rule_file import load_any
    from sigmatune.schedule import whole
    from sigmatune.solvers import SOLVERS
    from sigmatune.workflows.pictures import save_images

    writable(out)
    if out.suffix not in (".png", ".npz"):
        raise SigmaTuneError(f"images are written as .png or .npz, not {out.suffix or 'without an ending'!r}.")
    loaded = load_any(plan)
    if solver and SOLVERS[solver].name != loaded.solver:
        raise SigmaTuneError(
            f"{plan} was tuned for the solver {loaded.solver}, not {SOLVERS[solver].name}; tune a plan for that solver."
        )
    whole(n, "n")
    denoiser = load_model(model, device, conditions(prompts, labels, negative_prompt, guidance, interval, size))
    table = loaded if isinstance(loaded, Plan) else loaded.plan(seed, range(n), denoiser)
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
    print(f"{n} images, {table.network_calls(denoiser)} network calls each, written to {out}")
