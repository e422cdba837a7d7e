"""Commands that can be killed: what they are, one run in a process of its own, and what is compared of it.

:func:`run` lists the operations on files of a run by name and can kill it before any of them; :func:`judged` runs it to its end
and compares the results. ``tools/kills.py`` draws the kills; ``tests/test_killed.py`` takes every named point.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
        ("tune", "../tiny", "--solver", "euler", "--calls", "3", "--method", "evolution", "--evaluations", "6", *TUNE),
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
