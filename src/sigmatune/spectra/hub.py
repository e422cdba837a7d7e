"""Images of a data set on the Hugging Face hub, through the library `datasets` where it is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from sigmatune.spectra.decoding import EncodedImages, Named, decoding
from sigmatune.spectra.images import ImageFormat, Images
from sigmatune.spectra.subset import Indices
from sigmatune.support.errors import SigmaTuneError, reason

ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:\w+)?")


def open_dataset(source: str, batch: int, target: ImageFormat) -> Images | None:
    """Opens a data set by its id, ``owner/name`` or ``owner/name:split`` (of the split ``train`` by default).

    Args:
        source: The id.
        batch: At most that many images at a time.
        target: What the images are brought to.

    Returns:
        The images, with the names of their classes where a column has them; None if this is not an id or `datasets` is
        missing.

    Raises:
        SigmaTuneError: if the data set cannot be loaded or has no column of images.
    """
    if not ID.fullmatch(source) or Path(source).suffix.lower() in (".npz", ".npy"):
        return None
    try:
        import datasets
    except ImportError:
        return None
    name, _, split = source.partition(":")
    try:
        rows = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # noqa: BLE001 (every backend of the hub raises its own)
        raise SigmaTuneError(f"there is no file {source} and no such data set on the hub ({reason(error)}).") from None
    column = next((key for key, kind in rows.features.items() if isinstance(kind, datasets.Image)), None)
    if column is None:
        raise SigmaTuneError(
            f"the data set {source} has no column of images; its columns are {', '.join(rows.features)}."
        )
    kinds = {key: kind for key, kind in rows.features.items() if isinstance(kind, datasets.ClassLabel)}
    labels = next(([kind.names[i] for i in rows[key]] for key, kind in kinds.items()), None)

    def pictures(some: Indices | None) -> Iterator[Named]:
        for i in range(len(rows)) if some is None else some:
            yield f"image {i} of {source}", _picture(rows[int(i)][column])

    return decoding(EncodedImages(source, len(rows), labels, pictures), batch, target)


def _picture(value: Any) -> Image.Image:
    if not isinstance(value, Image.Image):
        raise SigmaTuneError(f"a row of the data set holds {type(value).__name__} instead of an image.")
    return value
