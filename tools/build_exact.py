"""Builds an exact denoiser of real data: ``python tools/build_exact.py cifar10-mixture-16``.

Then ``exact:cifar10-mixture-16`` is a model for every command. It goes to $SIGMATUNE_CACHE, else to sigmatune in
$XDG_CACHE_HOME or ~/.cache, never into the repository. The data come from tools/fetch_cifar10.py and tools/fetch_emoji.py.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
from pathlib import Path

from sigmatune.models.exact import EXACT
from sigmatune.support.errors import SigmaTuneError
from sigmatune.workflows.build_exact import build


def main() -> None:
    """Builds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=", ".join(EXACT))
    parser.add_argument("--data", type=Path, help="the fetched archive (data/<data set>.npz)")
    parser.add_argument("--reference", type=int, default=10_000, help="exact draws of the reference set, 0 for none")
    given = parser.parse_args()
    try:
        exact = build(given.name, given.data, reference=given.reference)
    except SigmaTuneError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    size = sum(file.stat().st_size for file in exact.folder.iterdir())
    print(f"exact:{exact.name} is built in {exact.folder}, {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
