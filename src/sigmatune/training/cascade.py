r"""A cascade: a second model that learns the residual over an enlarged small image.

.. math:: r = x_0 - U(S(x_0)), \qquad x = U(c) + r

S makes an image small by averaging squares of pixels, U enlarges it bicubically. The first stage samples c; the second
is conditioned on U(c) and denoises the residual r. The residual has little power at the coarse rings, so its spectral
schedule is short, between its own tight ends. The paper leaves cascades open; this is the straightforward way to give
each stage its spectrum.

References:
    | Cascaded Diffusion Models for High Fidelity Image Generation (Ho et al., 2021), https://arxiv.org/abs/2106.15282
    | Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026), https://arxiv.org/abs/2603.19222
"""

from __future__ import annotations

import torch

from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.data import Pictures


def small(images: torch.Tensor, size: int) -> torch.Tensor:
    """Averages squares of pixels: (B, C, H, W) to (B, C, size, size)."""
    return torch.nn.functional.adaptive_avg_pool2d(images, size)


def enlarged(images: torch.Tensor, size: int) -> torch.Tensor:
    """Enlarges bicubically: (B, C, h, w) to (B, C, size, size)."""
    return torch.nn.functional.interpolate(images, (size, size), mode="bicubic", align_corners=False)


def stacked(data: Pictures, low: int) -> Pictures:
    """Stacks the residuals and the network's condition in the channels of one image, (n, 2 C, H, W), float32.

    Raises:
        SigmaTuneError: unless the images are square and larger than ``low``, by a whole factor.
    """
    _, height, width = data.shape
    if height != width or low >= height or height % low:
        raise SigmaTuneError(
            f"a cascade needs square images whose side is a multiple of data.low, {low}, not {width} x {height} pixels."
        )
    parts = []
    for first in range(0, len(data), 1024):
        images = data.at(slice(first, first + 1024))
        condition = enlarged(small(images, low), height)
        parts.append(torch.cat([images - condition, condition], dim=1))
    labels = data.labels if data.classes else None
    return Pictures(torch.cat(parts), labels, data.classes, data.name, data.about)


def residual(images: torch.Tensor) -> torch.Tensor:
    """The residual of stacked images, which the network learns."""
    return images[:, : images.shape[1] // 2]
