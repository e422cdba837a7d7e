"""``sigmatune train``: fits a new model by a recipe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sigmatune.cli.common import may_write, progress_bar
from sigmatune.cli.dry_run import DryRun, show
from sigmatune.cli.evaluation_options import left_out
from sigmatune.cli.shared_options import Force, JsonOfCost, RecipeData, TrainingDevice
from sigmatune.support.errors import SigmaTuneError, shown

if TYPE_CHECKING:
    from sigmatune.training.recipe import Recipe


def train(
    recipe: Path | None = typer.Argument(
        None, help="Recipe, a YAML file; without one, the defaults apply and need --data."
    ),
    data: RecipeData = "",
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Run folder; resumes if it holds the same training. By default NAME.run."
    ),
    change: list[str] = typer.Option(
        [],
        "--set",
        help="Change a value of the recipe: training.images=100000 counts images drawn, not files "
        "(steps = training.images / training.batch); model.classes=true conditions on the folder of each image.",
    ),
    tracker: list[str] = typer.Option(
        [], "--tracker", help="Log to these instead of the recipe's: tensorboard, trackio, wandb."
    ),
    device: TrainingDevice = "auto",
    dry_run: DryRun = False,
    as_json: JsonOfCost = False,
    force: Force = False,
) -> None:
    """Train a model by a recipe, and write it as a diffusers folder.

    A stopped run resumes from its last checkpoint; on a CPU its losses are then bit-identical.

    For several processes: accelerate launch $(which sigmatune) train ...; several machines need the run folder on a
    disk that all of them see.
    """
    from sigmatune.training.recipe import Recipe, read
    from sigmatune.training.run import is_copy
    from sigmatune.training.run import train as run
    from sigmatune.training.run_log import unlearned

    if recipe is None and not data:
        raise SigmaTuneError("give a recipe, or images by --data; recipes/ holds examples.")
    if device not in ("auto", "cpu"):
        raise SigmaTuneError(f"--device is auto or cpu, not {device!r}; CUDA_VISIBLE_DEVICES chooses among several.")
    chosen = changed(Recipe() if recipe is None else read(recipe), change)
    if tracker:
        chosen = chosen.model_copy(update={"saving": chosen.saving.model_copy(update={"trackers": tracker})})
    folder = out or Path(f"{chosen.name}.run")
    if dry_run:
        _show_cost(chosen, folder, data or None, device, as_json=as_json)
        return
    main = int(os.environ.get("RANK", "0")) == 0
    if main:
        of_this_run = recipe is not None and is_copy(recipe, chosen, folder)
        sources = (None if of_this_run else recipe, data or chosen.data.source, chosen.data.labels)
        may_write(inputs=sources, homes=[folder], force=force)
    model = run(chosen, folder, source=data or None, device=device, progress=not as_json)
    if not main:
        return
    text = (model / "training.json").read_text(encoding="utf-8").rstrip()
    if as_json:
        print(text)
        return
    from sigmatune.support import card  # imports numpy

    took = json.loads(text)
    for line in left_out([took["data"]]):
        print(line)
    loss = (
        ""
        if took["loss"] is None
        else f"loss {took['loss']:.4f} in the last {card.count(took['loss_steps'], 'step')}, "
    )  # none where the log is gone
    print(
        f"{took['images']:,} images in {took['steps']:,} steps and {took['seconds']:.0f} s, {loss}"
        f"{took['parameters']:,} parameters"
    )
    if said := unlearned(folder, took["loss"]):
        print(said)
    print(f"model: {model}  (st.load, diffusers); checkpoint, log and previews: {folder}")


def _show_cost(recipe: Recipe, folder: Path, source: str | None, device: str, *, as_json: bool) -> None:
    """Prints what the training would cost, by a few measured steps."""
    from sigmatune.training.training_cost import training_cost

    with progress_bar("measuring a step", quiet=as_json) as progress:
        cost = training_cost(recipe, folder, source=source, device=device, progress=progress)
    show(cost, as_json=as_json)


def changed(recipe: Recipe, changes: list[str]) -> Recipe:
    """The recipe with some values changed.

    Raises:
        SigmaTuneError: for a change that is not written section.key=value, or a recipe that it makes no recipe.
    """
    from sigmatune.training.recipe import checked, yaml_of

    if not changes:
        return recipe
    fields: dict[str, Any] = recipe.model_dump(mode="json")
    for change in changes:
        path, equals, text = change.partition("=")
        *sections, key = path.split(".")
        place = fields
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None  # type: ignore[assignment]
        if not equals or not key or not isinstance(place, dict):
            raise SigmaTuneError(f"--set is written section.key=value, such as training.images=100000, not {change!r}.")
        place[key] = yaml_of(text, f"the value of --set {shown(path)}")
    return checked(fields, "the recipe with --set")
