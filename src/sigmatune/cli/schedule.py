"""``sigmatune schedule``: the levels of any family."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sigmatune.cli.already import check_tuned
from sigmatune.cli.common import load_model, may_write
from sigmatune.cli.data_options import DataOptions
from sigmatune.cli.shared_options import Force, JsonForTable, SolverOption, SpectralData, Values
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.named_numbers import named_numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigmatune.core.denoiser import Denoiser
    from sigmatune.core.schedule import Schedule
    from sigmatune.noise import NoisePath
    from sigmatune.rules import SpectralRule


def schedule(
    family: str = typer.Argument("", help="Family, such as karras, beta, spectral-mixed; `list` names them all."),
    by_option: str = typer.Option("", "--family", help="The family, instead of the argument."),
    steps: int = typer.Option(10, "--steps", "-N", help="Number of steps N; there are N + 1 points."),
    model: str = typer.Option("", help="Use the noise path of this model."),
    path: str = typer.Option("vp-linear", help="Noise path: vp-linear, vp-scaled-linear, vp-cosine, edm, flow."),
    option: list[str] = typer.Option([], "--option", "-p", help="The family's own option, such as rho=7."),
    sigma_min: float | None = typer.Option(None, help="End at this level instead of the path's."),
    sigma_max: float | None = typer.Option(None, help="Start at this level instead of the path's."),
    as_json: JsonForTable = False,
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the JSON to this file."),
    plan: Path | None = typer.Option(None, help="Write an untuned plan with these levels, for `sigmatune sample`."),
    solver: str = typer.Option("dpmpp2m", help="The plan's solver."),
    solver_option: SolverOption = [],
    data: SpectralData = "",
    values: Values = "auto",
    label: str = typer.Option("", help="Use this class of the data."),
    size: int = typer.Option(0, help="Crop and resize the data's images to this many pixels."),
    texture: float = typer.Option(0.0, help="Tilt the spectrum, P(k) k^texture; above 0 is more texture."),
    per_image: bool = typer.Option(False, "--per-image", help="Write a rule to --plan: a schedule per image."),
    mean: bool = typer.Option(False, "--mean", help="Make a rule that uses the mean spectrum in every row."),
    reduction: str = typer.Option("law", help="How a rule draws spectra: law or pca."),
    force: Force = False,
) -> None:
    """Print the noise levels of a schedule family, with the t that the network receives."""
    from sigmatune import solvers
    from sigmatune.plan import compile_plan
    from sigmatune.schedules import FAMILIES
    from sigmatune.support.files import write_text

    may_write((out, "schedule"), (plan, "rule" if per_image else "plan"), model=model, inputs=[data], force=force)
    check_tuned(plan, force=force)
    if bool(family) == bool(by_option):
        raise SigmaTuneError(
            "give one family, either as the argument or by --family; `sigmatune schedule list` names them."
        )
    family = family or by_option
    if family == "list":
        for member in FAMILIES.values():
            print(f"{member.name:18} {member.description}")
        return
    given = DataOptions(data or _spectra_of(model, family), label, size, texture, per_image, mean, reduction, values)
    family_options = _family_options(option, sigma_min, sigma_max)
    given.check(family, family_options, plan, out)
    denoiser = load_model(model, "cpu") if model else None
    chosen_path = noise_path(path) if denoiser is None else denoiser.path
    chosen = solvers.solver(solver).options(named_numbers(solver_option))
    built = _built(family, steps, chosen_path, family_options, given, quiet=as_json)
    if plan is not None and per_image:
        rule = _rule(built, chosen_path, denoiser, given, family_options, solver=solver, chosen=chosen, quiet=as_json)
        _write_rule(rule, plan, as_json=as_json)
        return
    if plan is not None:
        compile_plan(built, solver, denoiser, **chosen).save(plan, force=force)
    text = _document(built, chosen_path)
    if out is not None:
        write_text(out, text + "\n")
    if as_json:
        print(text)
    else:
        _print_table(built, chosen_path)
        for file in (plan, out):
            if file is not None:
                print(f"written to {file}")


def _spectra_of(model: str, family: str) -> str:
    """The file of a bundled model's spectra, for a spectral family, or nothing."""
    from sigmatune.models.bundled import spectra_file
    from sigmatune.schedules import FAMILIES

    file = spectra_file(model) if model and "spectrum" in FAMILIES[family].defaults else None
    return "" if file is None else str(file)


def _family_options(option: list[str], sigma_min: float | None, sigma_max: float | None) -> dict[str, Any]:
    """The family's options and the ends that were given."""
    given = named_numbers(option)
    for name in ("name", "steps", "path"):
        if name in given:
            raise SigmaTuneError(f"{name} is not an option of a family; use the command's own options, see --help.")
    ends = {"sigma_min": sigma_min, "sigma_max": sigma_max}
    return {name: end for name, end in ends.items() if end is not None} | given


def _built(
    family: str, steps: int, path: NoisePath, family_options: dict[str, Any], data: DataOptions, *, quiet: bool
) -> Schedule:
    """The schedule; with data, that of their mean spectrum. A rule shows this schedule for all its rows."""
    from sigmatune.schedules import build

    plain = build(family, steps, path, **family_options)  # before the work, so that errors appear at once
    if data.per_image or not data.source:
        return plain
    return build(family, steps, path, spectrum=data.power(quiet=quiet), **family_options)


def _document(built: Schedule, path: NoisePath) -> str:
    """The schedule as JSON, an infinite level as "inf"."""
    sigmas = ["inf" if sigma == float("inf") else sigma for sigma in built.sigmas.tolist()]
    fields = {
        "format": "sigmatune/schedule",
        "family": built.family,
        "options": dict(built.options),
        "noise_path": path.spec(),
        "steps": built.steps,
        "sigmas": sigmas,
        "network_times": path.time(built.sigmas[:-1]).tolist(),
    }
    return json.dumps(fields)


def _print_table(built: Schedule, path: NoisePath) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{built.family} {built.steps} steps", title_justify="left")
    for column in ("step", "sigma", "t", "logSNR"):
        table.add_column(column, justify="right")
    levels = built.sigmas[:-1]
    for i, (sigma, t) in enumerate(zip(levels, path.time(levels), strict=True)):
        table.add_row(str(i), f"{sigma:.6g}", f"{t:.3f}", f"{path.logsnr(t):.3f}")
    table.add_row(str(built.steps), "0", "-", "inf")
    Console().print(table)


def _rule(
    built: Schedule,
    path: NoisePath,
    denoiser: Denoiser | None,
    data: DataOptions,
    family_options: dict[str, Any],
    *,
    solver: str,
    chosen: dict[str, Any],
    quiet: bool,
) -> SpectralRule:
    """Fits the mixture; the rule of a model that was trained with such rules follows the model."""
    from sigmatune.rules import Control, SpectralRule
    from sigmatune.rules.rule import trained_curve

    spectra, control = data.mixture(quiet=quiet), Control(**data.control)
    rest: dict[str, Any] = {"solver": solver, "solver_options": chosen}
    if denoiser is not None and trained_curve(denoiser) == built.family and not family_options:
        if control.label is None and getattr(denoiser, "classes", None) and spectra.classes:
            control = replace(control, by_class=True)
        return SpectralRule.trained(denoiser, built.steps, spectra, control=control, **rest)
    fingerprint = None if denoiser is None else denoiser.fingerprint()
    return SpectralRule(
        built.family, built.steps, path, spectra,
        control=control, options=family_options, fingerprint=fingerprint, **rest,
    )  # fmt: skip


def _write_rule(rule: SpectralRule, file: Path, *, as_json: bool) -> None:
    from sigmatune.rules.rule_file import dumps
    from sigmatune.support.card import count

    rule.save(file, force=True)  # may_write has decided
    if as_json:
        print(dumps(rule), end="")
        return
    part = rule.spectra.part(rule.control.label)
    mixed = f"{count(len(part.weights), 'Gaussian')} over the spectra of {count(part.images, 'image')}"
    print(f"{rule.family}, {rule.steps} steps, {rule.solver}: one schedule per image, from {mixed}")
    print(f"rule: {file}")


def noise_path(name: str) -> NoisePath:
    """A noise path by name; ``flow:3`` is a flow with a shift of 3.

    Raises:
        SigmaTuneError: for an unknown name.
    """
    from sigmatune import noise
    from sigmatune.support.registry import Registry

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
