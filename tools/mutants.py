"""Inserts formula bugs one at a time and runs the tests that should notice: ``python tools/mutants.py``.

Some of them: ``python tools/mutants.py test_laws.py statistics/``, by what stands in a mutant's file, text or tests.
Each mutant changes one place in a copy of the package; a mutant that every test survives is a hole in the suite. Prints
one line per mutant and exits with 1 if more than one survives.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from formula_bugs import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent


BUNDLED = ROOT / "src/sigmatune/models/weights"


def left_out(folder: str, names: list[str]) -> set[str]:
    """What no test of a mutant needs: caches, and the weights of all bundled models but the smallest."""
    besides = {name for name in names if name != "digits"} if Path(folder) == BUNDLED else set()
    return besides | ({"__pycache__"} & set(names))


def killed(mutant: Mutant) -> bool:
    """Whether a test fails on the mutant.

    Raises:
        SystemExit: if the mutant's text is not there exactly once, so that it would say nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=left_out)
        shutil.copy(ROOT / "pyproject.toml", copy)
        file = copy / "src" / "sigmatune" / mutant.file
        text = file.read_text()
        if text.count(mutant.right) != 1:
            raise SystemExit(f"{mutant.file} has {mutant.right!r} {text.count(mutant.right)} times, not once.")
        file.write_text(text.replace(mutant.right, mutant.wrong))
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "not cifar10"]
        done = subprocess.run(
            [*command, *(str(copy / "tests" / test) for test in mutant.tests)],
            cwd=copy,
            env={**os.environ, **threads, "PYTHONPATH": str(copy / "src")},
            capture_output=True,
            check=False,
        )
        if done.returncode not in (0, 1):  # pytest: 1 means that a test failed; others, that none could run
            raise SystemExit(done.stdout.decode() + done.stderr.decode())
        return done.returncode == 1


def handles(mutant: Mutant) -> tuple[str, ...]:
    """What a mutant can be chosen by."""
    return (mutant.file, mutant.right, mutant.wrong, *mutant.tests)


def main() -> None:
    """Tries all mutants, or some."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "words", nargs="*", help="Only mutants whose file, text or tests hold one of these; all by default."
    )
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    chosen = [
        one for one in MUTANTS if not args.words or any(word in part for word in args.words for part in handles(one))
    ]
    began, survivors = time.monotonic(), 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for mutant, dead in zip(chosen, pool.map(killed, chosen), strict=True):
            survivors += not dead
            print(
                f"{'killed  ' if dead else 'SURVIVED'}  {mutant.file}: {mutant.right}  ->  {mutant.wrong}", flush=True
            )
    print(f"{len(chosen) - survivors} of {len(chosen)} killed in {time.monotonic() - began:.0f} s")
    sys.exit(survivors > 1 or not chosen)


if __name__ == "__main__":
    main()
