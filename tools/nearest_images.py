"""How near a bundled model's samples are to its training images: ``python tools/nearest_images.py emoji``.

For each of some converged samples the root mean square distance, in [-1, 1], to the nearest training image or its mirror image;
and for as many training images that to the nearest *other* one, for comparison: a model that copies has distances near 0, one
that draws new images of the same kind about as large as those between training images. Writes ``nearest.json`` beside the
weights and, with ``--figure``, samples above their nearest training images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from fit_spectra import images
from sigmatune import load, sample
from sigmatune.models.bundled import bundled_folder
from sigmatune.plan.reference import reference_plan
from sigmatune.support.files import write_bytes, write_text
from sigmatune.workflows.image_grids import side_by_side

N, STEPS, SEED, SHOWN = 200, 40, 123, 10


def nearest(x: torch.Tensor, data: torch.Tensor, *, itself: bool) -> tuple[np.ndarray, np.ndarray]:
    """The distance to the nearest image and its index; the image itself, at distance 0 and without a mirror, left out."""
    flat = data.flatten(1).double()
    squares = torch.stack(
        [torch.cdist(part.flatten(1).double(), flat) for part in (x, x.flip(-1))]
    )  # mirrored training images are training images
    if itself:
        squares[squares < 1e-6] = np.inf
    distance, place = squares.amin(dim=0).min(dim=1)
    return distance.numpy() / np.sqrt(flat.shape[1]), place.numpy()


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["cifar10", "digits", "emoji"])
    parser.add_argument("--data", type=Path, help="data/NAME.npz by default")
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    data, _ = images(given.name, given.data or Path(f"data/{given.name}.npz"))
    model = load(given.name)
    samples = sample(model, reference_plan(model, STEPS), N, seed=SEED, micro_batch=50).float().clamp(-1, 1)
    own, places = nearest(samples, data, itself=False)
    chosen = torch.from_numpy(np.random.default_rng(SEED).choice(len(data), N, replace=False))
    other, _ = nearest(data[chosen], data, itself=True)
    shares = (10, 50, 90)
    result = {
        "tool": f"tools/nearest_images.py {given.name}",
        "n": N,
        "steps": STEPS,
        "distance": "root mean square in [-1, 1] to the nearest training image or its mirror image",
        "samples": dict(zip(map(str, shares), np.percentile(own, shares).round(3).tolist(), strict=True)),
        "training images": dict(zip(map(str, shares), np.percentile(other, shares).round(3).tolist(), strict=True)),
    }
    write_text(bundled_folder(given.name) / "nearest.json", json.dumps(result, indent=1) + "\n")
    print(result)
    if given.figure:
        panels = [("sample", samples[:SHOWN]), ("nearest\ntraining image", data[torch.from_numpy(places[:SHOWN])])]
        title = f"{given.name}: samples and the nearest training images"
        write_bytes(given.figure, side_by_side(panels, title, model.value_range, kind="figure"))


if __name__ == "__main__":
    main()
