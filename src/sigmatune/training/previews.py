"""Grids of images during training, from the same noises every time, for comparison."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sigmatune import schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import Schedule
from sigmatune.noise import Array
from sigmatune.plan import Plan, compile_plan
from sigmatune.support.files import make_folder, write_bytes
from sigmatune.support.pixels import to_pixels
from sigmatune.training.laws.base import Law

SOLVER = "dpmpp2m"
WIDTH = 128
"""Smallest side of a shown image in pixels."""


def grid_of(law: Law, images: torch.Tensor, steps: int, model: Denoiser) -> Schedule:
    """The schedule of a preview: the law's own curve for some images, the usual one for other laws.

    Args:
        law: The noise law of the training.
        images: As many training images as previews; a law of each image takes its curve.
        steps: N.
        model: The model with the noise path.
    """
    if law.curve is None:
        finite = bool(np.isfinite(model.path.sigma_max))
        return schedules.build("log-uniform" if finite else "uniform-trailing", steps, model.path)
    v = np.broadcast_to(np.linspace(1, 0, steps) if steps > 1 else np.ones(1), (len(images), steps))
    levels: Array = np.exp(-law.logsnr(v, images) / 2)
    return Schedule(np.concatenate([levels, np.zeros((len(images), 1))], axis=1), "spectral, of training images")


def planned(
    model: Denoiser, law: Law, images: torch.Tensor, labels: list[str] | None, calls: int
) -> tuple[Denoiser, Plan]:
    """Builds the denoiser and the plan for one preview per training image, with these images' classes and curves.

    Args:
        model: The averaged network.
        law: The noise law of the training.
        images: Training images, (n, C, H, W).
        labels: Their classes, for a class-conditional network.
        calls: Network calls.
    """
    conditioned = model.conditioned(range(len(images)), labels, law.ends(images))
    return conditioned, compile_plan(grid_of(law, images, calls, conditioned), SOLVER, conditioned)


def write(file: Path, images: torch.Tensor, value_range: tuple[float, float]) -> None:
    """Writes a square grid of images as PNG, small ones enlarged without smoothing.

    Raises:
        SigmaTuneError: if the file cannot be written.
    """
    pixels = to_pixels(images, value_range)
    n, height, width, channels = pixels.shape
    side = int(np.ceil(np.sqrt(n)))
    canvas = np.zeros((side * side, height, width, channels), dtype=np.uint8)
    canvas[:n] = pixels
    rows = canvas.reshape(side, side, height, width, channels).transpose(0, 2, 1, 3, 4)
    whole = rows.reshape(side * height, side * width, channels)
    scale = max(WIDTH // max(height, width), 1)
    whole = whole.repeat(scale, axis=0).repeat(scale, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(whole[..., 0] if channels == 1 else whole).save(buffer, format="PNG")
    make_folder(file.parent)
    write_bytes(file, buffer.getvalue())
