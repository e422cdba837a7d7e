"""Exact denoisers of real data: ``python benchmarks/exact.py speed`` (or ``held-out``), after building them.

``speed``: images per second of one thread at the batch that plans use, by processor time, for every one that is built; what a
call in single precision is off; what a build takes on disk. ``held-out``: log likelihood of test images, which tells how many
rings should have a full covariance.

Writes ``benchmarks/results/exact.json``, each part beside the others.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import datetime
import json
import math
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from guard import machine

from sigmatune import load
from sigmatune.models.exact import EXACT
from sigmatune.models.exact.class_mixture import Basis, ClassMixture, Gaussians
from sigmatune.models.exact.empirical import in_range
from sigmatune.plan import MICRO_BATCH
from sigmatune.support.files import write_text
from sigmatune.workflows.build_exact import DATA, LEAN, Data, Sorted, fit_mixture, sorted_images

HERE = Path(__file__).parent
RESULT = HERE / "results" / "exact.json"
TURNS = 5
BATCHES = (MICRO_BATCH, 64)
LEVELS = (0.01, 0.1, 1.0, 10.0, 100.0)


def stored() -> dict[str, Any]:
    """What has been measured so far."""
    return json.loads(RESULT.read_text()) if RESULT.is_file() else {"benchmark": "benchmarks/exact.py"}


def keep(part: str, found: dict[str, Any]) -> None:
    """Writes a part beside the others."""
    facts = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "machine": machine()}
    write_text(RESULT, json.dumps({**stored(), part: {**facts, **found}}, indent=1) + "\n")


# -------------------------------------------------------------------------------------------------------------- speed


def speed() -> None:
    """Measures every one that is built."""
    torch.set_num_threads(1)
    rows = [measured(name) for name in EXACT if (EXACT[name].folder / "card.json").is_file()]
    keep("speed", {"threads": 1, "turns": TURNS, "levels": list(LEVELS), "rows": rows})


def measured(name: str) -> dict[str, Any]:
    """Speed, precision and size of one denoiser."""
    model, exact = load(f"exact:{name}"), load(f"exact:{name}", dtype=torch.float64)
    x0 = model.draw(max(BATCHES), seed=1).float()
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    row: dict[str, Any] = {"name": name, "images_per_second": {}, "off": {}}
    for batch in BATCHES:
        z = (x0 + eps)[:batch] / math.sqrt(2)
        model(z, 1.0)
        row["images_per_second"][str(batch)] = round(batch / median(seconds(model, z) for _ in range(TURNS)), 1)
    for sigma in LEVELS:
        z = ((x0 + sigma * eps) / math.hypot(1, sigma))[:MICRO_BATCH]
        row["off"][str(sigma)] = float((model(z, sigma).double() - exact(z.double(), sigma)).square().mean().sqrt())
    row["mebibytes"] = round((EXACT[name].folder / "denoiser.safetensors").stat().st_size / 2**20, 1)
    print(row, flush=True)
    return row


def seconds(model: Any, z: torch.Tensor) -> float:
    """Processor time of one call."""
    began = time.thread_time()
    model(z, 1.0)
    return time.thread_time() - began


# ----------------------------------------------------------------------------------------------------------- held-out

STRUCTURES = {
    16: [("independent modes", -1, LEAN), ("full covariance to ring 4", 4, LEAN), ("full covariance", None, LEAN)],
    32: [
        ("rings: one power for a ring and colour", -1, 10**9), ("independent modes", -1, LEAN),
        ("full covariance to ring 4", 4, LEAN), ("full covariance to ring 8, rings beyond", 8, 10**9),
        ("full covariance to ring 8", 8, LEAN), ("full covariance to ring 12", 12, LEAN),
        ("full covariance", None, LEAN),
    ],
}  # fmt: skip


def held_out(data: Path, classes: list[str]) -> None:
    """Bits per pixel value of test images under their own class, relative to 8-bit steps."""
    known, test = DATA["cifar10"], Data("test", DATA["cifar10"].classes, "", "")
    rows = stored().get("held_out", {}).get("rows", [])
    done = {(row["size"], row["structure"], tuple(row["classes"])) for row in rows}
    for size, structures in STRUCTURES.items():
        seen, left = (some(sorted_images(data, which, size), classes) for which in (known, test))
        for name, full_rings, lean in structures:
            if (size, name, tuple(classes)) in done:
                continue
            arrays, fit = fit_mixture(seen, full_rings=full_rings, lean=lean, progress=lambda _: None)
            rows.append({"size": size, "structure": name, "classes": classes, "n": len(left.images),
                         "full_modes": fit.full_modes, "shrinkage": fit.shrinkage, "bits": bits(arrays, left)})  # fmt: skip
            print(rows[-1], flush=True)
            keep("held_out", {"rows": rows})


def some(data: Sorted, classes: list[str]) -> Sorted:
    """The images of some classes."""
    parts = dict(zip(data.counts, torch.split(data.images, list(data.counts.values())), strict=True))
    return Sorted(torch.cat([parts[name] for name in classes]), {name: data.counts[name] for name in classes})


def bits(arrays: dict[str, torch.Tensor], left: Sorted) -> float:
    """-log2 p of an 8-bit value, mean over values and images, each under its own class without noise."""
    basis = Basis(arrays["colours"], arrays["rows"], arrays["columns"], arrays["order"])
    given = (arrays[name] for name in ("weights", "means", "variances", "axes"))
    model = ClassMixture(Gaussians(*given, basis), classes=tuple(left.counts), dtype=torch.float64)
    total = 0.0
    for name, part in zip(left.counts, torch.split(left.images, list(left.counts.values())), strict=True):
        for chunk in part.split(256):
            x0 = in_range(chunk, torch.float64)
            total += float(model.given(name).log_density(x0, torch.zeros(len(x0), dtype=torch.float64)).sum())
    d = left.images[0].numel()
    return -total / (len(left.images) * d * math.log(2)) - math.log2(2 / 255)


def main() -> None:
    """Measures a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["speed", "held-out"])
    parser.add_argument("--data", type=Path, default=Path("data/cifar10.npz"), help="for held-out")
    parser.add_argument("--classes", nargs="+", default=["airplane", "cat"], help="for held-out")
    given = parser.parse_args()
    np.seterr(all="raise", under="ignore")
    if given.part == "speed":
        speed()
    else:
        held_out(given.data, given.classes)


if __name__ == "__main__":
    main()
