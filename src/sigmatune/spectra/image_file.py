"""One image of Pillow as numbers, in the bits that it is stored in.

The first frame of several; turned as its camera noted; transparency over :data:`BACKGROUND`; palettes, CMYK and other
colour spaces as RGB of 8 bits, to which Pillow also reduces colour of 16 bits. Grey of 16 bits and floating point stay
what they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sigmatune.spectra import npz

Numbers = npt.NDArray[Any]

BACKGROUND = "white"
"""What shows through where an image is transparent."""

_GREY = ("1", "L", "LA", "La")
_KEPT = ("1", "L", "F", "I", "I;16", "I;16L", "I;16B", "RGB")


def pixels_of(file: Path) -> Numbers:
    """An image file, (1 or 3, H, W).

    Raises:
        SigmaTuneError: if it cannot be read, is cut off, or is not an image.
    """
    with npz.reading(file), Image.open(file) as opened:
        return array_of(opened)


def is_floating(picture: Path | Image.Image) -> bool:
    """Whether an image holds floating-point numbers; of a file, the header is read."""
    if isinstance(picture, Image.Image):
        return picture.mode == "F"
    with npz.reading(picture), Image.open(picture) as opened:
        return bool(opened.mode == "F")


def array_of(opened: Image.Image) -> Numbers:
    """An image, (1 or 3, H, W)."""
    wide = opened.mode == "I" and opened.format in ("PNG", "PPM")  # 16 bits, in some versions of Pillow
    image = ImageOps.exif_transpose(opened)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or (
        "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    ):
        image = _over_background(image)
    elif image.mode not in _KEPT:
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if wide:
        pixels = pixels.astype(np.uint16)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _over_background(image: Image.Image) -> Image.Image:
    """An image with transparency as an opaque one, grey or RGB."""
    kind = "L" if image.mode in _GREY else "RGB"
    if image.mode in ("La", "RGBa"):  # colours that are multiplied by alpha already
        image = image.convert(image.mode[:-1] + "A")
    seen = image.convert("RGBA")
    under = Image.new("RGBA", seen.size, BACKGROUND)
    return Image.alpha_composite(under, seen).convert(kind)
