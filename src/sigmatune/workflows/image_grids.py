"""Images of samples: plain grids, and the same noises through several plans."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_bytes
from sigmatune.support.outputs import archive, picture_metadata
from sigmatune.support.pixels import Pixels, first_unsound, to_pixels


def grid(pixels: Pixels, columns: int | None = None, *, gap: int = 2) -> Pixels:
    """Lays uint8 images (n, H, W, C) out in a white-lined grid, (H', W', 3)."""
    n, height, width, _ = pixels.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def enlarged(pixels: Pixels, at_least: int = 512) -> Image.Image:
    """An image magnified by a whole factor, so that small images can be seen."""
    factor = max(1, -(-at_least // max(pixels.shape[:2])))
    picture = Image.fromarray(pixels)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def save_images(images: torch.Tensor, path: Path, value_range: tuple[float, float] = (-1.0, 1.0)) -> None:
    """Writes images as a PNG grid, or as an .npz with uint8 images (n, H, W, C); floats if they are not images.

    Raises:
        SigmaTuneError: if they cannot be written, hold NaN or infinity, or are not images and the file is a PNG.
    """
    buffer = io.BytesIO()
    if (bad := first_unsound(images)) is not None:
        raise SigmaTuneError(f"image {bad} holds NaN or infinity; nothing was written.")
    if path.suffix.lower() == ".npz":
        drawable = images.ndim == 4 and images.shape[1] in (1, 3)
        plain = images.detach().cpu()
        plain = plain.float() if plain.dtype == torch.bfloat16 else plain  # which numpy does not have
        np.savez_compressed(buffer, images=to_pixels(plain, value_range) if drawable else plain.numpy())
        write_bytes(path, archive(buffer.getvalue(), "samples"))
        return
    mark = PngInfo()
    mark.add_text("Software", "sigmatune/samples")
    enlarged(grid(to_pixels(images, value_range))).save(buffer, "PNG", pnginfo=mark)
    write_bytes(path, buffer.getvalue())


def side_by_side(
    panels: list[tuple[str, torch.Tensor]],
    title: str,
    value_range: tuple[float, float] = (-1.0, 1.0),
    *,
    kind: str = "samples",
) -> bytes:
    """Draws one row of images per panel, the same noise in each column, its label above it in letters that a phone shows.

    Args:
        panels: (label, images, (n, C, H, W)) of each row, with equal n.
        title: The title.
        value_range: The range of the images' values.
        kind: The kind that the file states (:mod:`sigmatune.support.outputs`).

    Returns:
        The image as PNG.
    """
    from matplotlib.figure import Figure

    columns = len(panels[0][1])
    height = 1.0 + 1.35 * len(panels)
    figure = Figure(figsize=(columns, height), dpi=120, facecolor="white")
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    size = 2 * columns  # points, so that a tenth of a phone's width still shows five letters
    for axis, (label, images) in zip(axes, panels, strict=True):
        strip = grid(to_pixels(images, value_range), columns)
        axis.imshow(enlarged(strip, at_least=1200), interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(label, loc="left", fontsize=size, pad=size / 4)
    figure.suptitle(title, fontsize=size, x=0, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.25 / height), pad=0, h_pad=0.5)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata=picture_metadata(kind, "png"))
    return buffer.getvalue()
