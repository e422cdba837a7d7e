"""Kills commands at random points, fills their disks, locks their folders, and compares what the next run makes of it.

Every command runs undisturbed first; its operations on files (opened to write, renamed, made, removed) are listed by name. Then
it is killed by SIGKILL at an operation drawn by a seed, or at a moment drawn by a seed, and run to its end, twice; then it runs
on a disk too small for it, and again with room; then on a disk that is read-only, and again on one that is not. Each time the
results have to be those of the undisturbed run, and nothing unfinished may be left. The disks are tmpfs, so that part needs a
superuser. The tests (tests/test_killed.py) kill at every named point instead, which takes a tenth of the time.

    python tools/kills.py            # the table on standard output
    python tools/kills.py --seed 1 tune train
    python tools/kills.py --clock --kills 10 finetune
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from killable import COMMANDS, RECIPE, Command, judged, one_sentence, results, run

KILLS = 2
"""Kills of each command: twelve of six."""


def prepare(home: Path, names: Sequence[str]) -> None:
    """Writes the model, the data, the plan and the recipe that the commands use."""
    import diffusers
    import torch

    from sigmatune import compile_plan, load, schedules

    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4,), norm_num_groups=2,
        down_block_types=("DownBlock2D",), mid_block_type=None, up_block_types=("UpBlock2D",), add_attention=False,
    )  # fmt: skip
    diffusers.DDIMPipeline(network, diffusers.DDIMScheduler(clip_sample=False)).save_pretrained(home / "tiny")
    rng = np.random.default_rng(0)
    np.savez(home / "data.npz", images=rng.integers(0, 255, (96, 8, 8, 1), dtype=np.uint8))
    model = load(str(home / "tiny"))
    compile_plan(schedules.build("karras", 3, model.path), "euler", model).save(home / "plan.json")
    (home / "small.yaml").write_text(RECIPE)
    if "finetune" in names:
        measure(home / "data.npz", home / "statistics.npz")


def measure(data: Path, out: Path) -> None:
    """Writes the statistics of images, so that not every process has to measure them."""
    import torch

    from sigmatune.evaluation import reference_set as reference
    from sigmatune.evaluation.extractors import extractor
    from sigmatune.spectra.sources import open_images

    one = extractor("efficientnet-lite0", (1, 8, 8), device=torch.device("cpu"))
    reference.measure(open_images(str(data)), [one]).save(out)


@contextlib.contextmanager
def disk(home: Path, size: int) -> Iterator[Path]:
    """A disk of so many bytes."""
    folder = home / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def remounted(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def size_of(folder: Path) -> int:
    """Bytes of a folder on a disk of pages."""
    return sum(4096 * (1 + path.stat().st_size // 4096) if path.is_file() else 4096 for path in folder.rglob("*"))


def killed(command: Command, home: Path, whole: dict[str, Any], draws: Sequence[dict[str, Any]]) -> str:
    """Kills a command at each of some operations or moments, and runs it to its end each time."""
    said = []
    for draw in draws:
        folder = home / "killed"
        code = run(command, folder, **draw).code
        if code == -signal.SIGKILL:
            said.append(judged(command, folder, whole))
        else:  # at a moment it may have been done
            said.append("done before" if code == 0 and "kill_after" in draw else f"NOT KILLED: {code}")
        shutil.rmtree(folder)
    return ", ".join(said)


def filled(command: Command, home: Path, whole: dict[str, Any], size: int) -> str:
    """Runs a command on a disk that is too small, and again with room."""
    with disk(home, size) as folder:
        first = one_sentence(run(command, folder))
        remounted(folder, f"size={size * 64}")
        return f"{first}, then {judged(command, folder, whole)}"


def locked(command: Command, home: Path, whole: dict[str, Any]) -> str:
    """Runs a command where nothing can be written, and again where it can."""
    with disk(home, 1 << 26) as folder:
        (folder / command.keeps).mkdir()
        remounted(folder, "ro")
        first = one_sentence(run(command, folder))
        remounted(folder, "rw")
        return f"{first}, then {judged(command, folder, whole)}"


def trial(
    name: str, home: Path, chance: random.Random, *, disks: bool = True, kills: int = KILLS, clock: bool = False
) -> list[str]:
    """All that is done to one command: what became of it, in cells of a table."""
    command, folder = COMMANDS[name], home / "whole"
    undisturbed = run(command, folder)
    whole, size = results(command, folder), size_of(folder)
    shutil.rmtree(folder)
    if undisturbed.code or not whole:
        return [f"FAILED: {undisturbed.said}"]
    count = len(undisturbed.points)
    draws: list[dict[str, Any]] = [{"kill_at": point} for point in sorted(chance.sample(range(1, count + 1), kills))]
    if clock:
        draws = [{"kill_after": round(chance.random() * undisturbed.seconds, 2)} for _ in range(kills)]
    at = ", ".join(str(value) for draw in draws for value in draw.values())
    cells = [str(count), at, killed(command, home, whole, draws)]
    if disks:
        cells += [filled(command, home, whole, max(size // 2, 8192)), locked(command, home, whole)]
    return cells


def main() -> None:
    """Runs all trials and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=KILLS, help="Kills of each command.")
    parser.add_argument(
        "--clock", action="store_true", help="Kill at moments instead of operations; seconds are shown."
    )
    args = parser.parse_args()
    disks = os.geteuid() == 0 and shutil.which("mount") is not None
    print("| command | operations | killed before | killed | full disk | read-only |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), args.commands)
        bad = 0
        for name in args.commands:
            chance = random.Random(f"{args.seed} {name}")
            cells = trial(name, Path(folder), chance, disks=disks, kills=args.kills, clock=args.clock)
            bad += any(re.search("[A-Z]{4}", cell) for cell in cells)
            print(f"| {' | '.join([name, *cells])} |", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
