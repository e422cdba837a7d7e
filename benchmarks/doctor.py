"""Which metric orders images sensibly, in which space: ``python benchmarks/doctor.py``.

Halves of CIFAR-10's training images (from ``data/cifar10.npz``) and of scikit-learn's digits; one is the reference, the
other is left alone, mirrored, noised, blurred, or keeps some of its classes. Writes ``benchmarks/results/doctor.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json

import numpy as np
from guard import HERE, machine

from sigmatune.evaluation.doctor import examine
from sigmatune.evaluation.evaluate import Wanted
from sigmatune.evaluation.extractors import extractor
from sigmatune.support.files import write_text
from sigmatune.support.pixels import Pixels

OUT = HERE / "results" / "doctor.json"
SPACES = {
    "efficientnet-lite0": ("block10", "head", "head-pca64", "head-pca128"),
    "pixels": ("pixels", "pixels-pca64"),
}


def data(name: str, n: int) -> tuple[Pixels, list[str]]:
    """At most 2n images in random order, and their classes."""
    if name == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        pixels, labels = (found.images * (255 / 16)).round().astype(np.uint8)[..., None], found.target
    else:
        stored = np.load(HERE.parent / "data" / "cifar10.npz")
        pixels, labels = stored["train"], stored["train_labels"]
    order = np.random.default_rng(0).permutation(len(pixels))[: 2 * n]
    return pixels[order], [str(label) for label in labels[order]]


def main() -> None:
    """Examines everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5000, help="images in each half of CIFAR-10")
    given = parser.parse_args()
    result = {
        "benchmark": "benchmarks/doctor.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "examined": [],
    }
    for name in ("cifar10", "digits"):
        pixels, classes = data(name, given.n)
        shape = (pixels.shape[3], *pixels.shape[1:3])
        for source, spaces in SPACES.items():
            own = extractor(source, shape)
            metrics = ["fd", "kid", "prdc", *(["sw", "spectrum"] if source == "pixels" else ["is"])]
            usable = [space for space in spaces if not space.endswith("pca64") or np.prod(shape) > 64]
            wanted = Wanted.of(metrics, own, usable)
            found = examine(pixels, wanted, classes=classes, progress=lambda *done: print(*done, flush=True))
            diagnoses = [diagnosis.to_dict() for diagnosis in found]
            result["examined"].append(
                {"data": name, "n": len(pixels) // 2, "extractor": source, "diagnoses": diagnoses}
            )
            write_text(OUT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
