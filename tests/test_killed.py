"""What is killed by SIGKILL, at moments or at operations on files, finishes like what was not disturbed."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sigmatune.models.analytic import GaussianMixture
from sigmatune.noise import vp
from sigmatune.tuning import TuningSettings, tune
from test_documents import ROOT

CALLS = [2, 3]
SETTINGS = TuningSettings(tuning=8, validation=8, held_out=16, evaluations=3, micro_batch=8, reference_steps=32)


def job(folder: Path) -> None:
    """Tunes two budgets through all stages and writes the plans."""
    rng = np.random.default_rng(0)
    axes = [np.linalg.qr(rng.normal(size=(9, 9)))[0] for _ in range(4)]
    covariances = np.array([a * np.geomspace(0.3, 0.001, 9) @ a.T for a in axes])
    means = rng.normal(size=(4, 1, 3, 3)) * 0.5
    model = GaussianMixture(np.full(4, 0.25), means, covariances, vp("linear"))
    found = tune(model, CALLS, solver="euler", coefficients=True, budget=8_000, settings=SETTINGS, store=folder)
    for calls, plan in found.items():
        plan.save(folder / f"plan-{calls}.json")


def plans(folder: Path) -> list[dict]:
    """What the plans say, without what a clock or the system says."""
    read = [json.loads((folder / f"plan-{calls}.json").read_text()) for calls in CALLS]
    for fields in read:
        for part in (fields["cost"], *fields["cost"]["stages"]):
            del part["seconds"], part["peak_memory_mib"]
    return read


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a server that has imported everything")
def test_ten_kills_change_nothing(tmp_path):
    context = multiprocessing.get_context("forkserver")
    # All that a job imports, so that kills meet its work; torch imports the last one with the first checkpoint.
    context.set_forkserver_preload(["pytest", "sigmatune.tuning", "sigmatune.models.analytic", "torch._dynamo"])

    def started(folder):
        folder.mkdir(exist_ok=True)
        process = context.Process(target=job, args=(folder,))
        process.start()
        return process

    server = context.Process(target=time.monotonic)
    server.start()
    server.join()
    began = time.monotonic()
    started(tmp_path / "whole").join()
    taken, rng = time.monotonic() - began, np.random.default_rng(0)
    killed = 0
    for wait in rng.uniform(0.02, 0.2, size=10):
        process = started(tmp_path / "killed")
        process.join(wait * taken)
        if process.is_alive():
            process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
    assert killed >= 5
    assert len(list((tmp_path / "killed").glob("*.npy"))) > 5
    last = started(tmp_path / "killed")
    last.join()
    assert last.exitcode == 0
    assert plans(tmp_path / "killed") == plans(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob("*.partial"))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a server that has imported everything")
def test_kills_at_any_operation_on_a_file_change_nothing(tmp_path, monkeypatch):
    """The small version of `python tools/kills.py`, which does it to six commands, fills their disks and locks them."""
    monkeypatch.syspath_prepend(ROOT / "tools")  # by its own name, so that a new process finds it, too
    kills = importlib.import_module("kills")
    kills.prepare(tmp_path, ["evaluate"])
    operations, points, outcome = kills.trial("evaluate", tmp_path, random.Random(0), disks=False, kills=2)
    assert int(operations) > 10
    assert len(points.split(", ")) == 2
    assert outcome == "same, same"
