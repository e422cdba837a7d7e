"""Measures a bundled model's reference statistics: ``python tools/measure_reference.py cifar10`` (or ``digits``, ``emoji``).

Writes ``reference.npz`` beside the weights: mean and covariance of the training images in the spaces of EfficientNet-Lite0 (of
its head the first 128 principal components), of random projections and of spectra, and the features of 5000 images (of
digits 1000).
`sigmatune evaluate` and `sigmatune bench` compare with it unless another reference is given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fit_spectra import images
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.extractors.raw_pixels import Projections, Rings
from sigmatune.evaluation.reference_set import measure
from sigmatune.models.bundled import bundled_folder
from sigmatune.spectra.sources import open_images

ROWS, COMPONENTS = {"cifar10": 5000, "digits": 1000, "emoji": 5000}, {"head": 128}


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*ROWS])
    parser.add_argument("--data", type=Path, help="data/NAME.npz by default")
    given = parser.parse_args()
    data, _ = images(given.name, given.data or Path(f"data/{given.name}.npz"))
    used = [extractor("efficientnet-lite0", tuple(data.shape[1:])), Projections(), Rings()]
    reference = measure(
        open_images(data, layout="NCHW"), used, name=f"training images of {given.name}",
        progress=lambda what, done, total: print(f"{what}: {done} of {total}", end="\r", flush=True),
    )  # fmt: skip
    path = bundled_folder(given.name) / "reference.npz"
    reference.save(path, most=ROWS[given.name], components=COMPONENTS, half=True)
    print(f"{path}: {reference.n} images, {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
