"""``sigmatune sample``: images from a model with a plan."""

from __future__ import annotations

from pathlib import Path

import typer

from sigmatune.cli.common import guided, load_model, progress_bar, writable
from sigmatune.errors import SigmaTuneError


def sample(
    model: str = typer.Argument(help="cifar10, digits, a diffusers folder, or a hub id."),
    plan: Path = typer.Argument(help="Plan file or rule file."),
    n: int = typer.Option(64, "-n", help="How many images; image i depends on the seed and i alone."),
    out: Path = typer.Option(
        Path("samples.png"), "--out", "-o", help="PNG grid, or .npz with uint8 images (n, H, W, C)."
    ),
    solver: str = typer.Option("", help="Insist on this solver; the plan must have been tuned for it."),
    seed: int = typer.Option(0, help="Seed of the noise."),
    label: str = typer.Option("", help="Class of the images, for a model that knows classes."),
    guidance: float = typer.Option(1.0, help="Classifier-free guidance, for a model that knows classes; 1 is none."),
    interval: str = typer.Option(
        "", help="Guide between these noise levels only, as 0.3:3, or where the model's spectra propose: spectra."
    ),
    micro_batch: int = typer.Option(0, help="Images per network call; the plan's own by default."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, mps."),
) -> None:
    """Sample images with a plan or rule file and write them as a PNG grid or an .npz."""
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
    denoiser = guided(load_model(model, device, label), model, guidance, interval)
    denoiser, table = (denoiser, loaded) if isinstance(loaded, Plan) else loaded.together(seed, range(n), denoiser)
    with progress_bar() as report:
        images = run(
            denoiser,
            table,
            n,
            seed=seed,
            micro_batch=micro_batch or None,
            progress=lambda *done: report("sampling", *done),
        )
    save_images(images, out, denoiser.value_range)
    print(f"{n} images, {table.network_calls(denoiser)} network calls each, written to {out}")
