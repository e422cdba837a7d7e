"""``sigmatune tune``: the main job."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sigmatune.cli.by_spectrum import by_spectrum
from sigmatune.cli.common import Several, conditions, may_write, measure_of
from sigmatune.cli.dry_run import CallSeconds, DryRun, assumed
from sigmatune.cli.lists import solver_list, stage_list
from sigmatune.cli.shared_options import (
    Device,
    EngineName,
    Force,
    Guidance,
    Interval,
    JsonOfPlan,
    Labels,
    MeasureOption,
    Model,
    Negative,
    Prompts,
    Size,
    TuningData,
    TuningMicroBatch,
    TuningReference,
    TuningRun,
    TuningSeed,
    Values,
)
from sigmatune.support import trackers
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.remote_folder import local

if TYPE_CHECKING:
    from sigmatune.tuning import TuningSettings


class TuneCommand(Several):
    """``--calls 4 6 8 10`` is ``--calls 4 --calls 6 --calls 8 --calls 10``."""

    options = ("--calls", "--labels")


COMMAND = TuneCommand


def tune(
    model: Model,
    calls: list[int] = typer.Option(
        [8], help="Network calls per image; several numbers share their measurements: 4 6 8 10."
    ),
    solver: str = typer.Option(
        "dpmpp2m", help="Solver of the plan; `--solver list` names them all.", callback=solver_list, is_eager=True
    ),
    method: str = typer.Option(
        "auto", help="auto, or one tuning stage; `--method list` names them all.", callback=stage_list, is_eager=True
    ),
    coefficients: bool = typer.Option(False, "--coefficients", help="Also tune the plan's coefficients, by gradient."),
    out: Path = typer.Option(
        Path("plan.json"), "--out", "-o", help="Plan file; for several numbers of calls plan-4.json, plan-6.json, ..."
    ),
    budget: str | None = typer.Option(
        None,
        help="Budget: network evaluations of single images for the search (20000), or a time for everything (300s, 10min, 1h).",
    ),
    evaluations: int = typer.Option(60, help="Schedules that the stages search and evolution may try."),
    study: str | None = typer.Option(
        None,
        help="Database for evolution, such as postgresql://...; use only one that you trust. "
        "By default trials are kept in the run folder, as plain numbers.",
    ),
    measure: MeasureOption = "",
    effort: str = typer.Option(
        "normal", help="low, normal or high: how many noises, and how much the method auto may spend on its search."
    ),
    tuning: int | None = typer.Option(None, help="Noises for the search."),
    validation: int | None = typer.Option(None, help="Noises to choose among candidates and among defaults."),
    held_out: int | None = typer.Option(None, help="Noises for the guard, used once."),
    images: int = typer.Option(1000, help="Stochastic and phase-space solvers: images that the guard compares."),
    reference: TuningReference = "",
    data: TuningData = "",
    values: Values = "auto",
    micro_batch: TuningMicroBatch = 0,
    seed: TuningSeed = 0,
    device: Device = "auto",
    engine: EngineName = "local",
    run: TuningRun = None,
    report: Path | None = typer.Option(
        None, help="HTML report to write; by default beside the plan file and named after it."
    ),
    no_report: bool = typer.Option(False, "--no-report", help="Write no report."),
    tracker: list[str] = typer.Option(
        [], "--tracker", help="Also log the errors of every stage: tensorboard, trackio, wandb."
    ),
    dry_run: DryRun = False,
    each: CallSeconds = None,
    as_json: JsonOfPlan = False,
    force: Force = False,
    prompts: Prompts = None,
    labels: Labels = [],
    negative_prompt: Negative = None,
    guidance: Guidance = None,
    interval: Interval = None,
    size: Size = 0,
    integer_time: bool = typer.Option(
        False, "--integer-time", help="Whole timesteps only, for programs that round t, such as ComfyUI and Forge."
    ),
) -> None:
    """Find the noise levels that get the most out of a budget, and prove it on held-out noise.

    Solvers that add noise or sample in phase space have no error per noise: their noise and levels are optimised for
    the data's spectrum, and a comparison of sets of images with data decides.

    Measurements are kept in a folder beside the plan file: a stopped run resumes where it was, and a run with other
    calls, solvers or methods reuses what applies. You can delete the folder at any time.

    Models with prompts or labels use disjoint ones for tuning, for choosing and for the final test.

    --dry-run says what the work would cost and does nothing; with --call-seconds 0.4, the model need not be
    on this machine.
    """
    from sigmatune import solvers
    from sigmatune.cli.tune_job import TuneJob
    from sigmatune.tuning.budget import Budget
    from sigmatune.tuning.estimates import TuningJob
    from sigmatune.tuning.stage_choice import stages_of
    from sigmatune.tuning.study import check_study

    began, files = time.monotonic(), plan_files(out, calls)
    page = report_path(out, report, without=no_report)
    for number in calls:
        solvers.solver(solver).steps_for(number)
    stages_of(method, coefficients=coefficients)
    check_study(study)
    trackers.check(tracker)
    measured_by = measure_of(measure)
    settings, spending = _work(
        effort, {"tuning": tuning, "validation": validation, "held_out": held_out}, evaluations=evaluations,
        micro_batch=micro_batch, seed=seed,
    )  # fmt: skip
    limit = spending(len(calls), method=method, coefficients=coefficients) if budget is None else budget
    work = local(run or out.with_name(f"{out.stem}.run"))
    written = [*((file, "plan") for file in files.values()), (page, "report")]
    may_write(*written, model=model, inputs=(reference, data, prompts), folders=[work], force=force)
    assumed(each, dry_run=dry_run)
    of_paired = {"--method": method != "auto", "--coefficients": coefficients, "--budget": budget, "--study": study,
                 "--report": report, "--measure": measure, "--effort": effort != "normal", "--tracker": tracker}  # fmt: skip
    of_pictures = {"--reference": reference, "--data": data, "--values": values != "auto"}
    given = conditions(prompts, labels, negative_prompt, guidance, interval, size)
    given |= {"integer_time": True} if integer_time else {}
    if not solvers.solver(solver).paired():
        without(of_paired, f"{solvers.solver(solver).name} is tuned by the spectrum and tested on images")
        by_spectrum(
            model, files, solver, images=images, reference=reference, data=data, values=values, seed=seed, device=device,
            work=work, as_json=as_json, given=given, dry_run=dry_run, each=each, engine=engine,
        )  # fmt: skip
        return
    without(of_pictures, f"{solvers.solver(solver).name} is tested noise by noise, without data")
    wanted = TuningJob(list(files), solver, method, coefficients, Budget.of(limit))
    job = TuneJob(model, device, given, wanted, settings, work, study, measured_by, began, tuple(tracker), engine)
    if dry_run:
        job.show_estimate(files.values(), page, each, as_json=as_json)
    else:
        job.run(files, page, as_json=as_json)


def _work(
    effort: str, noises: Mapping[str, int | None], **rest: int
) -> tuple[TuningSettings, Callable[..., int | None]]:
    """The settings of an effort with the given numbers in place of its own, and its budget."""
    from sigmatune.tuning.effort import EFFORTS

    work, given = EFFORTS[effort], {split: n for split, n in noises.items() if n is not None}
    return replace(work.settings, **given, **rest), work.budget


def without(given: Mapping[str, object], why: str) -> None:
    """Refuses options that have no meaning for a kind of solver.

    Raises:
        SigmaTuneError: naming the first.
    """
    for name, value in given.items():
        if value:
            raise SigmaTuneError(f"{why}; leave out {name}.")


def plan_files(out: Path, calls: list[int]) -> dict[int, Path]:
    """Where each plan goes."""
    wanted = list(dict.fromkeys(calls))
    if len(wanted) == 1:
        return {wanted[0]: out}
    return {number: out.with_name(f"{out.stem}-{number}{out.suffix}") for number in wanted}


def report_path(out: Path, report: Path | None, *, without: bool) -> Path | None:
    """Where the report goes; None for no report.

    Raises:
        SigmaTuneError: if both --report and --no-report are given.
    """
    if not without:
        return report or out.with_suffix(".html")
    if report is not None:
        raise SigmaTuneError("--report and --no-report contradict each other; give one of them.")
    return None
