"""What is killed by SIGKILL, at any named operation on its files, finishes like what was not disturbed.

The machinery is that of ``python tools/kills.py``, which draws the operations or the moments, fills disks and locks folders.
Here every command is killed once at each kind of operation that puts a file or folder in its place, in the order of the run,
going on after each kill: so the whole costs little more than one run.
"""

from __future__ import annotations

import importlib
import json
import random
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from training import same

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))  # by its own name, so that a new process finds it, too
kills, killable = (importlib.import_module(name) for name in ("kills", "killable"))

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a server that has imported everything")


def fine_tuning() -> None:
    """Fine-tunes for two rounds; little work, and pixels are compared, which takes no network."""
    from unittest import mock

    from sigmatune import load_plan
    from sigmatune.evaluation import reference_set as reference
    from sigmatune.evaluation import stochastic_guard as guard
    from sigmatune.evaluation.extractors import extractor
    from sigmatune.spectra.sources import open_images
    from sigmatune.training import data
    from sigmatune.training.recipe import Training
    from sigmatune.tuning import TuningSettings as Noises
    from sigmatune.workflows import finetune, finetune_round, judge

    out, used = Path("finetuned"), extractor("pixels", (1, 8, 8))
    known = reference.measure(open_images("../data.npz"), [used])
    settings = finetune.FinetuneSettings(
        rounds=2, training=Training(images=64, batch=8, rate=5e-3, warmup=2), method="discretisation", budget=100, save=3,
        noises=Noises(tuning=8, validation=8, held_out=8, evaluations=4, micro_batch=8, reference_steps=16),
    )  # fmt: skip
    with (
        mock.patch.object(guard, "RESAMPLES", 50),
        mock.patch.object(judge, "LEAST", 16),
        mock.patch.multiple(finetune_round, TABLE_IMAGES=8, TABLE_LEVELS=6),
    ):
        compared = judge.ReferenceData(known, used, n=16, folder=out / "pictures")
        job = finetune.FinetuneJob("../tiny", data.load("../data.npz"), out, compared, settings, device="cpu")
        finetune.finetune(job, load_plan("../plan.json"))


def tuning() -> None:
    """Tunes with few trials and iterations."""
    from little import little_work
    from sigmatune import cli

    with little_work():
        cli.main()


def analysing() -> None:
    """Analyses without drawing, which takes most of the time; the figures are no part of what is resumed."""
    from unittest import mock

    from sigmatune import cli
    from sigmatune.analysis import figures

    with mock.patch.object(figures, "rendered", return_value=(b"drawn", b"drawn")):
        cli.main()


COMMANDS = killable.COMMANDS | {
    "tune": replace(
        killable.COMMANDS["tune"],
        line=("tune", "../tiny", "--solver", "euler", "--calls", "3", "--coefficients", "--budget", "600", *killable.TUNE),
        job=tuning,
    ),
    "analyze": replace(killable.COMMANDS["analyze"], job=analysing),
    "finetune": replace(
        killable.COMMANDS["finetune"], job=fine_tuning,
        results=("finetuned/evidence.json", "finetuned/plan.json", "finetuned/round-2/training/model"),
    ),
}  # fmt: skip

TRAINED = ["log.jsonl", "checkpoint.safetensors", "checkpoint.safetensors #2", "model"]
"""What a training keeps, in a folder of its own."""

ROUND = [
    *(f"training/{name}" for name in TRAINED),
    "errors-old.json",
    "errors-new.json",
    "tuned.run/*.npy #5",
    "tuned.json",
]

POINTS = {
    "tune": ["plan.run/*.npy", "plan.run/*.npy #30", "plan.json"],
    "bench": ["leaderboard.run/*/pixels-*/00000000-00000256.npz", "leaderboard.run/*/pixels-*/00000256-00000300.npz #2",
              "leaderboard.run/*/end-points/00000000-00000064.npy",
              "leaderboard.run/*/end-points/00000000-00000064.npy #3",
              "leaderboard.json", "leaderboard.html"],
    "evaluate": ["evaluation.run/*/pictures/00000000-00000256.npy", "evaluation.run/*/pixels-*/00000256-00000512.npz",
                 "evaluation.run/*/projections-*/00000512-00000600.npz", "evaluation.json"],
    "train": ["small.run/recipe.yaml", "small.run/~/model_index.json", "small.run/previews/0000000016.png",
              *(f"small.run/{name}" for name in TRAINED)],
    "finetune": ["finetuned/finetune.json", *(f"finetuned/round-1/{name}" for name in ROUND),
                 "finetuned/pictures/*/pixels-*/00000000-00000016.npz #2", "finetuned/round-1/plan.json",
                 "finetuned/round-2/training/checkpoint.safetensors #2", "finetuned/round-2/training/model",
                 "finetuned/round-2/errors-new.json", "finetuned/round-2/plan.json",
                 "finetuned/pictures/*/pixels-*/00000000-00000016.npz #3", "finetuned/model", "finetuned/evidence.json",
                 "finetuned/plan.json"],
    "analyze": ["analysis.run/*.npz", "analysis.run/*.npz #2", "analysis.npz", "analysis.json"],
}  # fmt: skip
"""Where a command is killed: before it puts this file or folder in its place; #2 is the second of this name in a run. In a
second round the files are those of the first; it is killed where it differs."""


LONG = ("finetune", "bench", "train", "analyze")
"""Killed most often, so `make test` leaves them to `make test-all`."""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with what the commands use."""
    folder = tmp_path_factory.mktemp("kills")
    kills.prepare(folder, [])
    return folder


def kinds(points: list[str]) -> set[str]:
    """What was put in its place, whichever of several rows, steps or arrays it was; pictures are drawn from what is there."""
    put = {point.removeprefix("put ").partition(" #")[0] for point in points if point.startswith("put ")}
    return {
        re.sub(r"\b\d{8,}(-\d{8})?|(?<=round-)\d", "N", name)
        for name in put
        if "~" not in name and not name.endswith((".png", ".svg"))
    }


def stamps(folder: Path) -> dict[Path, int]:
    """When each array in a run folder was written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.run/**/*.np[yz]")}


@LINUX
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in COMMANDS]
)
def test_kills_at_every_named_operation_change_nothing(home, name):
    whole, killed = home / f"{name}-whole", home / f"{name}-killed"
    undisturbed = killable.run(COMMANDS[name], whole)
    assert undisturbed.code == 0, undisturbed.said
    points = [f"put {point}" for point in POINTS[name]]
    assert kinds(undisturbed.points) == kinds(points), "a file without a kill, or a kill without a file"
    kept: dict[Path, int] = {}
    for point in points:
        outcome = killable.run(COMMANDS[name], killed, kill_at=point)
        assert outcome.code == -signal.SIGKILL, (point, outcome.said)
        kept = stamps(killed) | kept
    assert killable.judged(COMMANDS[name], killed, killable.results(COMMANDS[name], whole)) == "same"
    if name in ("tune", "bench", "evaluate"):  # the sums of the others grow in place
        assert kept.items() <= stamps(killed).items(), "what was measured is not measured again"
    if name == "finetune":
        assert json.loads((whole / "finetuned/evidence.json").read_text())["gain"], "or there is no new folder to put"
    if name == "train":  # what it would go on from, too
        same(whole / "small.run", killed / "small.run")
        previews = [
            sorted(file.name for file in (folder / "small.run/previews").iterdir()) for folder in (whole, killed)
        ]
        assert previews[0] == previews[1]


@LINUX
def test_a_kill_at_a_moment_changes_nothing(home):
    """The small version of `python tools/kills.py --clock`, which does it to six commands, fills their disks and locks them."""
    count, _, outcome = kills.trial("train", home, random.Random(0), disks=False, kills=1, clock=True)
    assert int(count) > 10
    assert outcome in ("same", "done before")
