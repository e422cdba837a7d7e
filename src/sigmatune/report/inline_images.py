"""Images and maps embedded in a page."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
import torch
from PIL import Image

from sigmatune.noise import Array
from sigmatune.support.pixels import Pixels, to_pixels

LARGEST = 160
"""Larger images are shrunk to this many pixels, so that the page stays small."""


def drawable(shape: tuple[int, ...]) -> bool:
    """Whether samples of a shape are images."""
    return len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 1


def data_address(pixels: Pixels, largest: int = LARGEST) -> str:
    """One image, (H, W, C) uint8, as a ``data:`` address, shrunk to this many pixels a side."""
    picture, buffer = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), io.BytesIO()
    if max(picture.size) > largest:
        picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
        picture.save(buffer, "JPEG", quality=88)
        kind = "jpeg"
    else:
        picture.save(buffer, "PNG", optimize=True)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def strip(images: torch.Tensor, value_range: tuple[float, float], label: str) -> str:
    """A row of images, (n, C, H, W), as HTML."""
    pixels = to_pixels(images, value_range)
    small = max(pixels.shape[1:3]) <= LARGEST
    tags = "".join(f'<img alt="" src="{data_address(image)}">' for image in pixels)
    return f'<div class="images{" pixelated" if small else ""}" role="img" aria-label="{escape(label)}">{tags}</div>'


def heat(values: Array, low: float, high: float, colours: str) -> str:
    """A map, (H, W), in a matplotlib colour map between two values, as a ``data:`` address."""
    from matplotlib import colormaps

    share = np.clip((values - low) / max(high - low, 1e-300), 0, 1)
    return data_address((colormaps[colours](share)[..., :3] * 255).round().astype(np.uint8))


def gradient(colours: str) -> str:
    """A colour map as a CSS gradient."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return f"linear-gradient(to right, {', '.join(to_hex(colormaps[colours](x)) for x in np.linspace(0, 1, 9))})"
