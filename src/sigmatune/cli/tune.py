"""``sigmatune tune``: the main job."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import typer

from sigmatune.cli.common import load_model, progress_bar, writable
from sigmatune.errors import SigmaTuneError


def tune(
    model: str = typer.Argument(help="cifar10, digits, a diffusers folder, or a hub id."),
    calls: int = typer.Option(8, help="Budget of network calls per image."),
    solver: str = typer.Option("dpmpp2m", help="Solver of the plan."),
    out: Path = typer.Option(Path("plan.json"), "--out", "-o", help="Plan file to write."),
    evaluations: int = typer.Option(60, help="Schedules that the search may try."),
    budget: int | None = typer.Option(
        None, help="Instead: network evaluations of single images that candidates and search may spend."
    ),
    tuning: int = typer.Option(48, help="Noises that the search sees."),
    validation: int = typer.Option(48, help="Noises that choose among candidates and among defaults."),
    held_out: int = typer.Option(96, help="Noises that the guard judges on, used once."),
    micro_batch: int = typer.Option(16, help="Images per network call."),
    seed: int = typer.Option(0, help="Seed of all noise and of the search."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, mps."),
    as_json: bool = typer.Option(False, "--json", help="Print the plan as JSON instead of a summary."),
) -> None:
    """Find the noise levels that get the most out of a budget, and prove it on held-out noise.

    Measurements are kept in a folder beside the plan file until it is written: a run that was stopped goes on where it was.
    """
    from sigmatune.plan_file import dumps
    from sigmatune.solvers import SOLVERS
    from sigmatune.tuning import Settings
    from sigmatune.tuning import tune as run

    writable(out)
    SOLVERS[solver].steps_for(calls)
    settings = Settings(tuning, validation, held_out, evaluations, micro_batch=micro_batch, seed=seed, budget=budget)
    denoiser = load_model(model, device)
    work = out.with_name(f".{out.name}.work")
    fresh = not work.exists()
    try:
        with progress_bar(quiet=as_json) as report:
            plan = run(denoiser, calls, solver=solver, settings=settings, store=work, progress=report)
        plan.save(out)
    except SigmaTuneError:
        if fresh:
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    if as_json:
        print(dumps(plan), end="")
        return
    evidence, cost = plan.evidence or {}, plan.cost or {}
    levels = ", ".join(f"{sigma:.4g}" for sigma in plan.schedule.sigmas)
    spent = cost["network_evaluations"]
    print(f"{evidence['verdict']}")
    print(f"sigmas: {levels}  ({plan.steps} steps, {plan.calls} calls, {plan.solver})")
    print(
        f"cost: {spent['total']:,} network evaluations of single images ({json.dumps(spent)}), {cost['seconds']:.0f} s"
    )
    print(f"written to {out}")
