"""``sigmatune schedule``: the levels of any family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sigmatune.cli.common import load_model, options, writable
from sigmatune.errors import SigmaTuneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigmatune.noise import NoisePath


def schedule(
    family: str = typer.Argument(help="Family, such as karras, beta, kl-optimal; `list` names them all."),
    steps: int = typer.Option(10, "--steps", "-N", help="Number of steps N; there are N + 1 points."),
    model: str = typer.Option("", help="Take the noise path of this model."),
    path: str = typer.Option("vp-linear", help="Noise path: vp-linear, vp-scaled-linear, vp-cosine, edm, flow."),
    option: list[str] = typer.Option([], "--option", "-p", help="The family's own option, such as rho=7."),
    sigma_min: float | None = typer.Option(None, help="End at this level instead of the path's."),
    sigma_max: float | None = typer.Option(None, help="Start at this level instead of the path's."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the JSON to this file."),
    plan: Path | None = typer.Option(None, help="Write a plan of these levels, untuned, for `sigmatune sample`."),
    solver: str = typer.Option("dpmpp2m", help="The plan's solver."),
    solver_option: list[str] = typer.Option([], help="The solver's own option, such as eta=0.5."),
) -> None:
    """Print the noise levels of a schedule family, with the t that the network receives."""
    from sigmatune.files import write_text
    from sigmatune.schedules import FAMILIES, build

    if out is not None:
        writable(out)
    if family == "list":
        for member in FAMILIES.values():
            print(f"{member.name:18} {member.description}")
        return
    denoiser = load_model(model, "cpu") if model else None
    noise_path = _path(path) if denoiser is None else denoiser.path
    own = options(option)
    for name in ("name", "steps", "path"):
        if name in own:
            raise SigmaTuneError(f"{name} is no option of a family; use the command's own options, see --help.")
    ends = {"sigma_min": sigma_min, "sigma_max": sigma_max}
    built = build(family, steps, noise_path, **{name: end for name, end in ends.items() if end is not None} | own)
    if plan is not None:
        from sigmatune.solvers import SOLVERS, compile_plan

        chosen = SOLVERS[solver].options(options(solver_option))
        compile_plan(built, solver, denoiser, **chosen).save(writable(plan))
    levels = built.sigmas[:-1]
    times = noise_path.time(levels)
    sigmas = ["inf" if sigma == float("inf") else sigma for sigma in built.sigmas.tolist()]
    fields = {"family": built.family, "options": dict(built.options), "noise_path": noise_path.spec()}
    text = json.dumps({**fields, "steps": built.steps, "sigmas": sigmas, "network_times": times.tolist()})
    if out is not None:
        write_text(out, text + "\n")
    if as_json:
        print(text)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{built.family} {built.steps} steps", title_justify="left")
    for column in ("step", "sigma", "t", "logSNR"):
        table.add_column(column, justify="right")
    for i, (sigma, t) in enumerate(zip(levels, times, strict=True)):
        table.add_row(str(i), f"{sigma:.6g}", f"{t:.3f}", f"{noise_path.logsnr(t):.3f}")
    table.add_row(str(built.steps), "0", "-", "inf")
    Console().print(table)


def _path(name: str) -> NoisePath:
    from sigmatune import noise
    from sigmatune.registry import Registry

    makers: Registry[Callable[[], NoisePath]] = Registry(
        "noise path",
        {
            "vp-linear": lambda: noise.vp("linear"),
            "vp-scaled-linear": lambda: noise.vp("scaled_linear", beta_start=0.00085, beta_end=0.012),
            "vp-cosine": lambda: noise.vp("cosine"),
            "edm": noise.VE,
            "flow": noise.Flow,
        },
    )
    return makers[name]()
