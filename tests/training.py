"""What the tests of training share: few small images, a network of a few thousand weights, short recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from sigmatune.training import checkpoint
from sigmatune.training.recipe import Recipe, checked
from sigmatune.training.run import prepare
from sigmatune.training.run_log import lines
from sigmatune.training.run_options import RunOptions
from sigmatune.training.trainer import Trainer

CLASSES = 3


def images(n: int = 48, size: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth 8-bit images of three classes, which differ in colour and smoothness, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    k = np.maximum(np.hypot(*np.meshgrid(np.fft.fftfreq(size) * size, np.fft.fftfreq(size) * size)), 0.5)
    slope = np.array([0.6, 1.0, 1.4])[labels]
    modes = np.fft.fft2(rng.normal(size=(n, 3, size, size))) * k ** -slope[:, None, None, None]
    values = np.fft.ifft2(modes).real
    values = values / values.std(axis=(1, 2, 3), keepdims=True) * 40 + 128
    values[np.arange(n), labels] += 30
    return np.clip(values, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1), labels


def written(folder: Path, n: int = 48, size: int = 8) -> str:
    """An .npz of such images."""
    pictures, labels = images(n, size)
    np.savez(folder / "images.npz", images=pictures, labels=labels)
    return str(folder / "images.npz")


def recipe(**sections: dict[str, Any]) -> Recipe:
    """A recipe for a training of a second or less; sections are merged over it."""
    raw: dict[str, Any] = {
        "noise": {"law": "spectral-instance"},
        "model": {"channels": [8], "layers": 1, "groups": 4, "attention": [False], "classes": True, "ends": True},
        "training": {"images": 96, "batch": 8, "warmup": 2},
        "saving": {"every": 3, "log": 1, "trackers": [], "spectra": False},
        "previews": {"every": 0},
        "averages": [{"kind": "power"}, {"kind": "constant"}],
    }
    for name, values in sections.items():
        raw[name] = raw.get(name, {}) | values if isinstance(values, dict) else values
    return checked(raw)


def trainer(folder: Path, source: str, one: Recipe | None = None) -> Trainer:
    """The trainer of a recipe, by default the short one, on images that were written."""
    one = one or recipe()
    job = prepare(one, source)
    return Trainer(
        job.network, job.objective, job.data, one.training, folder,
        RunOptions(one.averages, one.saving, one.data.flip, job.identity, device="cpu"),
    )  # fmt: skip


def losses(folder: Path) -> list[float]:
    """All losses of a run's log."""
    return [loss for line in lines(folder) for loss in line["losses"]]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """What a run's checkpoint holds."""
    return load_file(folder / checkpoint.FILE)


def same(a: Path, b: Path) -> None:
    """Weights, moments, averages and losses, to the bit."""
    ours, theirs = tensors(a), tensors(b)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert losses(a) == losses(b)
