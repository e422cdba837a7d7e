"""``sigmatune spectrum``: the power of the data at each frequency, and its implications for noise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sigmatune.cli.common import may_write, progress_bar
from sigmatune.cli.dry_run import DryRun, show
from sigmatune.cli.evaluation_options import left_out
from sigmatune.cli.shared_options import EngineName, Force, JsonForText, ValuesOrLatents
from sigmatune.support.errors import SigmaTuneError, ending

if TYPE_CHECKING:
    from rich.table import Table

    from sigmatune.noise import Array

PICTURES = (".png", ".svg")


def spectrum(
    data: str = typer.Argument(help="Folder of images, image, .npz, .npy, or a spectrum saved by this command."),
    by_class: bool = typer.Option(False, "--by-class", help="Also measure each class (subfolder or label)."),
    size: int = typer.Option(0, help="Crop to a square and resize to this many pixels."),
    key: str = typer.Option("", help="Array of the .npz file."),
    layout: str = typer.Option("auto", help="Axes of an array: NHW, NHWC, NCHW or auto."),
    values: ValuesOrLatents = "auto",
    window: str = typer.Option(
        "", help="Window against the cross that edges cause in the spectrum: hann, cosine, tukey."
    ),
    dct: bool = typer.Option(
        False, "--dct", help="Cosine instead of Fourier transform, which needs no periodic edges."
    ),
    order: int = typer.Option(1, help="Order of the solver for the proposed ends."),
    resolution: int = typer.Option(0, help="Also report what another resolution needs (short side in pixels)."),
    plan: Path | None = typer.Option(None, help="Plan file whose levels are compared with the training noise."),
    p_mean: float = typer.Option(-1.2, help="Your training's mean of log sigma; EDM's by default."),
    p_std: float = typer.Option(1.2, help="Your training's standard deviation of log sigma; EDM's by default."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Save the spectra as JSON, for `schedule --data`."),
    picture: Path | None = typer.Option(None, help="Plot the spectrum to this .png or .svg."),
    engine: EngineName = "local",
    dry_run: DryRun = False,
    as_json: JsonForText = False,
    force: Force = False,
) -> None:
    """Measure the spectrum of a data set; propose noise ranges and training constants from it."""
    from sigmatune.analysis.spectrum_facts import facts_of
    from sigmatune.analysis.spectrum_picture import of_measured
    from sigmatune.core.schedule import whole
    from sigmatune.spectra.advice import Density
    from sigmatune.spectra.measured_spectra import measure
    from sigmatune.spectra.spectrum_cost import spectrum_cost
    from sigmatune.spectra.spectrum_file import load_measured, save_measured
    from sigmatune.support.engine import engine as engine_of
    from sigmatune.support.files import write_bytes

    _check_names(data, out, picture, dry_run=dry_run)
    may_write((out, "spectrum"), (picture, "spectrum"), inputs=(data, plan), force=force)
    for name, number in (("order", order), *((("resolution", resolution),) if resolution else ())):
        whole(number, name)
    trained, levels = Density(p_mean, p_std), None if plan is None else _levels(plan)
    if data.endswith(".json"):
        measured = load_measured(Path(data))
    else:
        how: dict[str, Any] = {
            "by_class": by_class, "size": size or None, "key": key or None, "layout": layout, "values": values, "corners": True,
            "window": window or None, "transform": "dct" if dct else "fft",
        }  # fmt: skip
        if dry_run:
            show(spectrum_cost(data, **how), as_json=as_json)
            return
        with engine_of(engine) as running, progress_bar("spectrum", quiet=as_json) as progress:
            measured = measure(data, progress=progress, engine=running, **how)
    about = dict(measured.about)
    facts = facts_of(measured, order=order, trained=trained, levels=levels, resolution=resolution or None)
    facts |= {"data": about} if about else {}
    if out is not None:
        save_measured(measured, out, force=force)
    if picture is not None:
        drawn = of_measured(measured, Path(data).name, trained, levels=levels, order=order, kind=picture.suffix[1:])
        write_bytes(picture, drawn)
    if as_json:
        print(json.dumps(facts))
        return
    _show(facts)
    for line in left_out([about]):
        print(line)
    for what, file in (("spectra", out), ("plot", picture)):
        if file is not None:
            print(f"{what}: {file}")


def _check_names(data: str, out: Path | None, picture: Path | None, *, dry_run: bool) -> None:
    """Refuses outputs of another kind, and an estimate of what was measured already."""
    if picture is not None and picture.suffix.lower() not in PICTURES:
        raise SigmaTuneError(f"the plot must be a .png or .svg file, not {ending(picture)}.")
    if out is not None and out.suffix.lower() != ".json":
        raise SigmaTuneError(f"spectra must be a .json file, not {ending(out)}.")
    if dry_run and data.endswith(".json"):
        raise SigmaTuneError(f"{data} holds spectra that were measured already; --dry-run is for images.")


def _levels(plan: Path) -> Array:
    from sigmatune.plan import load_plan

    schedule = load_plan(plan).schedule
    if schedule.rows is not None:
        raise SigmaTuneError(f"{plan} holds one schedule per row; give a plan with one for all.")
    return schedule.sigmas[:-1]


def _show(facts: dict[str, Any]) -> None:
    """Prints the facts: laws, training constants, noise ranges, and the comparisons that were asked for."""
    from rich.console import Console

    _print_laws(facts)
    for table in (
        _constants(facts["training"], facts["edm"], facts["sigma_data"]),
        _ranges(facts["ends"], facts["edm"]),
    ):
        Console().print(table)
    if "resolution" in facts:
        _print_resolution(facts["resolution"])
    if "plan" in facts:
        _print_coverage("your training's", facts["plan"]["trained"])
        _print_coverage("the proposed", facts["plan"]["proposed"])


def _print_laws(facts: dict[str, Any]) -> None:
    laws = facts["laws"]
    height, width = facts["size"]
    print(f"{facts['images']} image(s) of {height} x {width}, {facts['channels']} channel(s), mean {facts['mean']:.4g}")
    if "power" in laws:
        law = laws["power"]
        print(
            f"power law: P(k) = {math.exp(law['log_amplitude']):.4g} k^{-law['exponent']:.3f}, exponent +- "
            f"{law['exponent_error']:.2g}, R^2 {law['r_squared']:.3f}"
        )
    if "broken" in laws:
        broken = laws["broken"]
        print(
            f"broken law: exponent {broken['low_exponent']:.3f} up to k = {broken['break_at']:.1f} +- "
            f"{broken['break_error']:.2g}, then {broken['high_exponent']:.3f} (BIC gain {broken['bic_gain']:.0f})"
        )


def _constants(training: dict[str, Any], edm: dict[str, float], sigma_data: float) -> Table:
    """The table of training constants, beside EDM's."""
    from rich.table import Table

    table = Table(title="training constants", title_justify="left")
    for column in ("constant", "from this data", "EDM"):
        table.add_column(column, justify="left" if column == "constant" else "right")
    table.add_row("sigma_data", f"{sigma_data:.4f}", f"{edm['sigma_data']:g}")
    for weights, words in (("by_rings", "every ring the same"), ("by_modes", "every mode the same")):
        for name in ("P_mean", "P_std") if training[weights] else ():
            table.add_row(f"{name}, {words}", f"{training[weights][name]:.3f}", f"{edm[name]:g}")
    return table


def _ranges(ends: list[dict[str, Any]], edm: dict[str, float]) -> Table:
    """The table of noise ranges by number of steps, EDM's last."""
    from rich.table import Table

    table = Table(title="range of noise for sampling", title_justify="left")
    for column in ("steps", "sigma_max", "sigma_min", "prior mismatch (nats)", "variance lost"):
        table.add_column(column, justify="right")
    for row in ends:
        table.add_row(
            str(row["steps"]), f"{row['sigma_max']:.4g}", f"{row['sigma_min']:.3g}",
            f"{row['prior_mismatch_nats']:.2g}", f"{100 * row['lost_variance_share']:.2g} %",
        )  # fmt: skip
    table.add_row(
        "EDM", f"{edm['sigma_max']:g}", f"{edm['sigma_min']:g}", f"{edm['prior_mismatch_nats']:.2g}",
        f"{100 * edm['lost_variance_share']:.2g} %",
    )  # fmt: skip
    return table


def _print_resolution(other: dict[str, Any]) -> None:
    ends = ", ".join(f"{row['sigma_max']:.3g} to {row['sigma_min']:.2g} ({row['steps']})" for row in other["ends"])
    print(
        f"at {other['side']} pixels: shift {other['shift']:g}, P_mean {other['P_mean']:.3f}, P_std {other['P_std']:.3f}, "
        f"range (steps): {ends}"
    )


def _print_coverage(label: str, noise: dict[str, Any] | None) -> None:
    """Prints how much of the training noise a plan's levels cover; None prints nothing."""
    if noise is None:
        return
    rare = ", ".join(f"{level:.3g}" if level != "inf" else "inf" for level in noise["rare_levels"]) or "none"
    print(
        f"{noise['inside']:.0%} of {label} noise lies within the plan's levels "
        f"({noise['above']:.1%} above, {noise['below']:.1%} below); levels outside its central 98 %: {rare}"
    )
