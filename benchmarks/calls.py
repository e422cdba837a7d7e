"""Frechet distance against calls, of every bundled network and exact denoiser: ``python benchmarks/calls.py``.

More calls must bring images nearer to the data, or no table on that model can rank accuracy. The references are those that
come with each model: the training images of a network, draws of an exact denoiser; of a denoiser that is not built (``python
tools/build_exact.py``) nothing is measured. ``--models`` names some; the others stay as they were measured.

Writes ``benchmarks/results/calls.json`` after every cell; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import torch
from guard import HERE, machine

from sigmatune import build_schedule, compile_plan, load
from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation import reference_set
from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import generate
from sigmatune.models.bundled import reference_file
from sigmatune.support.files import write_text

RESULT, WORK = HERE / "results" / "calls.json", HERE.parent / "runs" / "calls"
MODELS = {
    "digits": 1000, "emoji": 300, "cifar10": 300,
    "exact:cifar10-mixture-16": 1000, "exact:cifar10-mixture-32": 1000, "exact:emoji-mixture-32": 1000,
    "exact:cifar10-empirical-16": 200, "exact:cifar10-empirical-32": 200,
}  # fmt: skip
"""Images by model: fewer where a call takes long."""
FAMILIES, CALLS = ("uniform-trailing", "karras"), (5, 10, 20, 50, 100)


def cell(model: Denoiser, known: reference_set.Reference, family: str, calls: int, n: int) -> list[dict[str, Any]]:
    """The figures of one family of levels at one number of calls."""
    wanted = Wanted.of(["fd"], extractor("efficientnet-lite0", tuple(model.shape)), [])
    plan = compile_plan(build_schedule(family, calls, model.path), "euler", model)
    drawn = generate(model, plan, n, wanted.extractors, folder=WORK, keep=False)
    return [one.to_dict() for one in figures(drawn, wanted, known)]


def main() -> None:
    """Measures what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=[name for name in MODELS if reference_file(name)])
    given = parser.parse_args()
    torch.set_num_threads(1)
    WORK.mkdir(parents=True, exist_ok=True)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {"cells": []}
    for name in given.models:
        file = reference_file(name)
        if file is None:
            raise SystemExit(f"{name} has no reference set; `python tools/build_exact.py` builds exact denoisers")
        model, known = load(name), reference_set.load(str(file))
        key = {"model": name, "n": MODELS[name], "fingerprint": model.fingerprint()}
        result["cells"] = [one for one in result["cells"] if one["model"] != name or key.items() <= one.items()]
        done = {(one["family"], one["calls"]) for one in result["cells"] if one["model"] == name}
        for family in FAMILIES:
            for calls in CALLS:
                if (family, calls) in done:
                    continue
                seen = cell(model, known, family, calls, MODELS[name])
                result["cells"].append(
                    {**key, "family": family, "calls": calls, "reference": known.spec(), "figures": seen}
                )
                print(name, family, calls, [round(one["value"], 1) for one in seen], flush=True)
                keep(RESULT, result)


def keep(file: Path, result: dict[str, Any]) -> None:
    """Writes what has been measured."""
    facts = {
        "benchmark": "benchmarks/calls.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
    }
    write_text(file, json.dumps({**result, **facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
