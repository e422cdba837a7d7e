"""Counts the files of the package that three journeys of a user enter: ``python tools/journeys.py``.

A file is entered when one of its functions runs during the command, which ``sys.setprofile`` tells; importing it does
not count. The fewer files a journey enters, the fewer a reader has to open to follow it. The work is tiny: few noises, an
8 x 8 network of one layer. ``--source`` counts in the sources of another commit, ``--list`` also names the files.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import os
import pkgutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

NOISES = ("--tuning", "8", "--validation", "8", "--held-out", "8", "--micro-batch", "8", "--evaluations", "8")
SMALL = (
    "--set", "model.channels=[8]", "--set", "model.layers=1", "--set", "model.groups=4", "--set", "model.attention=[false]",
    "--set", "training.images=64", "--set", "training.batch=8", "--set", "training.warmup=2",
)  # fmt: skip
JOURNEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "tune a bundled model": (("tune", "digits", "--calls", "4", *NOISES, "-o", "plan.json"),),
    "a schedule per image, and samples by it": (
        ("schedule", "spectral-mixed", "--data", "data.npz", "--per-image", "--model", "digits", "-N", "4",
         "--plan", "rule.json"),
        ("sample", "digits", "rule.json", "-n", "4", "-o", "samples.png"),
    ),
    "train, then fine-tune": (
        ("train", "--data", "data.npz", "-o", "trained.run", *SMALL),
        ("finetune", "trained.run/model", "--data", "data.npz", "--calls", "4", "--solver", "euler", "--rounds", "1",
         "--images", "16", "--batch", "8", "--pictures", "64", "--budget", "500", "-o", "finetuned"),
    ),
}  # fmt: skip


def import_everything() -> None:
    """Imports all modules, so that what runs at import is not counted."""
    package = importlib.import_module("sigmatune")
    for module in pkgutil.walk_packages(package.__path__, "sigmatune."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


@contextlib.contextmanager
def entered(source: Path) -> Iterator[set[Path]]:
    """Collects the files below a folder of which a function runs meanwhile, in any thread."""
    files: set[Path] = set()
    folder = f"{source}{os.sep}"

    def enter(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(folder):
            files.add(Path(code.co_filename).relative_to(source))

    threading.setprofile(enter)
    sys.setprofile(enter)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def files_of(command: tuple[str, ...], source: Path) -> set[Path]:
    """Runs a command of SigmaTune in this process and returns the files that it entered."""
    from sigmatune import cli

    sys.argv = ["sigmatune", *command]
    output = io.StringIO()
    with entered(source) as files, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            cli.main()
        except SystemExit as stop:
            if stop.code:
                raise RuntimeError(f"{' '.join(command)}: {output.getvalue()[-2000:]}") from None
    return files


def write_data(file: str) -> None:
    """Sixty-four random images."""
    import numpy as np

    np.savez(file, images=np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8))


def main() -> None:
    """Runs the journeys and prints one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path, default=Path(__file__).resolve().parents[1] / "src")
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args()
    source = asked.source.resolve()
    sys.path.insert(0, str(source))
    import_everything()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_data("data.npz")
        for name, commands in JOURNEYS.items():
            steps = {command[0]: files_of(command, source) for command in commands}
            counts = " + ".join(f"{len(files)} ({step})" for step, files in steps.items())
            print(f"{name}: {counts}, {len(set().union(*steps.values()))} different files", flush=True)
            for step, files in steps.items() if asked.list else ():
                print(f"  {step}: {', '.join(map(str, sorted(files)))}", flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
