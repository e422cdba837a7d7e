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
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

KILLS = 2
"""Kills of each command: twelve of six."""

CLOCKS = {"seconds", "peak_memory_mib", "created"}
"""What a clock or the system says, in results."""

PRELOADED = (
    "rich.progress", "optuna", "cmaes", "accelerate", "matplotlib.figure", "torch._dynamo", "diffusers.models.unets.unet_2d",
    "sigmatune.cli", "sigmatune.tuning", "sigmatune.report", "sigmatune.report.leaderboard_page", "sigmatune.training.run",
    "sigmatune.workflows.finetune", "sigmatune.analysis.stepwise", "sigmatune.analysis.figures",
    "sigmatune.evaluation.leaderboard", "sigmatune.evaluation.extractors.efficientnet",
)  # fmt: skip
"""What all processes share, so that they need not import it."""

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
VERBS = {
    "open": "open",
    "os.rename": "put",
    "os.mkdir": "make",
    "os.remove": "remove",
    "os.rmdir": "remove",
    "os.chmod": "change",
}
"""Operations on files, by the event that announces them; one that puts a file in its place is named after that place."""

TUNE = ("--tuning", "8", "--validation", "8", "--held-out", "8", "--micro-batch", "8", "--no-report")
PIXELS = ("--extractor", "pixels", "--spaces", "pixels-pca4", "--reference", "../data.npz")
RECIPE = """name: small
data: {source: ../data.npz}
process: {kind: edm}
model: {channels: [8], layers: 1, groups: 4, attention: [false]}
training: {images: 64, batch: 8, warmup: 2}
saving: {every: 2, log: 1, trackers: [], spectra: false}
previews: {every: 16, n: 2, calls: 2}
"""


@dataclass(frozen=True)
class Command:
    """A command, the folder that it keeps, and the files that it makes.

    Attributes:
        line: Its arguments.
        keeps: The folder that it goes on from.
        results: Files and folders that an undisturbed run leaves, too.
        job: What runs instead of the command line.
    """

    line: tuple[str, ...]
    keeps: str
    results: tuple[str, ...]
    job: Callable[[], None] | None = None


COMMANDS = {
    "tune": Command(
        ("tune", "../tiny", "--solver", "euler", "--calls", "3", "--method", "cma-es", "--evaluations", "6", *TUNE),
        "plan.run", ("plan.json",),
    ),
    "bench": Command(
        ("bench", "../tiny", "--families", "karras,log-uniform", "--solvers", "euler", "--calls", "3", "-n", "300", *PIXELS),
        "leaderboard.run", ("leaderboard.json",),
    ),
    "evaluate": Command(
        ("evaluate", "../tiny", "--plan", "../plan.json", "-n", "600", "--metrics", "fd,sw", *PIXELS),
        "evaluation.run", ("evaluation.json",),
    ),
    "train": Command(("train", "../small.yaml", "-o", "small.run", "--device", "cpu"), "small.run", ("small.run/model",)),
    "finetune": Command(
        ("finetune", "../tiny", "--data", "../data.npz", "--plan", "../plan.json", "--rounds", "1", "--images", "64",
         "--batch", "8", "--pictures", "64", "--method", "keep", "--reference", "../statistics.npz", "--device", "cpu"),
        "finetuned", ("finetuned/evidence.json", "finetuned/plan.json"),
    ),
    "analyze": Command(
        ("analyze", "../tiny", "-n", "48", "--steps", "12", "--store", "analysis.run"),
        "analysis.run", ("analysis.npz", "analysis.json"),
    ),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- one process


def operations(announced: Callable[[str], None], home: str) -> None:
    """From now on calls a function before every operation of this process that changes files of a folder, with its name."""

    def audit(event: str, given: tuple[Any, ...]) -> None:
        if event not in VERBS or (event == "open" and not (isinstance(given[2], int) and given[2] & WRITES)):
            return
        if event == "os.rename" and not os.path.lexists(given[0]):  # what was to be recovered, and is not there
            return
        path = given[1] if event == "os.rename" else given[0]
        if isinstance(path, str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (links are left alone)
            if path.startswith(home):
                announced(f"{VERBS[event]} {place(os.path.relpath(path, home))}")

    sys.addaudithook(audit)


def place(path: str) -> str:
    """A path as it is in every run: ~ for an unfinished file or folder, * for a digest."""
    return re.sub(r"\b[0-9a-f]{32,}|(?<=-)[0-9a-f]{12}(?=/)", "*", re.sub(r"\.sigmatune-[0-9a-f]+", "~", path))


def child(command: Command, folder: Path, kill_at: int | str, sender: Any) -> None:
    """Runs a command in a folder; dies before an operation, given by number or name; sends (code, words, operations)."""
    import torch

    from sigmatune import cli

    torch.set_num_threads(1)
    os.chdir(folder)
    points: list[str] = []
    said = io.StringIO()

    def announced(point: str) -> None:
        points.append(point)
        if kill_at in (len(points), point, f"{point} #{points.count(point)}"):
            os.kill(os.getpid(), signal.SIGKILL)

    operations(announced, str(folder))
    sys.argv = ["sigmatune", *command.line]
    code: Any = 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            (command.job or cli.main)()
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException as error:  # noqa: BLE001 - a traceback is what must not be
            code, _ = 1, said.write(f"TRACEBACK {type(error).__name__}: {error}")
    sender.send((code, said.getvalue(), points))


@dataclass(frozen=True)
class Outcome:
    """What became of a process: its exit code (negative for a signal), what it said, and the names of its operations."""

    code: int
    said: str
    points: list[str]
    seconds: float


def run(command: Command, folder: Path, *, kill_at: int | str = 0, kill_after: float | None = None) -> Outcome:
    """Runs a command in a process of its own, which dies before an operation or after some seconds.

    Args:
        command: The command.
        folder: Where it runs; made if need be.
        kill_at: The number of the operation; or its name, with ``#3`` behind it for the third of this name.
        kill_after: Seconds.
    """
    folder.mkdir(exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(command, folder, kill_at, sender))
    began = time.monotonic()
    process.start()
    sender.close()
    code, said, points = None, "", []
    if kill_after is not None and not receiver.poll(kill_after):
        process.kill()
    with contextlib.suppress(EOFError):
        code, said, points = receiver.recv()
    process.join()
    return Outcome(process.exitcode or 0 if code is None else code, said, points, time.monotonic() - began)


# -------------------------------------------------------------------------------------------------------------- results


def results(command: Command, folder: Path) -> dict[str, Any]:
    """What a command has made, without what clocks say."""
    contents: dict[str, Any] = {}
    for name in command.results:
        place = folder / name
        for file in sorted(place.rglob("*") if place.is_dir() else [place]):
            if file.is_file():
                contents[str(file.relative_to(folder))] = read(file)
    return contents


def read(file: Path) -> Any:
    """A file as it can be compared."""
    if file.suffix == ".npz":  # the archive has dates in it
        with np.load(file, allow_pickle=False) as arrays:
            return {name: (value.shape, value.tobytes()) for name, value in arrays.items()}
    if file.suffix != ".json":
        return file.read_bytes()
    return timeless(json.loads(file.read_text(encoding="utf-8")))


def timeless(value: Any) -> Any:
    """A JSON value without what clocks say."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in CLOCKS and key != "sha256"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def left_overs(folder: Path) -> list[str]:
    """Unfinished files and folders of ours."""
    from sigmatune.support.run_folder import LOCK

    return [str(path) for path in folder.rglob("*") if path.name.startswith(".sigmatune") and path.name != LOCK]


def judged(command: Command, folder: Path, whole: dict[str, Any]) -> str:
    """Runs a command to its end and says how that compares with the undisturbed run."""
    last = run(command, folder)
    if last.code:
        return f"FAILED: {last.said.strip()}"
    if left_overs(folder):
        return f"LEFT: {left_overs(folder)}"
    return "same" if results(command, folder) == whole else "DIFFERENT"


def one_sentence(outcome: Outcome) -> str:
    """Whether a refusal was one: exit code 2 and a single sentence."""
    errors = re.findall(r"^error: .*$", outcome.said, re.MULTILINE)
    return (
        "refused" if outcome.code == 2 and len(errors) == 1 else f"NOT REFUSED ({outcome.code}): {outcome.said.strip()}"
    )


# --------------------------------------------------------------------------------------------------------------- trials


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
