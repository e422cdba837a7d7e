"""``sigmatune analyze``: which frequencies a model decides at which noise level."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sigmatune.cli.before import check_places
from sigmatune.cli.common import check_run, may_write, measuring, progress_bar
from sigmatune.cli.dry_run import CallSeconds, DryRun, assumed, counted, show
from sigmatune.cli.shared_options import Device, Force, JsonForTable, Model, Seed
from sigmatune.support.errors import SigmaTuneError, ending

if TYPE_CHECKING:
    from sigmatune.analysis.result import Stepwise


def analyze(
    model: Model,
    n: int = typer.Option(64, "-n", help="How many samples."),
    steps: int = typer.Option(200, help="Steps of the chain, one network call each."),
    solver: str = typer.Option("euler", help="Solver of the chain: euler (DDIM), ancestral (DDPM), dpmpp2m..."),
    family: str = typer.Option("uniform-trailing", help="Schedule family of the chain."),
    seed: Seed = 0,
    out: Path = typer.Option(
        Path("analysis.npz"), "--out", "-o", help="Arrays to write; a .json, a .png and an .svg go beside them."
    ),
    as_json: JsonForTable = False,
    force: Force = False,
    device: Device = "auto",
    store: Path | None = typer.Option(
        None, help="Keep the sums so far in this folder; by default in one beside the output until that is written."
    ),
    dry_run: DryRun = False,
    each: CallSeconds = None,
) -> None:
    """Show which frequencies change at which noise level, and fit Beta distributions to it.

    A stopped run resumes where it was, as in `tune`.
    """
    from sigmatune import solvers
    from sigmatune.analysis.figures import rendered
    from sigmatune.analysis.stepwise import analyze as run
    from sigmatune.analysis.stepwise import chain, check
    from sigmatune.analysis.summary import summary
    from sigmatune.schedules import FAMILIES
    from sigmatune.support.files import write_bytes
    from sigmatune.workflows.evaluation_estimates import estimate as cost_of

    if out.suffix != ".npz":
        raise SigmaTuneError(f"an analysis must be an .npz file, not {ending(out)}.")
    files = [out.with_suffix(ending) for ending in (".npz", ".json", ".png", ".svg")]
    work = out.with_name(f".{out.name}.work") if store is None else store
    may_write(*((file, "analysis") for file in files), model=model, folders=[work], force=force)
    check_run(work, "--store")
    check(n, steps, solver, family)
    check_places(device, "local", seed)
    assumed(each, dry_run=dry_run)
    chosen = {"solver": solvers.solver(solver).name, "family": FAMILIES[family].name}
    denoiser, remarks = counted(model, device, {}, each)
    plan = chain(denoiser, steps, **chosen)
    estimate = cost_of(denoiser, {"images": plan.evaluations(denoiser, n)}, 0, each, plan.micro_batch)
    if dry_run:
        show(replace(estimate, notes=remarks), as_json=as_json)
        return
    with measuring(work):
        with progress_bar("analysis", quiet=as_json, estimate=estimate) as progress:
            stepwise = run(
                denoiser, n, plan=plan, seed=seed, store=work, progress=lambda *done: progress("sampling", *done)
            )
        said, pictures = summary(stepwise), rendered(stepwise)
        stepwise.save(out, force=force)
        for path, picture in zip(files[2:], pictures, strict=True):
            write_bytes(path, picture)
        if store is None:
            shutil.rmtree(work, ignore_errors=True)
    if as_json:
        print(json.dumps({**said, "files": [str(path) for path in files]}))
        return
    _print(stepwise, said)
    print(f"written to {', '.join(map(str, files))}")


def _print(stepwise: Stepwise, said: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"tau ({stepwise.levels} noise, 0 image) at which half of the change is done"
    table = Table(title=title, title_justify="left")
    for column in ("change of", "low band", "high band", "low - high"):
        table.add_column(column, justify="left" if column == "change of" else "right")
    for name, row in said["medians"].items():
        table.add_row(name, *(_number(row[key], 0) for key in ("low", "high", "difference")))
    Console().print(table)
    print(said["order"])
    fit, other = said["fit"], said["fit_of_estimate"]
    print(f"fitted to the change of the state: Beta({_number(fit['a'])}, {_number(fit['b'])}); ", end="")
    print(f"with a = b: {_number(fit['symmetric'])}")
    print(f"fitted to that of the estimate:    Beta({_number(other['a'])}, {_number(other['b'])}); ", end="")
    print(f"with a = b: {_number(other['symmetric'])}")
    print(said["fit_sentence"])
    for hand in said["published"]:
        widths = "" if hand["half_widths"] is None else f"{hand['half_widths']:.1f} half widths from the fit of a = b, "
        print(
            f"the paper's Beta({hand['a']}, {hand['a']}): {widths}{hand['total_variation']:.0%} of the change elsewhere, "
            f"divergence {hand['divergence']:.3f} nats"
        )
    print(f"intervals: {said['intervals']}")


def _number(estimate: dict[str, float], digits: int = 2) -> str:
    return "{value:.{d}f} ({low:.{d}f} to {high:.{d}f})".format(**estimate, d=digits)
