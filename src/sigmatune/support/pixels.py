"""Converts data in a model's value range to pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.support.errors import SigmaTuneError

Pixels = npt.NDArray[np.uint8]

CONVERTED = 2**22
"""Numbers that are converted at once, 32 MiB in double precision; a single image may have more."""


def first_unsound(values: torch.Tensor) -> int | None:
    """The first row, of (n, ...), that holds NaN or an infinite value; None if there is none."""
    if bool(
        values.sum().isfinite()
    ):  # which needs no memory; if the sum of finite values overflows, they are checked one by one
        return None
    unsound = torch.isfinite(values).flatten(1).all(dim=1).logical_not().nonzero()
    return int(unsound[0]) if len(unsound) else None


def unsound_weight(module: torch.nn.Module) -> str | None:
    """The name of the first parameter or buffer that holds NaN or an infinite value; None if there is none."""
    named = (*module.named_parameters(), *module.named_buffers())
    here = ((name, value) for name, value in named if not value.is_meta)  # others are fetched for each call
    return next((name for name, value in here if not bool(torch.isfinite(value).all())), None)


def to_pixels(images: torch.Tensor, value_range: tuple[float, float] = (-1.0, 1.0)) -> Pixels:
    """Turns images in a value range, (n, C, H, W) with one or three channels, into uint8 (n, H, W, C).

    Raises:
        SigmaTuneError: for another number of channels: such data is not an image. For NaN or infinity, which would be black.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise SigmaTuneError(f"data of shape {tuple(images.shape[1:])} is not an image; write it as .npz.")
    if (bad := first_unsound(images)) is not None:
        raise SigmaTuneError(
            f"image {bad} holds NaN or infinity, so it is not an image; sample it in float32, or fix the model."
        )
    low, high = value_range
    n, channels, height, width = images.shape
    pixels = np.empty((n, height, width, channels), dtype=np.uint8)
    size = max(CONVERTED // max(channels * height * width, 1), 1)
    for first in range(0, n, size):
        part = images[first : first + size].detach().cpu().double()
        scaled = ((part - low) * (255 / (high - low))).round_().clamp_(0, 255)
        pixels[first : first + size] = scaled.to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels
