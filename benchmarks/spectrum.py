"""CIFAR-10's spectrum and what it says about training: ``python benchmarks/spectrum.py``.

Measures the training images in ``data/cifar10.npz`` (tools/fetch_cifar10.py), compares the proposed constants with those that
EDM publishes for this data, and checks the extrapolation to another resolution against the images themselves, shrunk to half.
Writes ``benchmarks/results/spectrum.json`` and ``docs/spectrum.png``.
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

from sigmatune.analysis.spectrum_facts import BUDGETS, facts_of
from sigmatune.analysis.spectrum_picture import NoisePanel, draw
from sigmatune.spectra.advice import EDM, Density, training_density
from sigmatune.spectra.bounds import Ends, at_resolution, tight_ends
from sigmatune.spectra.measured_spectra import Measured, measure
from sigmatune.spectra.power_laws import power_law
from sigmatune.support.files import write_bytes, write_text


def halved(file: Path, full: Measured) -> dict[str, Any]:
    """Measured at half the resolution, and predicted from the full one."""
    small = measure(str(file), key="train", corners=True, size=16).all
    law = power_law(full.all)
    predicted = at_resolution(full.all, 16, law.exponent)
    shown = {"measured": small, "predicted": predicted}
    return {
        name: {
            "power": one.power[:9].tolist(),
            "P_mean": training_density(one).mean,
            "sigma_max": {str(steps): tight_ends(one, steps).sigma_max for steps in BUDGETS},
        }
        for name, one in shown.items()
    }


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "cifar10.npz")
    given = parser.parse_args()
    torch.set_num_threads(1)
    measured = measure(str(given.data), key="train", corners=True, by_class=True)
    spectrum = measured.all
    result = {
        "benchmark": "benchmarks/spectrum.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "data": "CIFAR-10, training images",
        "facts": facts_of(measured, resolution=64),
        "half_resolution": halved(given.data, measured),
    }
    write_text(HERE / "results" / "spectrum.json", json.dumps(result, indent=1) + "\n")
    law = power_law(spectrum)
    noise = NoisePanel(
        {"proposed: every ring the same": training_density(spectrum), "EDM": Density(EDM["P_mean"], EDM["P_std"])},
        {**{f"{n} steps": tight_ends(spectrum, n) for n in BUDGETS}, "EDM": Ends(EDM["sigma_max"], EDM["sigma_min"])},
    )
    picture = draw(
        spectrum,
        title=f"CIFAR-10: {spectrum.images} images of 32 x 32",
        laws={f"{law.power(1):.3g} k^-{law.exponent:.2f}": law},
        classes=measured.classes,
        noise=noise,
    )
    write_bytes(HERE.parent / "docs" / "spectrum.png", picture)


if __name__ == "__main__":
    main()
