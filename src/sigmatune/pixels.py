"""From data in a model's value range to pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.errors import SigmaTuneError

Pixels = npt.NDArray[np.uint8]


def to_pixels(images: torch.Tensor, value_range: tuple[float, float] = (-1.0, 1.0)) -> Pixels:
    """Turns images in a value range, (n, C, H, W) with one or three channels, into uint8 (n, H, W, C).

    Raises:
        SigmaTuneError: for another number of channels: such data is no picture.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise SigmaTuneError(f"data of shape {tuple(images.shape[1:])} is no picture; write it as .npz.")
    low, high = value_range
    scaled = ((images.detach().cpu().double() - low) * (255 / (high - low))).round().clamp(0, 255)
    return np.ascontiguousarray(scaled.to(torch.uint8).permute(0, 2, 3, 1).numpy())
