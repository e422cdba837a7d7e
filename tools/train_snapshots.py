"""Averaged weights after several numbers of epochs of one training: ``python tools/train_snapshots.py [RECIPE]``.

CIFAR-10 at 16 x 16 after 1 to 64 epochs by default, for the question how an effect depends on training. One run at a constant
rate, so that a snapshot does not depend on what comes after it; the average is the recipe's first, of the power-function
profile, whose length grows with the training. Resumes after a kill; a snapshot is a pipeline folder in ``OUT/EPOCHS``. Where
the run's folder was lost, ``--start`` trains on from a snapshot: the averages resume at its step, the optimiser's state is new.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from safetensors.torch import load_file

from sigmatune.support.errors import SigmaTuneError
from sigmatune.training import run
from sigmatune.training.averages import trained
from sigmatune.training.export import averaged, save_model
from sigmatune.training.recipe import Recipe, read
from sigmatune.training.run_log import Report
from sigmatune.training.run_options import Hooks, RunOptions
from sigmatune.training.trainer import Trainer

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "cifar10-epochs.yaml"
EPOCHS = (1, 4, 16, 32, 48, 64)


def main() -> None:
    """Trains and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", default=RECIPE, help="recipes/cifar10-epochs.yaml by default")
    parser.add_argument("--epochs", type=int, nargs="+", default=EPOCHS, help="when to write a snapshot")
    parser.add_argument("--out", type=Path, default=Path("runs/epochs"))
    parser.add_argument("--data", default=None, help="instead of the recipe's")
    parser.add_argument("--start", type=Path, help="a snapshot to train on from, for an empty --out")
    parser.add_argument(
        "--average", type=Path, help="train no further; write the averaged weights of the checkpoint here"
    )
    given = parser.parse_args()
    try:
        train(read(given.recipe), given)
    except SigmaTuneError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def train(recipe: Recipe, given: argparse.Namespace) -> None:
    """Trains up to each number of epochs in turn and writes the averaged weights, or those of the checkpoint alone."""
    out, job = given.out, run.prepare(recipe, given.data)
    options = RunOptions(recipe.averages, recipe.saving, recipe.data.flip, job.identity)
    trainer = Trainer(job.network, job.objective, job.data, recipe.training, out, options)
    if given.start is not None and not trainer.step:
        begin_at(trainer, given.start)

    def write(folder: Path) -> None:
        network = averaged(job.network, trainer.averages[0])
        save_model(folder, network, job.scheduler, recipe, facts=run.facts(job, trainer))
        print(f"{trainer.step * recipe.training.batch / len(job.data):.4g} epochs: {folder}", flush=True)

    if given.average is not None:
        write(given.average)
        return
    for epochs in given.epochs:
        end = round(epochs * len(job.data) / recipe.training.batch)
        if end < trainer.step or (out / str(epochs)).exists():
            continue
        trainer.run(Hooks(log=_print), until=end)
        write(out / str(epochs))


def begin_at(trainer: Trainer, snapshot: Path) -> None:
    """Puts a new training at the step of a snapshot, with its averaged weights as weights and as their average."""
    trainer.bare.backbone.load_state_dict(load_file(snapshot / "unet" / "diffusion_pytorch_model.safetensors"))
    for average in trainer.averages:
        average.values = {name: value.detach().float().clone() for name, value in trained(trainer.bare)}
    trainer.step = json.loads((snapshot / "training.json").read_text())["steps"]


def _print(report: Report) -> None:
    print(report, flush=True)


if __name__ == "__main__":
    main()
