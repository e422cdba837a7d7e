"""``sigmatune tune``: the main job."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import typer

from sigmatune.cli.common import load_model, progress_bar, writable
from sigmatune.errors import SigmaTuneError


def tune(
    model: str = typer.Argument(help="cifar10, digits, a diffusers folder, or a hub id."),
    calls: int = typer.Option(8, help="Budget of network calls per image."),
    solver: str = typer.Option("dpmpp2m", help="Solver of the plan."),
    method: str = typer.Option("search", help="search, auto, or one tuning stage by name (docs: Tuning)."),
    coefficients: bool = typer.Option(False, "--coefficients", help="Also tune the plan's coefficients, by gradient."),
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
    report: Path | None = typer.Option(
        None, help="Report to write, an HTML page; by default named after the plan file and beside it."
    ),
    no_report: bool = typer.Option(False, "--no-report", help="Write no report."),
    as_json: bool = typer.Option(False, "--json", help="Print the plan file's JSON instead of a summary."),
) -> None:
    """Find the noise levels that get the most out of a budget, and prove it on held-out noise.

    Measurements are kept in a folder beside the plan file until it is written: a run that was stopped goes on where it was.
    """
    from sigmatune.plan_file import dumps
    from sigmatune.report import glance
    from sigmatune.report import write as write_report
    from sigmatune.solvers import SOLVERS
    from sigmatune.tuning import Settings, Workbench, tune_on
    from sigmatune.tuning.tuner import stages_of

    writable(out)
    page = report_path(out, report, without=no_report)
    SOLVERS[solver].steps_for(calls)
    stages_of(method, coefficients=coefficients)
    settings = Settings(tuning, validation, held_out, evaluations, micro_batch=micro_batch, seed=seed, budget=budget)
    denoiser = load_model(model, device)
    work = out.with_name(f".{out.name}.work")
    fresh = not work.exists()
    try:
        with progress_bar(quiet=as_json) as progress:
            bench = Workbench(denoiser, settings, store=work, progress=progress)
            plan = tune_on(bench, calls, solver=solver, method=method, coefficients=coefficients)
            plan.save(out)
            if page is not None:
                write_report(page, bench, plan, source=model, files=[out], analysis=glance(bench))
    except SigmaTuneError:
        if fresh:
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    if as_json:
        print(dumps(plan), end="")
        if page is not None:
            print(f"report: {page}", file=sys.stderr)
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
    if page is not None:
        print(f"report: {page}")


def report_path(plan: Path, report: Path | None, *, without: bool) -> Path | None:
    """Where the report goes, checked before any work is done; None for no report.

    Raises:
        SigmaTuneError: if it cannot be written there, or there is to be none.
    """
    if without:
        if report is not None:
            raise SigmaTuneError("--report and --no-report contradict each other; give one of them.")
        return None
    path = writable(report or plan.with_suffix(".html"))
    if path.resolve() == plan.resolve():
        raise SigmaTuneError(
            f"the plan and its report cannot both be {path}; give the report another name by --report."
        )
    return path
