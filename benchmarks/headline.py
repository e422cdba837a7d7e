"""Both numbers of what ``tune`` returns with its defaults: ``python benchmarks/headline.py``.

Each cell is one ``tune(model, calls, solver=..., coefficients=...)`` with nothing else given: the default measure, effort,
rivals and guard. Both numbers come from the plan's own evidence: the ratio of the errors, with its interval, and that of the
distances of the sets (:mod:`sigmatune.tuning.both_numbers`), on the held-out noises; the cost is that of everything, references
and guard included. A cell that is done is kept in ``runs/headline``; ``--only digits-euler`` measures the cells whose names
begin so. The run that finds all cells there writes ``benchmarks/results/headline.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
from itertools import product
from pathlib import Path
from typing import Any

import torch
from guard import HERE, machine

from sigmatune import load, tune
from sigmatune.support.files import make_folder, write_text
from sigmatune.tuning.both_numbers import both_numbers

MODELS, SOLVERS, CALLS = ("emoji", "digits"), ("dpmpp2m",), (4, 6, 8)
KINDS = {"levels": False, "levels and coefficients": True}
STORE = HERE.parent / "runs" / "headline"

Place = tuple[str, str, str, int]


def file_of(place: Place) -> Path:
    """Where a cell is kept."""
    return STORE / f"{'-'.join(map(str, place)).replace(' ', '-')}.json"


def cell(model: str, solver: str, kind: str, calls: int) -> dict[str, Any]:
    """Tunes, and takes both numbers from the evidence."""
    plan = tune(load(model), calls, solver=solver, coefficients=KINDS[kind])
    evidence, cost = dict(plan.evidence or {}), dict(plan.cost or {})
    both = both_numbers(evidence)
    assert both is not None
    return {
        "model": model, "solver": solver, "tuned": kind, "calls": calls, "gain": evidence["gain"],
        "baseline": evidence["baseline"], "verdict": evidence["verdict"], "measure": evidence["measure"]["name"],
        **both.to_dict(), "rows": evidence["statistic"]["rows"], "confidence": evidence["statistic"]["confidence"],
        "sets": evidence["sets"], "no_loss": evidence["no_loss"],
        "evaluations": cost["network_evaluations"], "seconds": cost["seconds"],
        "sigmas": plan.schedule.sigmas.tolist(),
    }  # fmt: skip


def main() -> None:
    """Measures what is missing, and writes once all is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="how the names of the cells begin, such as digits-dpmpp2m-levels-4")
    args = parser.parse_args()
    torch.set_num_threads(1)
    make_folder(STORE)
    places = list(product(MODELS, SOLVERS, KINDS, CALLS))
    for place in places:
        file = file_of(place)
        if file.stem.startswith(args.only) and not file.exists():
            write_text(file, json.dumps(cell(*place), indent=1) + "\n")
            found = json.loads(file.read_text())
            total = found["evaluations"]["total"]
            print(file.stem, found["verdict"], found["set_ratio"], f"{total:,} evaluations", flush=True)
    missing = [place for place in places if not file_of(place).exists()]
    if missing:
        print(f"{len(missing)} of {len(places)} cells are missing; the results are not written.")
        return
    cells = [json.loads(file_of(place).read_text()) for place in places]
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    result = {"benchmark": "benchmarks/headline.py", "date": date, "machine": machine(), "cells": cells}
    write_text(HERE / "results" / "headline.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
