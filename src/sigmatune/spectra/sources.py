"""Images from what people have, in batches, so that memory is bounded by the batch and not by the data.

A folder, an image file, an ``.npz`` or ``.npy`` file, a tensor or an array become one thing: :class:`Images`, which yields
float32 batches (B, C, H, W) with their class labels, as often as it is asked to. Whole numbers of 8 and 16 bits and truth
values are scaled to the value range; floating-point values are taken as they are, so latents pass unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image, ImageOps

from sigmatune.errors import SigmaTuneError
from sigmatune.options import number
from sigmatune.schedule import whole
from sigmatune.spectra import npz

Layout = Literal["auto", "NHW", "NHWC", "NCHW"]
Numbers = np.typing.NDArray[Any]
Runs = Callable[[int], Iterator[Numbers]]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
"""The files of a folder that count as images."""

_TOP = {"bool": 1, "uint8": 255, "uint16": 65535}
_MOST_VALUES = 2**24  # of a batch, 64 MiB of float32: 256 photographs of 1024 x 1024 would be 3 GiB


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one shape; every iteration reads from the start and yields (float32 (B, C, H, W), labels or None).

    Attributes:
        name: Where they come from, for messages.
        count: How many there are.
        classes: The class labels, sorted; none if the images have no labels.
    """

    name: str
    count: int
    classes: tuple[str, ...]
    _labels: list[str] | None
    _batches: Callable[[], Iterator[torch.Tensor]]

    @property
    def labels(self) -> bool:
        """Whether the images have class labels."""
        return self._labels is not None

    def __iter__(self) -> Iterator[tuple[torch.Tensor, list[str] | None]]:
        done = 0
        for images in self._batches():
            yield images, None if self._labels is None else self._labels[done : done + len(images)]
            done += len(images)


@dataclass(frozen=True)
class Target:
    """What images are brought to."""

    low: float
    high: float
    size: int | None

    def __call__(self, images: Numbers, names: Callable[[int], str]) -> torch.Tensor:
        """Images (B, C, H, W) of any supported dtype as float32, scaled, cropped and resized; names(i) is for messages."""
        with np.errstate(over="ignore"):
            values = torch.from_numpy(images.astype(np.float32, order="C"))
        if (top := _TOP.get(images.dtype.name)) is not None:
            values.div_(top).mul_(self.high - self.low).add_(self.low)
        elif not torch.isfinite(values).all():
            bad = int(torch.isfinite(values).flatten(1).all(dim=1).logical_not().nonzero()[0])
            raise SigmaTuneError(f"{names(bad)} holds NaN or an infinite value; leave it out or mend it.")
        if self.size is None:
            return values
        height, width = values.shape[-2:]
        side = min(height, width)
        top_row, left = (height - side) // 2, (width - side) // 2
        square = values[..., top_row : top_row + side, left : left + side]
        if side == self.size:
            return square.contiguous()
        return torch.nn.functional.interpolate(square, (self.size, self.size), mode="bicubic", antialias=True)


def open_images(
    source: str | Path | torch.Tensor | Numbers,
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    size: int | None = None,
    layout: Layout = "auto",
    key: str | None = None,
    batch: int = 256,
) -> Images:
    """Opens images for reading in batches, in an order that is the same every time.

    Args:
        source: One of: a folder, searched through its subfolders for files with :data:`SUFFIXES` and sorted by path; the
            first-level subfolders are class labels if all images lie in subfolders. An image file. An ``.npz`` file, read
            as a stream, with labels from its array ``labels`` or ``y``. An ``.npy`` file. A tensor or an array. The id of a
            data set on the Hugging Face hub, ``owner/name`` or ``owner/name:split``, if `datasets` is installed.
        value_range: What black and white become, for bool, uint8 and uint16. Floating point is taken as it is.
        size: Crop the central square and resize it to size x size (bicubic, antialiased, not clipped), up or down.
        layout: Axes of an array: ``"NHW"``, ``"NHWC"``, ``"NCHW"``, or ``"auto"``: three axes are NHW; of four the last one
            is the channels if it has 1 to 4 entries and the second more than 4, otherwise the second is.
        key: Array of an ``.npz`` file; by default images, x, data, arr_0, or the only one of three or more axes.
        batch: At most that many images at a time; fewer where images are large, so that a batch stays under 64 MiB.

    Files: alpha is dropped. The first image decides whether all have one channel or three, in which case grey ones are
    repeated. Orientation of a photograph is as its camera noted it; of several frames the first is read; colour of 16
    bits is read in 8, as Pillow does. The arrays keep their channels, alpha too.

    Raises:
        SigmaTuneError: here for what is missing, empty, of an unknown type or ambiguous; while iterating for images that
            cannot be read, are not finite, or differ in size or, colour after grey, in channels.
    """
    low, high = (number(value, "value_range") for value in _pair(value_range))
    if low >= high:
        raise SigmaTuneError(f"value_range must rise, like (-1, 1), not {value_range!r}.")
    target = Target(low, high, None if size is None else whole(size, "size"))
    batch = whole(batch, "batch")
    if layout not in get_args(Layout):
        raise SigmaTuneError(f"layout must be one of {', '.join(get_args(Layout))}, not {layout!r}.")
    path = Path(source) if isinstance(source, str | Path) else None
    suffix = "" if path is None else path.suffix.lower()
    if key is not None and suffix != ".npz":
        raise SigmaTuneError("key chooses an array of an .npz file; leave it out for any other source.")
    if isinstance(source, torch.Tensor):
        probe = _numpy(source[:0]) if source.ndim else np.zeros(0)
        return _arrays("the tensor", tuple(source.shape), probe.dtype, _slices(source), layout, batch, target)
    if isinstance(source, np.ndarray):
        return _arrays("the array", source.shape, source.dtype, _slices(source), layout, batch, target)
    if path is None:
        raise SigmaTuneError(f"images come from a path, a tensor or an array, not from {type(source).__name__}.")
    if not path.exists():
        from sigmatune.spectra import hub

        if layout == "auto" and (found := hub.open_dataset(str(source), batch, target)) is not None:
            return found
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


def _folder(path: Path, batch: int, target: Target) -> Images:
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
        files = sorted(file for file in inside if file.is_file())
    else:
        files = [path] if path.suffix.lower() in SUFFIXES else []
    if not files:
        what = "holds no image" if path.is_dir() else "is of an unknown type"
        raise SigmaTuneError(f"{path} {what}; known are {', '.join(SUFFIXES)}, .npz and .npy.")
    below = [file.relative_to(path).parts for file in files] if path.is_dir() else [()]
    labels = [parts[0] for parts in below] if all(len(parts) > 1 for parts in below) else None
    classes = tuple(sorted(set(labels or ())))
    return Images(str(path), len(files), classes, labels, lambda: decoded(((str(f), f) for f in files), batch, target))


def decoded(pictures: Iterable[tuple[str, Path | Image.Image]], batch: int, target: Target) -> Iterator[torch.Tensor]:
    """Reads named pictures in order; the first says how many channels and pixels all of them have."""
    held: list[torch.Tensor] = []
    shape: tuple[int, ...] = ()
    first = ""
    for file, picture in pictures:
        pixels = _pixels(picture) if isinstance(picture, Path) else _array(picture, file)
        image = target(pixels[None], lambda _, file=file: file)[0]  # type: ignore[misc]
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


def _pixels(file: Path) -> Numbers:
    """One image file, (1 or 3, H, W), in the dtype that it is stored in."""
    with npz.reading(file), Image.open(file) as opened:
        return _array(opened, str(file))


def _array(opened: Image.Image, name: str) -> Numbers:
    """A picture, (1 or 3, H, W), in its own dtype."""
    wide = opened.mode == "I" and opened.format in ("PNG", "PPM")  # 16 bits, in some versions of Pillow
    image = ImageOps.exif_transpose(opened)
    if image.mode == "LA":
        image = image.convert("L")
    elif image.mode not in ("1", "L", "F", "I", "I;16", "I;16L", "I;16B", "RGB"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if wide:
        pixels = pixels.astype(np.uint16)
    _check_dtype(pixels.dtype, name)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


# ------------------------------------------------------------------------------------------------------------ arrays


def _arrays(
    name: str, shape: tuple[int, ...], dtype: np.dtype[Any], runs: Runs, layout: Layout, batch: int, target: Target,
    labels: list[str] | None = None,
) -> Images:  # fmt: skip
    _check_dtype(dtype, name)
    axes = _axes(shape, layout, name)
    count, per_image = shape[0], int(np.prod(shape[1:]))

    def batches() -> Iterator[torch.Tensor]:
        done = 0
        for run in runs(min(batch, max(1, _MOST_VALUES // per_image))):
            images = run[:, None] if axes == "NHW" else run.transpose(0, 3, 1, 2) if axes == "NHWC" else run
            yield target(images, lambda i, done=done: f"image {done + i} of {name}")  # type: ignore[misc]
            done += len(run)

    return Images(name, count, tuple(sorted(set(labels or ()))), labels, batches)


def _check_dtype(dtype: np.dtype[Any], name: str) -> None:
    if dtype.kind != "f" and dtype.name not in _TOP:
        raise SigmaTuneError(f"{name} holds {dtype}; images are bool, uint8, uint16 or floating point.")


def _axes(shape: tuple[int, ...], layout: Layout, name: str) -> Layout:
    """The layout of an array, decided if it is left to us."""
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
            raise SigmaTuneError(f"{name} has shape {shape}: one image or several? Add an axis, or say layout='NHW'.")
        return "NHW"
    last, second = shape[-1] <= 4, shape[1] <= 4
    if last and second and shape[1:] != (1, 1, 1):
        raise SigmaTuneError(f"{name} has shape {shape}, which is ambiguous; say layout='NHWC' or layout='NCHW'.")
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


def _npy(path: Path, layout: Layout, batch: int, target: Target) -> Images:
    with npz.reading(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return _arrays(str(path), array.shape, array.dtype, _slices(array), layout, batch, target)


def _npz(path: Path, key: str | None, layout: Layout, batch: int, target: Target) -> Images:
    stored = npz.choose(path, key)
    labels = npz.labels(path, stored)
    return _arrays(f"{stored.name} of {path}", stored.shape, stored.dtype, stored.runs, layout, batch, target, labels)
