"""``sigmatune schedule``: the levels of any family."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sigmatune.cli.common import Force, Values, load_model, may_write, options
from sigmatune.cli.data import Data
from sigmatune.errors import SigmaTuneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigmatune.denoiser import Denoiser
    from sigmatune.noise import NoisePath
    from sigmatune.schedule import Schedule


def schedule(
    family: str = typer.Argument("", help="Family, such as karras, beta, spectral-mixed; `list` names them all."),
    by_option: str = typer.Option("", "--family", help="The family, instead of the argument."),
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
    data: str = typer.Option(
        "",
        help="Spectral families: images, or spectra saved as JSON; the model's own by default.",
    ),
    values: Values = "auto",
    label: str = typer.Option("", help="Take this class of the data."),
    size: int = typer.Option(0, help="Crop and resize the data's images to this many pixels."),
    texture: float = typer.Option(0.0, help="Tilt the spectrum, P(k) k^texture; above 0 is more texture."),
    per_image: bool = typer.Option(False, "--per-image", help="Write a rule to --plan: a schedule per image."),
    mean: bool = typer.Option(False, "--mean", help="A rule whose rows all have the mean spectrum."),
    reduction: str = typer.Option("law", help="What a rule's spectra are drawn as: law or pca."),
    force: Force = False,
) -> None:
    """Print the noise levels of a schedule family, with the t that the network receives."""
    from sigmatune.files import write_text
    from sigmatune.schedules import FAMILIES
    from sigmatune.solvers import SOLVERS, compile_plan

    may_write((out, "schedule"), (plan, "rule" if per_image else "plan"), model=model, inputs=[data], force=force)
    if bool(family) == bool(by_option):
        raise SigmaTuneError(
            "give one family, either as the argument or by --family; `sigmatune schedule list` names them."
        )
    family = family or by_option
    if family == "list":
        for member in FAMILIES.values():
            print(f"{member.name:18} {member.description}")
        return
    given = Data(data or _own_spectra(model, family), label, size, texture, per_image, mean, reduction, values)
    own = _own(option, sigma_min, sigma_max)
    given.check(family, own, plan, out)
    denoiser = load_model(model, "cpu") if model else None
    own_path = noise_path(path) if denoiser is None else denoiser.path
    chosen = SOLVERS[solver].options(options(solver_option))
    built = _built(family, steps, own_path, own, given, quiet=as_json)
    if plan is not None and per_image:
        _write_rule(plan, built, own_path, denoiser, given, solver=solver, chosen=chosen, own=own, as_json=as_json)
        return
    if plan is not None:
        compile_plan(built, solver, denoiser, **chosen).save(plan)
    levels = built.sigmas[:-1]
    times = own_path.time(levels)
    sigmas = ["inf" if sigma == float("inf") else sigma for sigma in built.sigmas.tolist()]
    fields = {
        "format": "sigmatune/schedule",
        "family": built.family,
        "options": dict(built.options),
        "noise_path": own_path.spec(),
    }
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
        table.add_row(str(i), f"{sigma:.6g}", f"{t:.3f}", f"{own_path.logsnr(t):.3f}")
    table.add_row(str(built.steps), "0", "-", "inf")
    Console().print(table)


def _own_spectra(model: str, family: str) -> str:
    """The file of the model's own spectra, for a spectral family, or nothing."""
    from sigmatune.models.bundled import spectra_file
    from sigmatune.schedules import FAMILIES

    found = spectra_file(model) if model and "spectrum" in FAMILIES[family].defaults else None
    return "" if found is None else str(found)


def _own(option: list[str], sigma_min: float | None, sigma_max: float | None) -> dict[str, Any]:
    """The family's options and the ends that were given."""
    own = options(option)
    for name in ("name", "steps", "path"):
        if name in own:
            raise SigmaTuneError(f"{name} is no option of a family; use the command's own options, see --help.")
    ends = {"sigma_min": sigma_min, "sigma_max": sigma_max}
    return {name: end for name, end in ends.items() if end is not None} | own


def _built(family: str, steps: int, path: NoisePath, own: dict[str, Any], data: Data, *, quiet: bool) -> Schedule:
    """The schedule; that of the data's mean spectrum if there are data. A rule's stands for all of its rows."""
    from sigmatune.schedules import build

    made = build(family, steps, path, **own)  # before the work, so that what is wrong fails at once
    if data.per_image or not data.source:
        return made
    return build(family, steps, path, spectrum=data.power(quiet=quiet), **own)


def _write_rule(
    file: Path,
    built: Schedule,
    path: NoisePath,
    denoiser: Denoiser | None,
    data: Data,
    *,
    solver: str,
    chosen: dict[str, Any],
    own: dict[str, Any],
    as_json: bool,
) -> None:
    """Fits the mixture and writes the rule."""
    from sigmatune.rules import Control, SpectralRule
    from sigmatune.rules.rule import trained_curve
    from sigmatune.rules.rule_file import dumps

    spectra, control = data.mixture(quiet=as_json), Control(**data.control)
    rest: dict[str, Any] = {"solver": solver, "solver_options": chosen}
    if denoiser is not None and trained_curve(denoiser) == built.family and not own:
        if control.label is None and getattr(denoiser, "classes", None) and spectra.classes:
            control = replace(control, by_class=True)
        rule = SpectralRule.trained(denoiser, built.steps, spectra, control=control, **rest)
    else:
        fingerprint = None if denoiser is None else denoiser.fingerprint()
        rule = SpectralRule(
            built.family, built.steps, path, spectra, control=control, options=own, fingerprint=fingerprint, **rest
        )  # fmt: skip
    rule.save(file)
    if as_json:
        print(dumps(rule), end="")
        return
    part = rule.spectra.part(rule.control.label)
    print(
        f"{rule.family}, {rule.steps} steps, {rule.solver}: one schedule per image, from {len(part.weights)} Gaussians over "
        f"the spectra of {part.images} images"
    )
    print(f"rule: {file}")


def noise_path(name: str) -> NoisePath:
    """A noise path by name; ``flow:3`` is a flow with a shift of 3.

    Raises:
        SigmaTuneError: for an unknown name.
    """
    from sigmatune import noise
    from sigmatune.registry import Registry

    kind, _, shift = name.partition(":")
    if kind == "flow" and shift:
        try:
            return noise.Flow(float(shift))
        except ValueError as error:
            raise SigmaTuneError(f"a shift is a positive number, as in flow:3, not {shift!r}.") from error
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
