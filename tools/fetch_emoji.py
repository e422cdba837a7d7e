"""Fetches emoji for training at several resolutions: ``python tools/fetch_emoji.py`` writes data/emoji.npz (93 MB).

The npm packages emoji-datasource-google and -twitter 16.0.0 hold every emoji as a PNG of 64 x 64 pixels; each is laid
on white. The label is the Unicode category. The archives are checked against their digests. None of it is ever part of
the repository.

Sources: Noto Emoji (Google, Apache-2.0), Twemoji (Twitter, CC BY 4.0), as packed by https://github.com/iamcal/emoji-data
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

VERSION = "16.0.0"
PACKAGES = {
    "google": "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    "twitter": "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
}


def download(maker: str, folder: Path) -> Path:
    """Lets npm put a package's archive into a folder and returns its path."""
    package = f"emoji-datasource-{maker}@{VERSION}"
    try:
        subprocess.run(["npm", "pack", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        raise SystemExit(
            "npm is not installed; install Node.js, or pass a folder of archives with --archives"
        ) from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"npm pack {package} failed with exit code {error.returncode}") from None
    return folder / f"emoji-datasource-{maker}-{VERSION}.tgz"


def check_digest(archive: Path, sha256: str) -> None:
    """Refuses an archive that is not the one this script was written for."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise SystemExit(f"{archive.name} has sha256 {digest} and should have {sha256}; nothing was written")


def read_package(archive: Path, maker: str) -> tuple[list[np.ndarray], list[str]]:
    """Returns the images, (64, 64, 3) uint8, on white, and their categories."""
    pictures, categories = [], []
    with tarfile.open(archive) as opened:
        members = {member.name: member for member in opened.getmembers()}
        listed = json.load(opened.extractfile(members["package/emoji.json"]))
        for emoji in listed:
            for one in (emoji, *emoji.get("skin_variations", {}).values()):
                member = members.get(f"package/img/{maker}/64/{one['image']}")
                if not one[f"has_img_{maker}"] or member is None:
                    continue
                picture = Image.open(io.BytesIO(opened.extractfile(member).read())).convert("RGBA")
                if picture.size != (64, 64):
                    raise SystemExit(
                        f"{member.name} has {picture.size} pixels and should have (64, 64); nothing was written"
                    )
                white = Image.new("RGBA", picture.size, "white")
                pictures.append(np.asarray(Image.alpha_composite(white, picture).convert("RGB")))
                categories.append(emoji["category"])
    return pictures, categories


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/emoji.npz"), help="file to write (data/emoji.npz)")
    parser.add_argument("--archives", type=Path, help="a folder that holds both packages' .tgz already")
    args = parser.parse_args()
    images: list[np.ndarray] = []
    labels: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for maker, sha256 in PACKAGES.items():
            archive = download(maker, Path(folder)) if args.archives is None else (
                args.archives / f"emoji-datasource-{maker}-{VERSION}.tgz"
            )  # fmt: skip
            check_digest(archive, sha256)
            pictures, categories = read_package(archive, maker)
            images += pictures
            labels += categories
    args.out.parent.mkdir(parents=True, exist_ok=True)
    part = args.out.with_name(args.out.name + ".part")
    with part.open("wb") as file:
        np.savez(file, images=np.stack(images), labels=np.array(labels))
    part.replace(args.out)
    print(f"{args.out}: {len(images)} images of {len(set(labels))} categories")


if __name__ == "__main__":
    main()
