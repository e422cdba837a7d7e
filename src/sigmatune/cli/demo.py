"""``sigmatune demo``: the main job on the bundled model, with the evidence beside it."""

from __future__ import annotations

from pathlib import Path

import typer

from sigmatune.cli.common import may_write, measure_of, progress_bar
from sigmatune.cli.dry_run import DryRun, show
from sigmatune.cli.shared_options import Force, MeasureOption
from sigmatune.support.progress import Parts

REPORT_ROWS, REPORT_BUDGETS = 8, (4, 6, 8, 10)
"""Noises and calls of the report's error against calls, so that the whole demo takes two minutes."""

OF_REPORT = 0.1
"""The report's share of the work."""


def demo(
    out: Path = typer.Option(Path("demo"), help="Folder for the plans, the figure and the report; made if missing."),
    model: str = typer.Option("", help="Bundled name, diffusers folder, or hub id; emoji by default."),
    smoke: bool = typer.Option(False, "--smoke", help="A small search, on digits by default: seconds."),
    measure: MeasureOption = "",
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Tune the bundled model at two budgets, and show default and tuned side by side."""
    from sigmatune.interop.clients import clients
    from sigmatune.report import glance
    from sigmatune.report.measurements import measure as measure_report
    from sigmatune.report.page import page as page_of
    from sigmatune.report.usage import PlanUse
    from sigmatune.support.files import write_text
    from sigmatune.tuning.measure_choice import MeasureRequest
    from sigmatune.workflows.demo import estimate_of, files_of, run

    asked = MeasureRequest(*measure_of(measure).values())
    page, source = out / "report.html", model or ("digits" if smoke else "emoji")
    written = [*files_of(source, out), (page, "report")] if out.is_dir() else []
    may_write(*written, model=source, folders=[] if written else [out], force=force)
    whole = estimate_of(source, small=smoke)
    whole = whole.plus("report", round(whole.total * OF_REPORT / (1 - OF_REPORT)))
    if dry_run:
        show(whole, as_json=False)
        return
    with progress_bar("demo", estimate=whole) as progress:
        parts = Parts(progress, (1 - OF_REPORT, OF_REPORT))
        result = run(source, out, small=smoke, force=force, measure=asked, progress=parts.take())
        result.bench.progress.progress = parts.take()
        facts = measure_report(result.bench, result.plans, rows=REPORT_ROWS, budgets=REPORT_BUDGETS)
        write_text(page, page_of(facts, PlanUse(source, result.files, clients), glance(result.bench)))
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{result.model}: error and distance of sets to the converged solution\n"
        "same noises, lower is better; ratios: tuned / default (95% interval)",
        title_justify="left",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for column in ("solver", "calls", "default", "its\nerror", "tuned", "error\nratio", "set\nratio"):
        table.add_column(column, justify="left" if column in ("solver", "default") else "right", no_wrap=True)
    for row in result.rows:
        table.add_row(*row)
    Console().print(table)
    for line in result.notes:
        print(line)
    print(f"report: {page}")
