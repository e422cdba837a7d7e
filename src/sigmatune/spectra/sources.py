"""Images from common sources, in batches, so that the batch bounds memory, not the data.

A folder, an image file, an ``.npz`` or ``.npy`` file, a tensor or an array become
:class:`~sigmatune.spectra.images.Images`, which yields float32 batches (B, C, H, W) with their class labels and can be
iterated repeatedly. :mod:`sigmatune.spectra.values` determines black and white, :mod:`sigmatune.spectra.listing` which
files are read, and :mod:`sigmatune.spectra.image_file` how a file becomes numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from sigmatune.core.schedule import whole
from sigmatune.spectra import npz
from sigmatune.spectra.decoding import _MOST_VALUES, EncodedImages, Named, decoding
from sigmatune.spectra.images import ImageFormat, Images, Numbers, sound
from sigmatune.spectra.listing import Listing, left_out_text, listing, suffixes
from sigmatune.spectra.subset import Indices
from sigmatune.spectra.values import Ends, Scale, Values, checked, limits_of
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import number

Layout = Literal["auto", "NHW", "NHWC", "NCHW"]
Runs = Callable[[int], Iterator[Numbers]]


def open_images(
    source: str | Path | torch.Tensor | Numbers,
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    values: Values = "auto",
    size: int | None = None,
    layout: Layout = "auto",
    key: str | None = None,
    batch: int = 256,
) -> Images:
    """Opens images for reading in batches, in an order that is the same every time.

    Args:
        source: One of: a folder, searched with all its subfolders for files of the types that Pillow reads and sorted
            by path; the first-level subfolders are class labels if all images lie in subfolders. An image file. An
            ``.npz`` file, read as a stream, with labels from its array ``labels`` or ``y``. An ``.npy`` file. A tensor
            or an array. The id of a data set on the Hugging Face hub, ``owner/name`` or ``owner/name:split``, if
            `datasets` is installed.
        value_range: The values of black and white in the result.
        values: The values of black and white in the stored numbers: ``"0..1"``, ``"-1..1"``, ``"0..255"``,
            ``"0..65535"``; ``"auto"``, by the kind of number and, for floating point, by the least and the largest of
            all (:mod:`sigmatune.spectra.values`); ``"as-is"``: floating-point data that are not images, such as
            latents, are kept unchanged.
        size: Crop the central square and resize it to size x size (bicubic, antialiased, not clipped), up or down.
        layout: Axes of an array: ``"NHW"``, ``"NHWC"``, ``"NCHW"``, or ``"auto"``: three axes are NHW; of four the last one
            is the channels if it has 1 to 4 entries and the second more than 4, otherwise the second is.
        key: Array of an ``.npz`` file; by default images, x, data, arr_0, or the only one of three or more axes.
        batch: At most that many images at a time; fewer where images are large, so that a batch stays under 64 MiB.

    In a folder, links are followed and hidden names skipped; :attr:`Images.left_out` counts everything else that was
    skipped. A file that cannot be read, is truncated or is not an image is refused, never skipped. Transparent pixels
    become white. The first image decides whether all have one channel or three; grey images among colour are repeated
    over the channels. A photograph is oriented as its camera recorded; of several frames the first is read; Pillow
    reads 16-bit colour in 8 bits. Arrays keep their channels, including alpha.

    Raises:
        SigmaTuneError: here for what is missing, empty, of an unknown type or ambiguous; while iterating for images
            that cannot be read, are not finite, have an unclear range, or differ in size or, colour after grey, in
            channels.
    """
    low, high = (number(value, "value_range") for value in _pair(value_range))
    if low >= high:
        raise SigmaTuneError(f"value_range must rise, like (-1, 1), not {value_range!r}.")
    target = ImageFormat(low, high, None if size is None else whole(size, "size"), checked(values))
    batch = whole(batch, "batch")
    if layout not in get_args(Layout):
        raise SigmaTuneError(f"layout must be one of {', '.join(get_args(Layout))}, not {layout!r}.")
    path = Path(source) if isinstance(source, str | Path) else None
    suffix = "" if path is None else path.suffix.lower()
    if key is not None and suffix != ".npz":
        raise SigmaTuneError("key chooses an array of an .npz file; leave it out for any other source.")
    if isinstance(source, torch.Tensor):
        probe = _numpy(source[:0]) if source.ndim else np.zeros(0)
        return _arrays(_Stack("the tensor", tuple(source.shape), probe.dtype, _slices(source)), layout, batch, target)
    if isinstance(source, np.ndarray):
        return _arrays(_Stack("the array", source.shape, source.dtype, _slices(source)), layout, batch, target)
    if path is None:
        raise SigmaTuneError(f"images come from a path, a tensor or an array, not from {type(source).__name__}.")
    if not path.exists():
        from sigmatune.spectra import hub

        if layout == "auto" and (dataset := hub.open_dataset(str(source), batch, target)) is not None:
            return dataset
        raise SigmaTuneError(f"there is no {path}; pass a folder of images, an image, an .npz or an .npy file.")
    if suffix in (".npz", ".npy") and path.is_file():
        return _npz(path, key, layout, batch, target) if suffix == ".npz" else _npy(path, layout, batch, target)
    if layout != "auto":
        raise SigmaTuneError("layout is for arrays; leave it out for image files.")
    return _folder(path, batch, target)


def _pair(value_range: Any) -> tuple[Any, Any]:
    try:
        low, high = value_range
    except (TypeError, ValueError):
        raise SigmaTuneError(f"value_range must be two numbers, like (-1, 1), not {value_range!r}.") from None
    return low, high


# ------------------------------------------------------------------------------------------------------------- files


def _folder(path: Path, batch: int, target: ImageFormat) -> Images:
    folder = listing(path) if path.is_dir() else Listing([path] if path.suffix.lower() in suffixes() else [])
    files = folder.files
    if not files:
        what = "holds no image" if path.is_dir() else "is of an unknown type"
        besides = f" ({left_out_text(folder.left_out)})" if folder.left_out else ""
        raise SigmaTuneError(f"{path} {what}{besides}; known are the types that Pillow reads, .npz and .npy.")
    below = [file.relative_to(path).parts for file in files] if path.is_dir() else [()]
    labels = [parts[0] for parts in below] if all(len(parts) > 1 for parts in below) else None

    def pictures(some: Indices | None) -> Iterator[Named]:
        return ((str(files[i]), files[i]) for i in (range(len(files)) if some is None else some))

    return decoding(EncodedImages(str(path), len(files), labels, pictures, folder), batch, target)


# ------------------------------------------------------------------------------------------------------------ arrays


@dataclass(frozen=True)
class _Stack:
    """An array of images, read in runs."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    runs: Runs
    labels: list[str] | None = None


def _arrays(stack: _Stack, layout: Layout, batch: int, target: ImageFormat) -> Images:
    name, shape, runs, labels = stack.name, stack.shape, stack.runs, stack.labels
    count, per_image = (shape or (0,))[0], max(int(np.prod(shape[1:])), 1)
    size = min(batch, max(1, _MOST_VALUES // per_image))

    def limits() -> Ends:
        ends, done = [], 0
        for run in runs(size):
            ends.append(limits_of(sound(run, lambda i, done=done: f"image {done + i} of {name}")))  # type: ignore[misc]
            done += len(run)
        return min(low for low, _ in ends), max(high for _, high in ends)

    scale = Scale(target.values, name, limits)
    scale.check(stack.dtype)
    axes = _axes(shape, layout, name)

    def batches(some: Indices | None) -> Iterator[torch.Tensor]:
        for indices, run in _picked(runs(size), some, size):
            images = run[:, None] if axes == "NHW" else run.transpose(0, 3, 1, 2) if axes == "NHWC" else run
            yield target(images, lambda i, at=indices: f"image {at[i]} of {name}", scale)  # type: ignore[misc]

    return Images(name, count, tuple(sorted(set(labels or ()))), labels, batches, scale)


def _picked(runs: Iterator[Numbers], some: Indices | None, size: int) -> Iterator[tuple[Indices, Numbers]]:
    """The rows with some indices, or all, with their indices, in full batches however far apart they are."""
    done, held, indices = 0, [], []
    for run in runs:
        indices_of_run = (
            np.arange(done, done + len(run)) if some is None else some[(some >= done) & (some < done + len(run))]
        )
        held.append(run if some is None else run[indices_of_run - done])
        indices.append(indices_of_run)
        done += len(run)
        if sum(map(len, held)) >= size or (some is None and held):
            yield np.concatenate(indices), held[0] if len(held) == 1 else np.concatenate(held)
            held, indices = [], []
    if sum(map(len, held)):
        yield np.concatenate(indices), np.concatenate(held)


def _axes(shape: tuple[int, ...], layout: Layout, name: str) -> Layout:
    """The layout of an array, inferred for "auto"."""
    if len(shape) not in (3, 4) or 0 in shape:
        raise SigmaTuneError(
            f"{name} has shape {shape}; images are (n, H, W), (n, H, W, C) or (n, C, H, W), none empty."
        )
    if layout != "auto":
        if len(layout) != len(shape):
            raise SigmaTuneError(
                f"{name} has shape {shape}, which layout {layout} does not fit: it has {len(layout)} axes."
            )
        return layout
    if len(shape) == 3:
        if shape[-1] in (3, 4) or shape[0] in (3, 4):  # one colour image, most likely
            raise SigmaTuneError(f"{name} has shape {shape}: one image or several? Add an axis, or pass layout='NHW'.")
        return "NHW"
    last, second = shape[-1] <= 4, shape[1] <= 4
    if last and second and shape[1:] != (1, 1, 1):
        raise SigmaTuneError(f"{name} has shape {shape}, which is ambiguous; pass layout='NHWC' or layout='NCHW'.")
    return "NHWC" if last and not second else "NCHW"


def _numpy(tensor: torch.Tensor) -> Numbers:
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())  # numpy has no bfloat16


def _slices(source: torch.Tensor | Numbers) -> Runs:
    def runs(batch: int) -> Iterator[Numbers]:
        for start in range(0, len(source), batch):
            piece = source[start : start + batch]
            yield _numpy(piece) if isinstance(piece, torch.Tensor) else piece

    return runs


def _npy(path: Path, layout: Layout, batch: int, target: ImageFormat) -> Images:
    npz.check_npy(path)
    with npz.reading(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return _arrays(_Stack(str(path), array.shape, array.dtype, _slices(array)), layout, batch, target)


def _npz(path: Path, key: str | None, layout: Layout, batch: int, target: ImageFormat) -> Images:
    stored = npz.choose(path, key)
    labels = npz.labels(path, stored)
    stack = _Stack(f"{stored.name} of {path}", stored.shape, stored.dtype, stored.runs, labels)
    return _arrays(stack, layout, batch, target)
