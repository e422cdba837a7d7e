"""Experiment trackers by name: what TensorBoard and trackio hold after a tuning and after a training, without a network."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from sigmatune.support.trackers import check, tracked

TUNE = ["--calls", 4, "--solver", "euler", "--method", "static", "--tuning", 8, "--validation", 8, "--held-out", 8,
        "--micro-batch", 8, "--no-report", "-o", "plan.json"]  # fmt: skip


def logged(folder):
    """The names and the steps of what TensorBoard's files in a folder hold."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next(folder.rglob("events.out.*")).parent))
    events.Reload()
    return {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_a_tuning_is_logged_to_tensorboard(run, tmp_path, tiny, little):
    code, _, err = run("tune", tiny, *TUNE, "--tracker", "tensorboard")
    assert code == 0, err
    seen = logged(tmp_path / "plan.run")
    assert {"4 steps/tuning", "4 steps/validation"} <= set(seen)
    assert all(step > 0 for step in seen["4 steps/validation"])


def test_a_training_is_logged_to_the_trackers_of_the_command(run, tmp_path):
    pytest.importorskip("accelerate")
    images = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    code, out, err = run(
        "train", "--data", "images.npz", "-o", "run", "--device", "cpu", "--tracker", "tensorboard",
        "--set", "training.images=24", "--set", "training.batch=8", "--set", "model.channels=[8]", "--set", "model.head=8",
        "--set", "saving.spectra=false", "--set", "previews.every=0",
    )  # fmt: skip
    assert code == 0, err
    assert logged(tmp_path / "run")["loss"] == [1, 2, 3], "early steps have a line each"
    assert "The loss has hardly fallen" in out


def test_values_reach_trackio_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("trackio")
    with tracked(["trackio"], tmp_path) as track:
        track({"loss": 0.5}, 3)
    assert any(b"loss" in file.read_bytes() for file in (tmp_path / "trackio").rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tensorbord", "did you mean 'tensorboard'"),
        ("comet_ml", "the tracker comet_ml is not installed; install it: pip"),
    ],
)
def test_a_tracker_that_cannot_be_is_refused_before_any_work(run, tmp_path, name, says):
    assert name not in sys.modules
    code, _, err = run("tune", "digits", *TUNE, "--tracker", name)
    assert code == 2
    assert says in err
    assert list(tmp_path.iterdir()) == []


class _NoAccount:
    """A tracker that raises what Weights & Biases raises without a key."""

    requires_logging_directory = False

    def __init__(self, *_arguments, **_options):
        class UsageError(Exception):
            pass

        raise UsageError("No API key configured. Use `wandb login` to log in.")


def test_wandb_without_an_account_says_how_to_do_without_one(run, monkeypatch, tmp_path, tiny, little):
    tracking = pytest.importorskip("accelerate.tracking")
    known, found = importlib.util.find_spec, object()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "wandb" else known(name))
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", _NoAccount)
    code, _, err = run("tune", tiny, *TUNE, "--tracker", "wandb")
    assert code == 2
    assert "the tracker wandb does not start: No API key configured" in err
    assert "set WANDB_MODE=offline" in err


def test_no_trackers_need_nothing():
    check([])
