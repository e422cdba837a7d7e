"""Arrays in an ``.npz`` file, read as a stream: whatever their size and compression, they need the memory of one batch.

``np.load`` reads a member of the archive whole. Here the header is parsed and the rows are read from the
(decompressing) stream of the archive. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from PIL import Image

from sigmatune.support.errors import SigmaTuneError, reason
from sigmatune.support.reading import ARRAYS, MIB, regular, size

KEYS = ("images", "x", "data", "arr_0")
"""Keys searched for images, in this order."""

LABELS = ("labels", "y")

ROW = 256 * MIB
"""Bytes of one row of an array of images as it is stored; in float32 it takes up to four times as much."""

LABEL = 4096
"""Bytes of one label."""

_BROKEN = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, SyntaxError, RuntimeError, OverflowError,
           struct.error, zlib.error, zipfile.BadZipFile, Image.DecompressionBombError,
           Image.DecompressionBombWarning)  # fmt: skip

_OBJECTS = re.compile("pickle|Object arrays|Python objects", re.IGNORECASE)
"""What numpy says about files that it would have to unpickle."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns any exception of a reader on a damaged file into a SigmaTuneError that names the file."""
    try:
        regular(path)
        if path.suffix.lower() in (".npz", ".npy"):
            yield
            return
        with warnings.catch_warnings():  # an image of more than 89 million pixels is refused
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except SigmaTuneError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        most = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise SigmaTuneError(f"{path} has more than {most} pixels; make it smaller or leave it out.") from None
    except MemoryError:
        raise SigmaTuneError(f"{path} needs more memory than there is; leave it out.") from None
    except _BROKEN as error:
        if _OBJECTS.search(str(error)):
            raise SigmaTuneError(
                f"{path} holds Python objects (a pickle), which can run code when they are read; save plain numbers instead."
            ) from None
        raise SigmaTuneError(f"{path} cannot be read ({reason(error)}); replace the file or leave it out.") from None


def small(path: Path, *, most: int = ARRAYS) -> npt.NDArray[Any]:
    """A whole ``.npy`` file of plain numbers or texts of at most so many bytes.

    Raises:
        SigmaTuneError: if it is damaged, larger, or holds Python objects.
    """
    with reading(path):
        return np.asarray(np.load(regular(path, most=most), allow_pickle=False))


def whole(path: Path, *, most: int = ARRAYS) -> dict[str, npt.NDArray[Any]]:
    """Reads all arrays of an archive after checking their unpacked size.

    Raises:
        SigmaTuneError: if the file is damaged, unpacks to more, or holds Python objects.
    """
    with reading(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > most:
            raise SigmaTuneError(f"{path} unpacks to {size(unpacked)}, and at most {size(most)} are read.")
        members = arrays(path).values()
        if (stated := sum(array.bytes for array in members)) > most:
            raise SigmaTuneError(f"{path} states arrays of {size(stated)}, and at most {size(most)} are read.")
        for array in members:
            _enough(array.name, array.bytes, array.held)
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


@dataclass(frozen=True)
class Stored:
    """An array in an archive: where it is and what its header says.

    Attributes:
        path: The archive.
        name: The array's key.
        shape, dtype: Of the array.
        fortran: Whether it is stored by columns.
        held: Bytes that follow the header.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    held: int

    @property
    def bytes(self) -> int:
        """What the array takes in memory, by its header."""
        return math.prod(self.shape) * self.dtype.itemsize

    def runs(self, batch: int) -> Iterator[npt.NDArray[Any]]:
        """Yields the rows in order, at most ``batch`` of them at a time.

        Raises:
            SigmaTuneError: if the file is damaged.
        """
        with reading(self.path), zipfile.ZipFile(self.path) as archive, archive.open(f"{self.name}.npy") as stream:
            _header(stream)
            for start in range(0, self.shape[0], batch):
                rows = (min(batch, self.shape[0] - start), *self.shape[1:])
                data = stream.read(math.prod(rows) * self.dtype.itemsize)
                yield np.frombuffer(data, self.dtype).reshape(rows)


def arrays(path: Path) -> dict[str, Stored]:
    """The arrays of an archive by key; only headers are read.

    Raises:
        SigmaTuneError: if the file is damaged or holds Python objects.
    """
    stored = {}
    with reading(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                with archive.open(member) as stream:
                    name = member.filename.removesuffix(".npy")
                    stored[name] = Stored(path, name, *_header(stream), held=member.file_size - stream.tell())
    return stored


def choose(path: Path, key: str | None) -> Stored:
    """The array that holds the images.

    Args:
        path: The archive.
        key: Its key; by default the first of :data:`KEYS`, or the only array of three or more axes.

    Raises:
        SigmaTuneError: if there is none, or more than one (the message lists the keys), or if it cannot be streamed.
    """
    stored = arrays(path)
    known = [name for name in KEYS if name in stored]
    images = [name for name, array in stored.items() if len(array.shape) >= 3]
    name = key if key is not None else known[0] if known else images[0] if len(images) == 1 else None
    if name not in stored:
        listed = ", ".join(f"{array.name} {array.shape}" for array in stored.values()) or "nothing"
        wanted = "the images" if key is None else repr(key)
        raise SigmaTuneError(
            f"it is unclear which array of {path} is {wanted}; it holds {listed}: choose one with key."
        )
    if stored[name].dtype.hasobject:
        raise SigmaTuneError(f"{name} of {path} holds Python objects, which are never read; save plain numbers.")
    row = stored[name].bytes // max(stored[name].shape[0], 1) if stored[name].shape else 0
    if row > ROW:
        raise SigmaTuneError(
            f"{name} of {path} has rows of {size(row)}, and at most {size(ROW)} are read; save smaller images."
        )
    if stored[name].fortran:
        raise SigmaTuneError(f"{name} of {path} is stored by columns; save np.ascontiguousarray(...) of it instead.")
    with reading(path):
        _enough(name, stored[name].bytes, stored[name].held)
    return stored[name]


def labels(path: Path, images: Stored) -> list[str] | None:
    """The class label of every image, or None where the archive has none.

    The search tries the name of the images' array followed by ``_labels``, then :data:`LABELS`.

    Raises:
        SigmaTuneError: unless it holds one whole number or text for every image.
    """
    stored = arrays(path)
    names = (f"{images.name}_labels", *LABELS)
    array = next((stored[name] for name in names if name in stored and name != images.name), None)
    if array is None:
        return None
    if array.dtype.kind not in "biuSU" or array.shape != images.shape[:1]:
        raise SigmaTuneError(
            f"{array.name} of {path} are {array.dtype} of shape {array.shape}; "
            f"labels are one whole number or text for each of the {images.shape[0] if images.shape else 0} images."
        )
    if array.dtype.itemsize > LABEL:
        raise SigmaTuneError(f"{array.name} of {path} has labels of {size(array.dtype.itemsize)}; shorten them.")
    return [str(label) for run in array.runs(2**10) for label in run.astype(str)]


def check_npy(path: Path) -> None:
    """Refuses a ``.npy`` file whose header states what it does not hold.

    Raises:
        SigmaTuneError: in one sentence that names the file.
    """
    with reading(path), path.open("rb") as stream:
        if stream.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
            stream.seek(0)
            shape, _, dtype = _header(stream)
            _enough("the array", math.prod(shape) * dtype.itemsize, path.stat().st_size - stream.tell())


def _enough(name: str, stated: int, held: int) -> None:
    if stated > held:
        raise ValueError(f"{name} is cut off: its header states {size(stated)}, and {size(held)} follow")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether by columns, and dtype; the stream is left at the first byte of data."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy format {version} is for named fields")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if any(length < 0 for length in shape):
        raise ValueError("its header states a negative length")
    return shape, fortran, dtype
