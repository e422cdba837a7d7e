"""The best Beta timesteps for a spectrum, in closed form: ``python benchmarks/beta_spectra.py``.

The Beta sampling paper (https://arxiv.org/abs/2407.12173) picked a = b = 0.5 or 0.6 by hand and asked what they depend on.
For Gaussian data with a spectrum the squared Wasserstein error of every Beta(a, b) is known without a network, so that the
best pair can be searched: under the root mean square error, and with every ring of frequencies weighed by its own power.

Spectra: CIFAR-10 (``data/cifar10.npz``), natural images of slope 2 (Field, 1987) at 32 and 256 pixels, rendered text, and
audio with P = 1 / f (Voss and Clarke, 1975). The path is DDPM's. Writes ``benchmarks/results/beta_spectra.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import datetime
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from guard import HERE, machine
from PIL import Image, ImageDraw, ImageFont

from sigmatune import schedules
from sigmatune.core.schedule import Schedule
from sigmatune.measures.whitened import mode_weights
from sigmatune.noise import vp
from sigmatune.spectra import spectrum_of
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_text
from sigmatune.tuning.beta_optimum import optimal_beta
from sigmatune.tuning.gaussian_optimum import Modes, error, optimal

SOLVERS = ("euler", "dpmpp2m", "unipc")
STEPS = (4, 6, 10, 20)
EXPONENTS = {"rms": 0.0, "whitened, exponent 0.5": 0.5, "whitened, exponent 0.75": 0.75}
HAND = {"uniform": (1.0, 1.0), "Beta(.5, .5)": (0.5, 0.5), "Beta(.6, .6)": (0.6, 0.6)}


def power_law(size: int, slope: float, *, axes: int, variance: float) -> Modes:
    """P(k) = A k^-slope on a grid, the mean left out, with a mean power of ``variance``."""
    f = np.fft.fftfreq(size) * size
    k = np.abs(f) if axes == 1 else np.hypot(f[:, None], f[None, :])
    ring, count = np.unique(np.rint(k[k > 0]), return_counts=True)
    power = ring**-slope
    return Modes.of_rings(power * variance / np.average(power, weights=count), count)


def text(n: int = 512, size: int = 64) -> torch.Tensor:
    """Crops of rendered words, black on white, (n, 1, size, size) in [-1, 1]."""
    rng, font = np.random.default_rng(0), ImageFont.load_default(size=14)
    letters = list("etaoinshrdlucmfwypvbgkqjxz")
    crops = []
    for _ in range(n):
        words = " ".join("".join(rng.choice(letters, rng.integers(1, 9))) for _ in range(60))
        page = Image.new("L", (3 * size, 3 * size), 255)
        for line in range(12):
            ImageDraw.Draw(page).text(
                (-rng.integers(0, 40), 16 * line), words[25 * line : 25 * line + 60], 0, font=font
            )
        x, y = rng.integers(0, 2 * size, 2)
        crops.append(np.asarray(page.crop((x, y, x + size, y + size)), dtype=np.float32) / 127.5 - 1)
    return torch.from_numpy(np.stack(crops))[:, None]


def measured(images: torch.Tensor) -> Modes:
    """The modes of images: the power of every ring about the mean image."""
    spectrum = spectrum_of(images.float(), corners=True)
    assert spectrum.centred is not None
    return Modes.of(np.repeat(spectrum.centred, spectrum.count.astype(int)))


def spectra() -> Iterator[tuple[str, Modes]]:
    """The spectra by name."""
    file = HERE.parent / "data" / "cifar10.npz"
    if file.exists():
        pixels = np.load(file)["train"][:5_000]
        yield "CIFAR-10, 32 pixels", measured(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)
    for size in (32, 256):
        yield f"natural images, slope 2, {size} pixels", power_law(size, 2.0, axes=2, variance=0.25)
    yield "rendered text, 64 pixels", measured(text())
    yield "audio, 1 / f, 4,096 samples", power_law(4096, 1.0, axes=1, variance=0.01)


def weighed(modes: Modes, exponent: float) -> Modes:
    """The modes with the weights of the measure ``whitened``."""
    return replace(modes, weight=mode_weights(modes.power, modes.count, exponent=exponent))


def relative(solver: str, schedule: Schedule, modes: Modes) -> float:
    """The error as a share of the size of the data, (error / size)^(1/2)."""
    return float(np.sqrt(error(solver, schedule.sigmas, modes) / modes.size))


READINGS = {"closed": "beta", "open": "beta-open"}


def row(name: str, modes: Modes, measure: str, solver: str, steps: int) -> dict[str, object]:
    """The best pairs in both readings, and what the hand-picked ones and free levels reach."""
    path, weighted = vp("linear"), weighed(modes, EXPONENTS[measure])
    free = relative(solver, optimal(solver, steps, weighted, path), weighted)
    found: dict[str, object] = {
        "spectrum": name,
        "measure": measure,
        "solver": solver,
        "steps": steps,
        "free levels": free,
    }
    for reading, family in READINGS.items():
        entry: dict[str, object] = {}
        for which, symmetric in (("best", False), ("best, a = b", True)):
            best = optimal_beta(solver, steps, weighted, path, family=family, symmetric=symmetric)
            pair = {key: best.options[key] for key in ("a", "b")}
            entry[which] = {**pair, "error": relative(solver, best, weighted)}
        for label, (a, b) in HAND.items():
            with suppress(SigmaTuneError):  # two levels meet
                entry[label] = relative(solver, schedules.build(family, steps, path, a=a, b=b), weighted)
        found[reading] = entry
    return found


def main() -> None:
    """Searches every combination."""
    torch.set_num_threads(1)
    rows = []
    for name, modes in spectra():
        for measure in EXPONENTS:
            for solver in SOLVERS:
                rows += [row(name, modes, measure, solver, steps) for steps in STEPS]
        print(name, flush=True)
    result = {
        "benchmark": "benchmarks/beta_spectra.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "rows": rows,
    }
    write_text(HERE / "results" / "beta_spectra.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
