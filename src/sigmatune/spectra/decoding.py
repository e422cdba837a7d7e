"""Decodes image files and Pillow images in batches, and brings them to one format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from sigmatune.spectra.image_file import BACKGROUND, array_of, is_floating, pixels_of
from sigmatune.spectra.images import ImageFormat, Images, Numbers, sound
from sigmatune.spectra.listing import Listing
from sigmatune.spectra.subset import Indices
from sigmatune.spectra.values import Ends, Scale, limits_of
from sigmatune.support.errors import SigmaTuneError

Named = tuple[str, Path | Image.Image]

_MOST_VALUES = 2**24  # of a batch, 64 MiB of float32: 256 photographs of 1024 x 1024 would be 3 GiB


@dataclass(frozen=True)
class EncodedImages:
    """Images that are still encoded.

    Attributes:
        name: The name of their source.
        count: How many there are.
        labels: The class of each, if known.
        some: Returns the names and files of some indices, or of all for None.
        listing: The folder's listing, if they are files of a folder.
    """

    name: str
    count: int
    labels: list[str] | None
    some: Callable[[Indices | None], Iterable[Named]]
    listing: Listing | None = None


def decoding(pictures: EncodedImages, batch: int, target: ImageFormat) -> Images:
    """Images from named files, which are decoded as they are read."""
    name, labels, listing = pictures.name, pictures.labels, pictures.listing

    def limits() -> Ends:
        def of(*, floating: bool) -> list[Ends]:
            return [limits_of(sound(_decoded(one), lambda _, named=named: named)) for named, one in pictures.some(None)  # type: ignore[misc]
                    if is_floating(one) == floating]  # fmt: skip

        ends = of(floating=True) or of(floating=False)  # integers state their range, and do not decide about others
        return min(low for low, _ in ends), max(high for _, high in ends)

    scale = Scale(target.values, name, limits, files=True)
    left_out, empty = ({}, ()) if listing is None else (listing.left_out, listing.empty)
    return Images(
        name, pictures.count, tuple(sorted(set(labels or ()))), labels,
        lambda some: decoded(pictures.some(some), batch, target, scale),
        scale, left_out, empty, {"transparency": f"over {BACKGROUND}"},
    )  # fmt: skip


def decoded(pictures: Iterable[Named], batch: int, target: ImageFormat, scale: Scale) -> Iterator[torch.Tensor]:
    """Decodes named images in order; the first fixes the number of channels and pixels of all."""
    held: list[torch.Tensor] = []
    shape: tuple[int, ...] = ()
    first = ""
    for file, picture in pictures:
        image = target(_decoded(picture)[None], lambda _, file=file: file, scale)[0]  # type: ignore[misc]
        shape, first = shape or tuple(image.shape), first or file
        if len(image) > shape[0]:
            raise SigmaTuneError(f"{file} is in colour but {first} is grey; put them into folders of their own.")
        if image.shape[1:] != shape[1:]:
            (height, width), (rows, columns) = image.shape[1:], shape[1:]
            raise SigmaTuneError(
                f"{first} has {columns} x {rows} pixels but {file} has {width} x {height}; choose one with size."
            )
        held.append(image.expand(shape))
        if len(held) >= min(batch, max(1, _MOST_VALUES // image[0].numel() // shape[0])):
            yield torch.stack(held)
            held = []
    if held:
        yield torch.stack(held)


def _decoded(picture: Path | Image.Image) -> Numbers:
    return pixels_of(picture) if isinstance(picture, Path) else array_of(picture)
