"""How much do a and b of Beta timesteps matter? ``python benchmarks/sensitivity.py``.

Error over the grid (a, b) in 0.1..2 per solver and number of steps: in closed form for Gaussian data with the spectrum of the
bundled model's own samples, and by the guard's errors on the model itself. Writes ``benchmarks/results/sensitivity.json`` and
``docs/sensitivity.png``. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import io
import json
from typing import Any

import numpy as np
import torch
from guard import HERE, machine, workbench

from sigmatune import schedules
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_bytes, write_text
from sigmatune.tuning import TuningSettings
from sigmatune.tuning.gaussian_optimum import error, power_of

GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0)
CLOSED = tuple((solver, steps) for solver in ("euler", "dpmpp2m", "heun", "unipc2") for steps in (4, 6, 10, 15, 20))
MEASURED = tuple((solver, steps) for solver in ("euler", "dpmpp2m") for steps in (6, 10))


def maps(model: str, rows: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Root mean square error of every (a, b), None where two levels meet: in closed form, and on the model."""
    bench = workbench(model, TuningSettings(tuning=rows, validation=rows, held_out=max(rows, 8)))
    path, modes = bench.model.path, power_of(bench.reference("tuning"))
    assert modes is not None

    def over_grid(solver: str, steps: int, value: Any) -> dict[str, Any]:
        table = []
        for a in GRID:
            row = []
            for b in GRID:
                try:
                    row.append(value(schedules.build("beta", steps, path, a=a, b=b)))
                except SigmaTuneError:
                    row.append(None)
            table.append(row)
        flat = [(v, GRID[i], GRID[j]) for i, line in enumerate(table) for j, v in enumerate(line) if v is not None]
        lowest, a, b = min(flat)
        print(f"{solver} {steps}: best a = {a}, b = {b}")
        return {"solver": solver, "steps": steps, "error": table, "best": {"a": a, "b": b, "error": lowest}}

    closed = [over_grid(s, n, lambda built, s=s: error(s, built.sigmas, modes) ** 0.5) for s, n in CLOSED]

    def on_model(built: schedules.Schedule, solver: str) -> float:
        errors = bench.errors(bench.plan(built, solver), "tuning")
        return float(np.exp(np.log(errors).mean()))

    measured = [over_grid(s, n, lambda built, s=s: on_model(built, s)) for s, n in MEASURED]
    return closed, measured


def picture(result: dict[str, Any]) -> bytes:
    """Error over the best, per solver and steps: closed form above, the model below."""
    from matplotlib.figure import Figure

    rows = [
        [cell for cell in result["closed_form"] if (cell["solver"], cell["steps"]) in MEASURED],
        result["model_maps"],
    ]
    figure = Figure(figsize=(12, 6.8), dpi=120, facecolor="white", layout="constrained")
    axes = figure.subplots(2, len(MEASURED), sharex=True, sharey=True)
    image = None
    for line, cells, what in zip(axes, rows, ("closed form", result["model"]), strict=True):
        for axis, cell in zip(line, cells, strict=True):
            table = np.array([[np.nan if v is None else v for v in row] for row in cell["error"]])
            image = axis.imshow(np.log2(table / np.nanmin(table)), origin="lower", cmap="viridis_r", vmin=0, vmax=2)
            best = cell["best"]
            axis.plot(GRID.index(best["b"]), GRID.index(best["a"]), "*", color="#d55e00", ms=11)
            for hand in (0.5, 0.6):
                axis.plot(GRID.index(hand), GRID.index(hand), "o", mfc="none", color="white", ms=7)
            axis.set_title(f"{what}\n{cell['solver']}, {cell['steps']} steps", fontsize=10)
            axis.set_xticks(range(len(GRID)), [f"{v:g}" for v in GRID], fontsize=7, rotation=90)
            axis.set_yticks(range(len(GRID)), [f"{v:g}" for v in GRID], fontsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("b, small: steps near the noise")
    for axis in axes[:, 0]:
        axis.set_ylabel("a, small: steps near the data")
    assert image is not None
    bar = figure.colorbar(image, ax=axes, shrink=0.7, ticks=[0, 1, 2])
    bar.ax.set_yticklabels(["best", "2 x", "4 x"])
    bar.set_label("error")
    figure.suptitle("Beta(a, b) timesteps. Star: the best; circles: the paper's (.5, .5) and (.6, .6)", fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--rows", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(1)
    closed, measured = maps(given.model, given.rows)
    result = {
        "benchmark": "benchmarks/sensitivity.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "model": given.model,
        "rows": given.rows,
        "grid": GRID,
        "closed_form": closed,
        "model_maps": measured,
    }
    write_bytes(HERE.parent / "docs" / "sensitivity.png", picture(result))
    write_text(HERE / "results" / "sensitivity.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
