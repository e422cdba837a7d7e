"""Tight ends against wide ones: ``python benchmarks/ends.py``.

1. Gaussian data with P(r) = max(r, 1/2)^-2.2: closed-form mismatch and lost variance against Monte Carlo; error per mode
   against the first and against the last level; error against N with ends that are fixed and ends that widen with N.
2. The bundled model: the same family over the model's whole range and over the tight one, by the guard's statistic.

Writes ``benchmarks/results/ends.json`` and ``docs/ends.svg``. ``--model ''`` leaves out the second part.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from closed_form import spectrum as power_law
from guard import HERE, machine, workbench

from sigmatune import schedules
from sigmatune.core.rng import noise
from sigmatune.models.analytic import GaussianSpectrum
from sigmatune.noise import VE
from sigmatune.spectra import Spectrum, spectrum_of
from sigmatune.spectra.bounds import Ends, lost_variance, prior_mismatch, tight_ends
from sigmatune.spectra.rings import rings
from sigmatune.support.files import write_bytes, write_text
from sigmatune.tuning import TuningSettings
from sigmatune.tuning.gaussian_optimum import Modes, error
from sigmatune.tuning.guard import judge

SIDE, CALLS, FAMILIES = 32, (5, 8, 12), ("log-uniform", "karras", "kl-optimal")
WIDE = Ends(1e4, 1e-4)
DRAWS = 4096


def gaussian() -> tuple[torch.Tensor, Spectrum, Modes]:
    """The design's power law on the full grid: the power of each mode, as a spectrum of rings, and as modes."""
    f = np.fft.fftfreq(SIDE) * SIDE
    power = np.maximum(np.hypot(f[:, None], f[None, :]), 0.5) ** -2.2
    power *= 0.25 / power.mean()
    ring = rings(SIDE, SIDE)
    count = np.bincount(ring.ravel()).astype(float)
    mean = np.bincount(ring.ravel(), weights=power.ravel()) / count
    return torch.from_numpy(power), Spectrum(mean, count, (SIDE, SIDE)), power_law(SIDE)


def monte_carlo(power: torch.Tensor) -> list[dict[str, float]]:
    """Divergence and lost variance of drawn images next to the formulas; the spectrum with one ring per mode."""
    exact = Spectrum(power.numpy().ravel(), np.ones(power.numel()), (SIDE, SIDE))
    model, rows = GaussianSpectrum(power, (1, SIDE, SIDE)), []
    x0 = model.draw(DRAWS, seed=1)
    for sigma in (0.01, 0.05, 0.5, 5.0, 20.0):
        x = x0 + sigma * noise(2, range(DRAWS), 0, (1, SIDE, SIDE), dtype=torch.float64)
        squares = torch.fft.fft2(x[:, 0], norm="ortho").abs().square()
        variance = power + sigma**2
        nats = 0.5 * (squares / sigma**2 - squares / variance - torch.log(variance / sigma**2)).sum(dim=(1, 2))
        kept = model(x / math.hypot(1, sigma), sigma).square().mean(dim=(1, 2, 3))
        lost = x0.square().mean(dim=(1, 2, 3)) - kept
        rows.append(
            {"sigma": sigma, "nats": float(prior_mismatch(exact, sigma)), "nats_monte_carlo": nats.mean().item(),
             "nats_standard_error": nats.std().item() / DRAWS**0.5, "lost": float(lost_variance(exact, sigma)),
             "lost_monte_carlo": lost.mean().item(), "lost_standard_error": lost.std().item() / DRAWS**0.5}
        )  # fmt: skip
    return rows


def width(spectrum: Spectrum, modes: Modes) -> list[dict[str, Any]]:
    """Error per mode against one end of the range, the other at its tight place, and the tight place itself."""
    path, found = VE(WIDE.sigma_min, WIDE.sigma_max), []
    for solver, order in (("euler", 1), ("dpmpp2m", 2)):
        for steps in (5, 10, 20):
            ends = tight_ends(spectrum, steps, order=order)

            def at(high: float, low: float, steps: int = steps, solver: str = solver) -> float:
                levels = schedules.build("log-uniform", steps, path, sigma_max=high, sigma_min=low)
                return error(solver, levels.sigmas, modes)

            highs, lows = np.geomspace(1, 1000, 61), np.geomspace(1e-3, 0.9, 61)
            found.append(
                {"solver": solver, "steps": steps, "tight": [ends.sigma_max, ends.sigma_min],
                 "tight_error": at(ends.sigma_max, ends.sigma_min), "sigma_max": highs.tolist(),
                 "error_of_sigma_max": [at(high, ends.sigma_min) for high in highs], "sigma_min": lows.tolist(),
                 "error_of_sigma_min": [at(ends.sigma_max, low) for low in lows]}
            )  # fmt: skip
    return found


def rings_of(spectrum: Spectrum) -> list[float]:
    """P(k) of the whole rings."""
    return [float(power) for power in spectrum.power[: SIDE // 2 + 1]]


def against_steps(spectrum: Spectrum, modes: Modes) -> list[dict[str, Any]]:
    """Error per mode against N: EDM's ends, tight ends of N = 10 kept, and of each N; log-uniform, and spectral-mixed."""
    path, found = VE(WIDE.sigma_min, WIDE.sigma_max), []
    for solver, order in (("euler", 1), ("dpmpp2m", 2)):
        for steps in (5, 10, 20, 40, 80, 160, 320):
            choices = {
                "edm": Ends(80.0, 0.002),
                "fixed": tight_ends(spectrum, 10, order=order),
                "widening": tight_ends(spectrum, steps, order=order),
            }
            errors = {
                name: error(
                    solver,
                    schedules.build("log-uniform", steps, path, sigma_max=e.sigma_max, sigma_min=e.sigma_min).sigmas,
                    modes,
                )
                for name, e in choices.items()
            }
            for name, widen in (("spectral_fixed", 0.0), ("spectral_widening", float(order))):
                built = schedules.build("spectral-mixed", steps, path, spectrum=rings_of(spectrum), widen=widen)
                errors[name] = error(solver, built.sigmas, modes)
            found.append({"solver": solver, "steps": steps, **errors})
    return found


def on_model(name: str, settings: TuningSettings) -> list[dict[str, Any]]:
    """Error ratio of tight to whole range on a model, Euler, on the held-out noises."""
    bench, found = workbench(name, settings), []
    spectrum = spectrum_of(bench.reference("tuning").double(), corners=True)
    path = bench.model.path
    for calls in CALLS:
        ends = tight_ends(spectrum, calls)
        low, high = max(ends.sigma_min, path.sigma_min), min(ends.sigma_max, path.sigma_max)
        for family in FAMILIES:
            tight, whole = (
                bench.plan(schedules.build(family, calls, path, **given), "euler")
                for given in ({"sigma_max": high, "sigma_min": low}, {})
            )
            judged = judge(bench, tight, whole)
            c = judged.comparison
            ratio = {key: math.exp(value) for key, value in (("value", c.statistic), ("low", c.low), ("high", c.high))}
            found.append(
                {"calls": calls, "family": family, "tight": [high, low], "whole": [path.sigma_max, path.sigma_min],
                 "error_ratio": ratio, "rows": c.rows, "confidence": c.confidence, "converged": judged.converged,
                 "reference_steps": judged.reference_steps}
            )  # fmt: skip
            print(calls, family, [round(high, 2), round(low, 4)], {key: round(v, 3) for key, v in ratio.items()})
    return found


def picture(result: dict[str, Any]) -> bytes:
    """Three panels: error against the first level, against the last, and against N."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 3.9), facecolor="white")
    axes = figure.subplots(1, 3)
    colours = {5: "#0072b2", 10: "#d55e00", 20: "#009e73"}
    for row in result["width"]:
        if row["solver"] != "euler":
            continue
        for axis, end, place in ((axes[0], "sigma_max", 0), (axes[1], "sigma_min", 1)):
            axis.loglog(row[end], row[f"error_of_{end}"], color=colours[row["steps"]], label=f"{row['steps']} steps")
            axis.plot(row["tight"][place], row["tight_error"], "o", color=colours[row["steps"]])
    axes[0].set_xlabel("first level (sigma)")
    axes[1].set_xlabel("last positive level (sigma)")
    axes[0].set_ylabel("error per mode, Euler, log-uniform")
    axes[0].set_title("dots: tight ends", fontsize=10)
    axes[1].set_title("dots: tight ends", fontsize=10)
    axes[0].legend(frameon=False, fontsize=9)
    names = {
        "edm": "80 to 0.002",
        "fixed": "tight for 10 steps, kept",
        "widening": "tight for each N",
        "spectral_fixed": "spectral-mixed, kept",
        "spectral_widening": "spectral-mixed, for each N",
    }
    styles = (("#999999", "o-"), ("#d55e00", "o-"), ("#0072b2", "o-"), ("#d55e00", "s--"), ("#0072b2", "s--"))
    rows = [row for row in result["against_steps"] if row["solver"] == "euler"]
    for (name, label), (colour, line) in zip(names.items(), styles, strict=True):
        axes[2].loglog([r["steps"] for r in rows], [r[name] for r in rows], line, ms=3, color=colour, label=label)
    axes[2].set_xlabel("steps N")
    axes[2].set_title("fixed ends are what remains at many steps", fontsize=10)
    axes[2].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(visible=True, which="major", alpha=0.25)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--held-out", type=int, default=64)
    given = parser.parse_args()
    power, spectrum, modes = gaussian()
    result: dict[str, Any] = {
        "benchmark": "benchmarks/ends.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "spectrum": "P(r) = max(r, 1/2)^-2.2 on the 32 x 32 grid, scaled to mean 1/4",
        "monte_carlo": {"draws": DRAWS, "rows": monte_carlo(power)},
        "width": width(spectrum, modes),
        "against_steps": against_steps(spectrum, modes),
    }
    write_bytes(HERE.parent / "docs" / "ends.svg", picture(result))
    if given.model:
        settings = TuningSettings(tuning=32, validation=32, held_out=given.held_out)
        result["model"] = given.model
        result["cells"] = on_model(given.model, settings)
    out = HERE / "results" / "ends.json"
    write_text(out, json.dumps(result, indent=1) + "\n")
    print(f"written to {Path(out)}")


if __name__ == "__main__":
    main()
