"""``sigmatune bench``: a leaderboard of schedules, solvers and plans at several budgets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sigmatune.cli.before import check_calls, check_families, check_images
from sigmatune.cli.common import check_run, may_write, measuring, progress_bar
from sigmatune.cli.dry_run import CallSeconds, DryRun, assumed, counted, show
from sigmatune.cli.evaluation_options import Measuring, left_out, listed, number
from sigmatune.cli.shard_options import Division, Merge, MergeCommand, Shard
from sigmatune.cli.shared_options import (
    BenchReference,
    Device,
    EngineName,
    FeaturesRun,
    Force,
    JsonOfFile,
    Model,
    ReferenceSize,
    Seed,
    Values,
)
from sigmatune.support.errors import SigmaTuneError, ending
from sigmatune.support.progress import Parts
from sigmatune.support.remote_folder import shown as shown_folder

if TYPE_CHECKING:
    import torch

    from sigmatune.core.denoiser import Denoiser
    from sigmatune.evaluation.execution import Execution
    from sigmatune.evaluation.leaderboard import Entry, Row
    from sigmatune.evaluation.record import Figure
    from sigmatune.plan import Plan
    from sigmatune.workflows.sharded import ShardedJob


PICTURES = 8
"""Images of an entry on the page."""

SHOWN = 2
"""Most figures in the terminal's table, the paired error among them; the JSON and the page hold all."""


NOTHING = "there is nothing to compare; name schedules by --families and --solvers, or plan files by --plans."


class BenchCommand(MergeCommand):
    """``--calls 4 6 8 10`` is ``--calls 4 --calls 6 --calls 8 --calls 10``; ``--merge`` likewise."""

    options = ("--calls",)


COMMAND = BenchCommand


def bench(
    model: Model,
    families: str = typer.Option(
        "defaults", help="Schedules, such as karras:rho=5,uniform-trailing; defaults: all published static ones."
    ),
    solvers: str = typer.Option("euler,dpmpp2m", help="Solvers, separated by commas."),
    calls: list[int] = typer.Option([4, 6, 8, 10], help="Network calls per image: 4 6 8 10 20."),
    plans: str = typer.Option("", help="Plan files to include, separated by commas."),
    n: int = typer.Option(2000, "--n", "-n", help="Images per entry, with indices 0 to n - 1."),
    metrics: str = typer.Option("fd", help="fd,kid,is,prdc,sw,spectrum,fd-infinite; the first one ranks."),
    paired: int = typer.Option(64, help="Noises of the paired error to the converged solution, at most n; 0 for none."),
    reference: BenchReference = "",
    extractor: str = typer.Option("", help="As in `evaluate`."),
    spaces: str = typer.Option("", help="Spaces of the extractor; the first one ranks."),
    size: ReferenceSize = 0,
    values: Values = "auto",
    seed: Seed = 0,
    out: Path = typer.Option(
        Path("leaderboard.json"), "--out", "-o", help="JSON to write; an HTML page goes beside it."
    ),
    run: FeaturesRun = None,
    keep: bool = typer.Option(False, "--keep", help="Keep the images, not only the features."),
    shard: Shard = "",
    merge: Merge = [],
    dry_run: DryRun = False,
    each: CallSeconds = None,
    as_json: JsonOfFile = False,
    force: Force = False,
    device: Device = "auto",
    engine: EngineName = "local",
) -> None:
    """Compare schedules, solvers and plans at several budgets, on the same noises, with intervals.

    Two numbers lead: the distance of the set of images from data, which ranks, and the paired error of single samples to the
    converged solution of their noises, which solvers that add noise do not have.
    """
    from sigmatune.evaluation import leaderboard
    from sigmatune.evaluation.execution import Execution
    from sigmatune.support.engine import engine as engine_of
    from sigmatune.workflows.evaluation_estimates import leaderboard_estimate
    from sigmatune.workflows.paired_errors import asked_for, with_errors

    if out.suffix != ".json":
        raise SigmaTuneError(f"a leaderboard must be a .json file, not {ending(out)}.")
    html, division = out.with_suffix(".html"), Division.of(shard, merge)
    work = division.folder(run or out.with_name(f"{out.stem}.run"))
    outputs = division.outputs(*((file, "leaderboard") for file in (out, html)))
    may_write(*outputs, model=model, inputs=(reference, *listed(plans), *division.folders), folders=[work], force=force)
    check_run(work)
    check_images(n)
    noises = asked_for(paired, n)
    assumed(each, dry_run=dry_run)
    named_plans = _plans(families, solvers, calls, plans)
    asked = Measuring(metrics, extractor, spaces, reference, size, device, values)
    asked.check_sets(model, seed, engine, dry_run=dry_run)
    denoiser, remarks = counted(model, device, {}, each, *list(named_plans.values())[:1])
    competitors = _competitors(denoiser, families, solvers, calls, named_plans)
    estimate = division.estimate(leaderboard_estimate(denoiser, competitors, n, noises, each=each))
    if dry_run:
        show(replace(estimate, notes=remarks), denoiser, as_json=as_json, engine=engine)
        return
    with measuring(work), engine_of(engine) as asked.engine:
        with progress_bar("bench", quiet=as_json, estimate=estimate.on(asked.running, denoiser)) as progress:
            if division.divided(
                lambda: _sharded(denoiser, competitors, asked, n, noises, seed), work, as_json=as_json, keep=keep,
                progress=progress, engine=asked.running,
            ):  # fmt: skip
                return
            parts = Parts(progress, estimate.work)
            execution = Execution(seed, work, keep, engine=asked.running)
            rows, known = _measured(denoiser, competitors, asked, model, parts, n, execution)
            rows = with_errors(denoiser, rows, noises, execution.reporting(parts.take()))
        result = leaderboard.to_dict(rows, denoiser, source=model, n=n, seed=seed)
        result |= {"reference_about": known} if known else {}
        _write(result, out, html, _samples(denoiser, rows, seed), denoiser.value_range)
    if as_json:
        print(json.dumps(result, indent=1))
        return
    _print(rows)
    _say(rows, result, known)
    print(f"written to {out} and {html}; features: {shown_folder(work)} (a later run resumes from them)")


def _say(rows: Sequence[Row], result: dict[str, Any], known: dict[str, Any]) -> None:
    """Prints what was left out, the verdict of each budget, and one sentence over all of them."""
    from sigmatune.evaluation.leaderboard import without_error
    from sigmatune.report.leaderboard_page import headline

    for line in (*left_out([known]), *without_error(rows), *result["verdict"], f"{headline(result['rows'])}."):
        print(line)


def _write(
    result: dict[str, Any],
    out: Path,
    html: Path,
    samples: list[tuple[str, torch.Tensor]],
    value_range: tuple[float, float],
) -> None:
    """Writes the leaderboard and its page."""
    from sigmatune.report import leaderboard_page
    from sigmatune.support.files import write_text

    write_text(out, json.dumps(result, indent=1) + "\n")
    write_text(html, leaderboard_page.page(result, samples, value_range))


def _measured(
    denoiser: Denoiser,
    competitors: list[Entry],
    asked: Measuring,
    model: str,
    parts: Parts,
    n: int,
    execution: Execution,
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the leaderboard, and what is known of the reference."""
    from sigmatune.evaluation import leaderboard
    from sigmatune.evaluation.evaluate import check

    wanted = asked.wanted(tuple(denoiser.shape))
    data = asked.data(model, wanted, parts.take())
    check(wanted, data, tuple(denoiser.shape))
    of_images = execution.reporting(parts.take())
    rows = leaderboard.measured(denoiser, competitors, wanted, data, n=n, execution=of_images)
    return rows, {} if data is None else dict(data.about)


def _sharded(
    denoiser: Denoiser, competitors: list[Entry], asked: Measuring, n: int, noises: int, seed: int
) -> ShardedJob:
    """The work of all shards."""
    from sigmatune.workflows.paired_errors import planned
    from sigmatune.workflows.sharded import ShardedJob

    extractors = asked.wanted(tuple(denoiser.shape)).extractors
    pairs = [(denoiser, entry.plan) for entry in competitors]
    rows, whys = planned(competitors, noises, seed) if noises else (range(0), [])
    compared = [entry.plan for entry, why in zip(competitors, whys, strict=False) if not why]
    return ShardedJob(pairs, n, extractors, seed, compared, rows, "default")


def _samples(model: Denoiser, rows: list[Row], seed: int) -> list[tuple[str, torch.Tensor]]:
    """The first images of each budget's best and last entry, for the page."""
    from sigmatune.evaluation.leaderboard import ranked
    from sigmatune.plan import sample
    from sigmatune.report.charts import short

    drawn, order = [], ranked(rows)
    for budget in dict.fromkeys(row.entry.budget for row in order):
        entries = [row for row in order if row.entry.budget == budget]
        for row in [entries[0], *entries[1:][-1:]]:
            name = short(row.entry.name).replace("*", "")
            images = model.decode(sample(model, row.entry.plan, PICTURES, seed=seed))
            drawn.append(
                (f"{budget} calls, {'best' if row is entries[0] else 'last'}: {name}, {row.entry.solver}", images)
            )
    return drawn


def _plans(families: str, solvers: str, calls: list[int], plans: str) -> dict[str, Plan]:
    """The plans by name, after checks of all names and numbers that are wrong for any model.

    Raises:
        SigmaTuneError: for the first, or if there is nothing to compare.
    """
    from sigmatune.plan import load_plan

    chosen = listed(families)
    check_families(text for text in chosen if text != "defaults")
    for solver in listed(solvers) if chosen else ():
        check_calls(solver, calls)
    if not listed(plans) and not (chosen and listed(solvers) and calls):
        raise SigmaTuneError(NOTHING)
    return {name: load_plan(name) for name in listed(plans)}


def _competitors(model: Denoiser, families: str, solvers: str, calls: list[int], plans: dict[str, Plan]) -> list[Entry]:
    from sigmatune import schedules
    from sigmatune.evaluation.leaderboard import Entry, entries

    chosen = []
    for text in listed(families):
        if text == "defaults":
            known = schedules.defaults(model.path, model.default_schedule)
            chosen += [(family, options) for _, family, options in known]
        else:
            chosen.append(schedules.named(text))
    competitors = entries(model, chosen, listed(solvers), calls) if chosen else []
    for name, plan in plans.items():
        competitors.append(Entry.of(Path(name).stem, plan))
    if not competitors:
        raise SigmaTuneError(NOTHING)
    return competitors


def _print(rows: list[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from sigmatune.evaluation.leaderboard import behind, pareto, ranked
    from sigmatune.report.charts import short

    errors = next((row.paired for row in rows if row.paired is not None), None)
    most = SHOWN - (errors is not None)
    first = rows[0].figures[:most]
    title = f"{first[0].settings.n:,} images each, 95% intervals over seeds; front: best at its cost"
    if errors is not None:
        title += f"\nerror: paired, of {errors.settings.n} noises, to the converged solution"
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in ("calls", "schedule", "solver"):
        shown.add_column(name, justify="right" if name == "calls" else "left", no_wrap=True)
    named = [f"{figure.name}\n{figure.settings.space}" for figure in first]
    if errors is not None:
        named.insert(1, f"error\n{errors.settings.space}")
    for name in named:
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("beside\nbest", justify="left", no_wrap=True)
    front, order = pareto(rows), ranked(rows)
    for i, row in enumerate(order):
        best = next(other for other in order if other.entry.budget == row.entry.budget)
        standing = "best" if row is best else "behind" if behind(row, best)[1] else "level"
        main, *others = row.figures[:most]
        figures = [_with_half(main), *(number(f.estimate.value) for f in others)]
        if errors is not None:
            figures.insert(1, "-" if row.paired is None else _with_half(row.paired))
        mark = " (front)" if row in front else ""
        last = i + 1 == len(order) or order[i + 1].entry.budget != row.entry.budget
        name = short(row.entry.name).replace("*", "") + mark
        shown.add_row(str(row.calls), name, row.entry.solver, *figures, standing, end_section=last)
    Console().print(shown)


def _with_half(figure: Figure) -> str:
    return f"{figure.estimate.value:.3g} ± {figure.estimate.half:.2g}"
