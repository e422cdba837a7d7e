"""Images a second in training of several networks for 32 x 32 pixels: ``python benchmarks/architectures.py``.

The recipe of the bundled network, recipes/cifar10-32.yaml, with the network and how it is computed exchanged. One thread;
the median of the steps, because other work can only lengthen a step. Writes ``results/architectures.json``; a row that is
there already is not measured again unless ``--again`` is given.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from guard import HERE, machine

from sigmatune.support.files import write_text
from sigmatune.training import run
from sigmatune.training.recipe import Recipe, read
from sigmatune.training.run_options import RunOptions
from sigmatune.training.trainer import Trainer

RESULT = HERE / "results" / "architectures.json"
RECIPE = HERE.parent / "recipes" / "cifar10-32.yaml"
NETWORKS = {
    "16, 48, 128": ([16, 48, 128], 1),
    "16, 64, 128": ([16, 64, 128], 1),
    "32, 64, 128": ([32, 64, 128], 1),
    "32, 64, 128, 192": ([32, 64, 128, 192], 1),
    "32, 64, 128, 192, two blocks": ([32, 64, 128, 192], 2),
    "32, 96, 192": ([32, 96, 192], 1),
    "48, 96, 192": ([48, 96, 192], 1),
}
WAYS = {
    "bfloat16": {},
    "float32": {"precision": "no"},
    "bfloat16, channels last": {"channels_last": True},
    "bfloat16, compiled": {"compile": True},
}
MODERN = "32, 64, 128, 192"
"""The network that is measured in every way; the others in bfloat16."""


def changed(recipe: Recipe, channels: list[int], layers: int, ways: dict[str, Any]) -> Recipe:
    """The recipe with another network; attention is at the coarsest resolution."""
    model = {"channels": channels, "layers": layers, "attention": [False] * (len(channels) - 1) + [True]}
    return recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update=model),
            "training": recipe.training.model_copy(update=ways),
        }
    )


def measure(recipe: Recipe, steps: int) -> dict[str, Any]:
    """Parameters, milliseconds a step and images a second."""
    job = run.prepare(recipe)
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(recipe.averages, recipe.saving, recipe.data.flip, job.identity, device="cpu")
        trainer = Trainer(job.network, job.objective, job.data, recipe.training, Path(folder), options)
        seconds = []
        for step in range(steps + 3):
            began = time.perf_counter()
            trainer._one()
            trainer.step += 1
            if step >= 3:  # the first ones compile and allocate
                seconds.append(time.perf_counter() - began)
    step = statistics.median(seconds)
    return {
        "parameters": sum(one.numel() for one in job.network.parameters()),
        "step_ms": round(1e3 * step, 1),
        "images_per_second": round(recipe.training.batch / step, 1),
        "slowest_ms": round(1e3 * max(seconds), 1),
    }


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="steps of which the median is taken")
    parser.add_argument("--again", action="store_true", help="measure rows that are there already, too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = read(RECIPE)
    rows = {} if given.again or not RESULT.exists() else json.loads(RESULT.read_text())["rows"]
    for name, (channels, layers) in NETWORKS.items():
        for way, settings in WAYS.items() if name == MODERN else [("bfloat16", {})]:
            label = f"{name}: {way}"
            if label not in rows:
                rows[label] = measure(changed(recipe, channels, layers, settings), given.steps)
                print(label, rows[label], flush=True)
                result = {
                    "benchmark": "benchmarks/architectures.py",
                    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                    "machine": machine(),
                    "batch": recipe.training.batch,
                    "steps": given.steps,
                    "rows": rows,
                }
                write_text(RESULT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
