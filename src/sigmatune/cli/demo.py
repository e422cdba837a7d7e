"""``sigmatune demo``: the main job on the bundled model, with the evidence beside it."""

from __future__ import annotations

from pathlib import Path

import typer

from sigmatune.cli.common import progress_bar


def demo(
    out: Path = typer.Option(Path("demo"), help="Folder for the plans and the picture; made if missing."),
    model: str = typer.Option("", help="Bundled name, diffusers folder, or hub id; cifar10 by default."),
    smoke: bool = typer.Option(False, "--smoke", help="A small search, on digits by default: seconds."),
) -> None:
    """Tune the bundled model at two budgets, and show default and tuned side by side."""
    from sigmatune.workflows.demo import run

    with progress_bar() as report:
        result = run(model or ("digits" if smoke else "cifar10"), out, small=smoke, progress=report)
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{result.model}: error to the converged solution, same noises (lower is better)", title_justify="left"
    )
    for column in ("solver", "calls", "best static default", "its error", "tuned", "tuned / default", "95 % interval"):
        table.add_column(column, justify="left" if column in ("solver", "best static default") else "right")
    for row in result.rows:
        table.add_row(*row)
    Console().print(table)
    for line in result.notes:
        print(line)
