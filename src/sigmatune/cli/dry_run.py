"""``--dry-run`` and ``--call-seconds``: what a command would cost, also for a model that is not here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmatune.support.errors import SigmaTuneError

if TYPE_CHECKING:
    from sigmatune.core.denoiser import Denoiser
    from sigmatune.plan import Plan
    from sigmatune.plan.estimate import CostEstimate
    from sigmatune.rules import SpectralRule
    from sigmatune.spectra.spectrum_cost import SpectrumCost
    from sigmatune.training.training_cost import TrainingCost

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what this would cost; write nothing.")]
CallSeconds = Annotated[
    float | None,
    typer.Option(
        "--call-seconds",
        help="With --dry-run: seconds of a network evaluation of one image, instead of measuring a call; the model need "
        "not be on this machine then.",
    ),
]


def assumed(each: float | None, *, dry_run: bool) -> None:
    """Checks the options.

    Raises:
        SigmaTuneError: for --call-seconds without --dry-run, or a time that is none.
    """
    if each is None:
        return
    if not dry_run:
        raise SigmaTuneError("--call-seconds belongs to --dry-run; a command that works measures a call itself.")
    if not 0 < each < float("inf"):
        raise SigmaTuneError(f"--call-seconds must be positive, not {each:g}.")


def here(source: str) -> bool:
    """Whether a model can be loaded without a network connection: a bundled or exact one, or a folder or file."""
    from pathlib import Path

    from sigmatune.models.bundled import bundled_names
    from sigmatune.models.exact import is_exact

    return source in bundled_names() or is_exact(source) or Path(source).expanduser().exists()


def counted(
    source: str, device: str, given: dict[str, Any], each: float | None, plan: Plan | SpectralRule | None = None
) -> tuple[Denoiser, tuple[str, ...]]:
    """The model of an estimate, as a plan remembers it, and a remark: with a given time one that is not here is imagined.

    Raises:
        SigmaTuneError: if it cannot be loaded.
    """
    from sigmatune.cli.remembered import load_for

    if each is None or here(source):
        return load_for(plan, source, device, given), ()
    from sigmatune.models.imagined import SHAPE, Imagined

    guided = (given.get("guidance") or 1.0) > 1.0
    calls = "two evaluations per call (guidance)" if guided else "one evaluation per call (no --guidance)"
    shape = " x ".join(map(str, SHAPE))
    remark = f"{source} is not here; counted for latents of {shape}, the noise path of Stable Diffusion, {calls}"
    return Imagined(per_call=2 if guided else 1), (remark,)


def show(
    estimate: CostEstimate | TrainingCost | SpectrumCost,
    model: Denoiser | None = None,
    *,
    as_json: bool,
    engine: str = "local",
    besides: bool = True,
) -> None:
    """Prints an estimate.

    Args:
        estimate: Of work in this process.
        model: The model; None for work that no engine divides.
        as_json: As JSON.
        engine, besides: The name of where the work would run, and as for :meth:`sigmatune.plan.estimate.CostEstimate.on`.
    """
    from sigmatune.plan.estimate import CostEstimate
    from sigmatune.support.engine import engine as engine_of

    if model is not None and isinstance(estimate, CostEstimate):
        with engine_of(engine) as running:
            estimate = estimate.on(running, model, besides=besides)
    print(json.dumps(estimate.to_dict()) if as_json else "\n".join(estimate.lines()))
