"""Fits a bundled model's mixture of spectra: ``python tools/fit_spectra.py cifar10`` (or ``digits``, ``emoji``).

Writes ``spectra.json`` beside the weights: Gaussian mixtures over (log amplitude, slope) of the training images, of all of
them and per class. `sigmatune schedule --family spectral-mixed --model cifar10` reads it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from sigmatune.models.bundled import bundled_folder
from sigmatune.models.exact.empirical import in_range
from sigmatune.spectra.mixture_fit import fit
from sigmatune.workflows.build_exact import DATA, sorted_images

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def images(name: str, data: Path) -> tuple[torch.Tensor, list[str]]:
    """The images that the model was trained on, in [-1, 1], and their classes."""
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return torch.from_numpy(digits.images[:, None] / 8.0 - 1.0).float(), [str(label) for label in digits.target]
    if name == "emoji":
        laid = sorted_images(data, DATA["emoji"], 32)
        return in_range(laid.images, torch.float32), [label for label, n in laid.counts.items() for _ in range(n)]
    stored = np.load(data)
    pixels = torch.from_numpy(stored["train"]).permute(0, 3, 1, 2)
    return pixels.float() / 127.5 - 1, [CLASSES[label] for label in stored["train_labels"]]


def main() -> None:
    """Fits and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["cifar10", "digits", "emoji"])
    parser.add_argument("--data", type=Path, help="data/NAME.npz by default")
    given = parser.parse_args()
    mixture = fit(*images(given.name, given.data or Path(f"data/{given.name}.npz")))
    mixture.save(bundled_folder(given.name) / "spectra.json")
    print(f"{given.name}: {len(mixture.everything.weights)} Gaussians over all images, {len(mixture.classes)} classes")


if __name__ == "__main__":
    main()
