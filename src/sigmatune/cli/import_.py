"""``sigmatune import``: a plan file from another program's text, a bare list of levels, or a published table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sigmatune.cli.already import check_tuned
from sigmatune.cli.common import load_model, may_write
from sigmatune.cli.schedule import noise_path
from sigmatune.cli.shared_options import Force
from sigmatune.support.errors import SigmaTuneError

if TYPE_CHECKING:
    from sigmatune.noise import NoisePath


def import_(
    source: str = typer.Argument(help="A file, or a published table; `list` names these."),
    out: Path = typer.Option(Path("plan.json"), "--out", "-o", help="Plan file to write."),
    kind: str = typer.Option("", help="A bare list: ve (sigma) or flow (tau), after the shift, final 0 included."),
    model: str = typer.Option("", help="Bare lists and tables: use the noise path of this model."),
    path: str = typer.Option(
        "",
        help="Bare lists and tables: use this noise path: vp-linear, vp-scaled-linear, vp-cosine, edm, flow, flow:SHIFT.",
    ),
    solver: str = typer.Option("dpmpp2m", help="Bare lists and tables: the plan's solver."),
    steps: int = typer.Option(0, "--steps", "-N", help="Tables: this many steps instead of the table's own number."),
    gits: float = typer.Option(
        0.0,
        help="The file is a Python file with GITS tables, such as ComfyUI's nodes_gits.py: read this coefficient's.",
    ),
    force: Force = False,
) -> None:
    """Create a plan file from the output of `sigmatune export`, a list of levels, or a published table."""
    from sigmatune.interop import exports, tables
    from sigmatune.plan import compile_plan
    from sigmatune.support.reading import text_of

    if source == "list":
        for table in tables.TABLES.values():
            print(f"{table.name:10} {table.model}: {table.source}")
        return
    may_write((out, "plan"), model=model, inputs=[] if source in tables.TABLES else [source], force=force)
    if source not in tables.TABLES and not Path(source).exists():  # a pipe or folder is refused as one
        raise SigmaTuneError(
            f"there is neither a file nor a published table {source!r}; `sigmatune import list` names these."
        )
    denoiser = load_model(model, "cpu") if model else None
    given_path: NoisePath | None = denoiser.path if denoiser is not None else noise_path(path) if path else None
    if source in tables.TABLES:
        schedule = tables.load(source, given_path, steps or None)
        plan = compile_plan(schedule, solver, denoiser)
    else:
        text = text_of(source, kind="text")
        try:
            if gits:
                plan = compile_plan(_gits(text, gits, steps, given_path), solver, denoiser)
            else:
                plan = (
                    exports.load(text) if not kind else compile_plan(_listed(text, kind, given_path), solver, denoiser)
                )
        except SigmaTuneError as error:
            raise SigmaTuneError(f"{source}: {error}") from None
    if plan.path is None and given_path is not None:
        plan = plan.with_notes(path=given_path.spec())
    if not plan.evidence:
        check_tuned(out, force=force)
    plan.save(out, force=force)
    print(f"{plan.steps} steps, {plan.calls} calls, {plan.solver}; written to {out}")


def _gits(text: str, coefficient: float, steps: int, path: NoisePath | None):  # type: ignore[no-untyped-def]  # noqa: ANN202 - heavy import
    """The schedule of a file of GITS tables."""
    from sigmatune.interop import gits

    schedule = gits.load(text, coefficient, steps or 10)
    return schedule if path is None else schedule.bound(path)


def _listed(text: str, kind: str, path: NoisePath | None):  # type: ignore[no-untyped-def]  # noqa: ANN202 - heavy import
    """The schedule of a bare list."""
    import numpy as np

    from sigmatune.core.schedule import Schedule
    from sigmatune.interop.exports.target import numbers_in

    if kind not in ("ve", "flow"):
        raise SigmaTuneError(f"the kind of a list is ve (sigma) or flow (tau), not {kind!r}.")
    values = np.array(numbers_in(text.strip().strip("[]")))
    if kind == "flow":
        if ((values < 0) | (values > 1)).any():
            raise SigmaTuneError("tau lies in [0, 1]; pass --kind ve for a list of sigmas.")
        with np.errstate(divide="ignore"):
            values = values / (1 - values)
    schedule = Schedule(values, "given", {"source": "a list", "kind": kind})
    return schedule if path is None else schedule.bound(path)
