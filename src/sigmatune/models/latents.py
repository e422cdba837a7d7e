r"""From a pipeline's latents to what its autoencoder decodes.

.. math:: z = \frac{x}{\text{scaling\_factor}} \, s + m + \text{shift\_factor}

with the mean m and deviation s of each channel where the autoencoder's configuration has them (``latents_mean``,
``latents_std``).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from sigmatune.support.errors import SigmaTuneError


def latents_of(pipe: Any, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The autoencoder's input.

    Args:
        pipe: The pipeline.
        x: Its latents, (B, C, H, W), video (B, C, F, H, W), or packed, (B, patches, C).
        size: Height and width in pixels, for packed latents.

    Raises:
        SigmaTuneError: if the pipeline packs latents in a way that is not known here.
    """
    coder = getattr(pipe, "vae", None) or pipe.vqvae
    if x.ndim == 3:
        x = _unpacked(pipe, x, size)
    config = coder.config
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    x = x / (config.get("scaling_factor") or 1.0)
    if mean is not None and deviation is not None:
        shape = (1, -1, *[1] * (x.ndim - 2))
        x = x * torch.as_tensor(deviation).to(x).reshape(shape) + torch.as_tensor(mean).to(x).reshape(shape)
    return x + (config.get("shift_factor") or 0.0)


def decoded(coder: Any, latents: torch.Tensor) -> torch.Tensor:
    """What an autoencoder decodes latents to; an image (B, C, H, W) where a video has one frame."""
    pixels: torch.Tensor = coder.decode(latents).sample
    return pixels[:, :, 0] if pixels.ndim == 5 and pixels.shape[2] == 1 else pixels


def _unpacked(pipe: Any, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    unpack = getattr(pipe, "_unpack_latents", None)
    takes = list(inspect.signature(unpack).parameters) if unpack is not None else []
    if takes[:4] != ["latents", "height", "width", "vae_scale_factor"] or unpack is None:
        raise SigmaTuneError(
            f"the latents of a {type(pipe).__name__} are packed in a way that is not known here; decode them with the pipeline."
        )
    unpacked: torch.Tensor = unpack(x, height=size[0], width=size[1], vae_scale_factor=pipe.vae_scale_factor)
    return unpacked
