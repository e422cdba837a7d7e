"""Shards and pieces: what an engine runs to sample images and to take their features.

A shard is what a run folder keeps in one file. For an engine with workers it consists of pieces of at most :data:`PIECE`
images; here it is one piece, whose micro-batches divide the threads. Rows depend on (seed, index) alone, and an extractor sees
chunks of fixed size, so the bits do not depend on this division, on one thread.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation.extractors import Extractor
from sigmatune.evaluation.extractors import held as held_extractors
from sigmatune.evaluation.extractors.base import Features
from sigmatune.models.travel import device_of, held
from sigmatune.plan import Plan, sample
from sigmatune.spectra.images import Images
from sigmatune.support.engine import LOCAL, Engine, Held, Tick
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import make_folder, write_bytes
from sigmatune.support.pixels import Pixels, to_pixels
from sigmatune.support.progress import Count
from sigmatune.support.reading import sealed, unsealed

logger = logging.getLogger(__name__)

SHARD = 256
AT_ONCE = 2**24
"""Numbers of end points or images that are held as floating point at once, 64 MiB in single precision."""

PIECE = 64
"""Images of a piece for an engine with workers; the interval between two of them is the most that a lost worker costs."""

KEPT_AT_ONCE = 2**26
"""Bytes of the images of a shard: where images are large, a shard has fewer of them."""

SMALL = 64
"""Most rows of a shard of end points, whose plans may be long."""


def shards_of(rows: range, size: int) -> list[range]:
    """Splits rows into parts of a size."""
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def rows_at_once(model: Denoiser, plan: Plan) -> int:
    """Rows that are sampled at once."""
    return whole_batches(AT_ONCE // max(int(np.prod(model.shape)), int(np.prod(model.pixel_shape))), plan, SHARD)


def shard_size(model: Denoiser, plan: Plan) -> int:
    """Images of a shard."""
    return whole_batches(KEPT_AT_ONCE // int(np.prod(model.pixel_shape)), plan, SHARD)


def whole_batches(rows: int, plan: Plan, most: int) -> int:
    """As many rows as whole micro-batches have, at least one of them, because a part of one costs as much."""
    return min(most, max(rows // plan.micro_batch, 1) * plan.micro_batch)


def in_pixels(images: Images) -> Iterator[Pixels]:
    """Converts images to uint8, batch by batch, (B, H, W, C).

    Raises:
        SigmaTuneError: if they are not images.
    """
    if not images.pictures:
        raise SigmaTuneError(f"metrics need images, but {images.name} was read 'as-is'; pass another value range.")
    for values, _ in images:
        yield to_pixels(values)


def featured(
    images: Images, extractors: Sequence[Extractor], engine: Engine
) -> Iterator[tuple[Pixels, list[dict[str, Features]]]]:
    """Batches of images with their features by every extractor; as many batches are in memory as keep the workers busy."""
    batches = in_pixels(images)
    while some := list(islice(batches, max(2 * engine.workers, 1))):
        device = str(getattr(extractors[0], "device", "cpu"))
        job = held_extractors(extractors, (some[0].shape[3], *some[0].shape[1:3]), device)
        yield from zip(some, engine.run(_features, [job], some), strict=True)


def _features(extractors: Sequence[Extractor], pixels: Pixels, tick: Tick) -> list[dict[str, Features]]:
    features = [extractor(pixels) for extractor in extractors]
    tick(len(pixels))
    return features


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some rows to sample, or images to take, for their features.

    Attributes:
        plan, seed, rows: What to sample; a plan with a schedule for each row has those of the rows.
        batch: Images that are sampled at once.
        pixels: The images, if they are there.
        wanted: Numbers of the extractors.
        keep: Whether the images come back, too.
    """

    plan: Plan
    seed: int
    rows: range
    batch: int
    pixels: Pixels | None
    wanted: tuple[int, ...]
    keep: bool


def _made(
    model: Denoiser, extractors: Sequence[Extractor], piece: _Piece, tick: Tick
) -> tuple[Pixels | None, list[dict[str, Features]]]:
    """The images of a piece, if they are asked for, and their features by every wanted extractor."""
    pixels = piece.pixels
    if pixels is None:
        parts, first = shards_of(piece.rows, piece.batch), piece.rows.start
        ends = (end_points_of(model, of_rows(piece.plan, part, first), piece.seed, part, tick) for part in parts)
        pixels = np.concatenate([to_pixels(model.decode(x), model.value_range) for x in ends])
    return pixels if piece.keep else None, [extractors[i](pixels) for i in piece.wanted]


@dataclass(frozen=True, eq=False)
class Shards:
    """What makes the features of shards, or finds them in a run folder; the attributes are those of ``generate``.

    Attributes:
        home: The run folder's place for this model, plan and seed.
        count: Counts images.
    """

    model: Denoiser
    plan: Plan
    seed: int
    batch: int
    extractors: Sequence[Extractor]
    home: Path | None
    keep: bool
    count: Count
    engine: Engine

    @cached_property
    def held(self) -> list[Held]:
        """The model and the extractors."""
        shape = tuple(self.model.pixel_shape)
        return [held(self.model), held_extractors(self.extractors, shape, device_of(self.model))]

    def shard(self, shard: range) -> list[Path | dict[str, Features]]:
        """The features of a shard by every extractor."""
        files = [_file(extractor, self.home, shard) for extractor in self.extractors]
        wanted = tuple(i for i, file in enumerate(files) if file is None or unsealed(file) is None)
        features = dict(zip(wanted, self._taken(shard, wanted), strict=True)) if wanted else {}
        if not wanted:
            self.count.add(len(shard))
        for i, values in features.items():
            if (file := files[i]) is not None:
                _write_features(file, values)
        return [features[i] if file is None else file for i, file in enumerate(files)]

    def _taken(self, shard: range, wanted: tuple[int, ...]) -> list[dict[str, Features]]:
        file = self.home / "pictures" / f"{rows_name(shard)}.npy" if self.home is not None and self.keep else None
        pixels = None if file is None else kept_array(file)
        keep = file is not None and pixels is None
        size = whole_batches(PIECE, self.plan, SHARD) if self.engine.workers else len(shard)
        pieces = [
            _Piece(
                of_rows(self.plan, rows, 0), self.seed, rows, self.batch,
                None if pixels is None else pixels[rows.start - shard.start : rows.stop - shard.start], wanted, keep,
            )
            for rows in shards_of(shard, size)
        ]  # fmt: skip
        images, features = zip(*self.engine.run(_made, self.held, pieces, tick=self.count.add), strict=True)
        if file is not None and keep:
            write_array(file, np.concatenate(images))
        if pixels is not None:
            self.count.add(len(shard))
        return [
            {space: np.concatenate([part[i][space] for part in features]) for space in features[0][i]}
            for i in range(len(wanted))
        ]


def of_rows(plan: Plan, rows: range, first: int) -> Plan:
    """A plan, whose row 0 is of index ``first``, for some rows."""
    part = range(rows.start - first, rows.stop - first)
    return plan if plan.coefficients.rows is None else replace(plan, coefficients=plan.coefficients.at(part))


def end_points_of(
    model: Denoiser, plan: Plan, seed: int, rows: range, tick: Tick, engine: Engine = LOCAL
) -> torch.Tensor:
    """The end points of the rows of a plan, on the CPU, micro-batches side by side."""
    pieces = [(of_rows(plan, part, rows.start), seed, part) for part in shards_of(rows, plan.micro_batch)]
    # As many as there are threads, even for one piece: more threads for a piece could change its bits.
    ends = engine.run(_ends, [held(model)], pieces, at_once=torch.get_num_threads(), tick=tick)
    return torch.cat(list(ends))


def _ends(model: Denoiser, piece: tuple[Plan, int, range], tick: Tick) -> torch.Tensor:
    plan, seed, rows = piece
    x = sample(model, plan, seed=seed, indices=rows, micro_batch=plan.micro_batch).cpu()
    tick(len(rows))
    return x


def write_array(file: Path, array: npt.NDArray[Any]) -> None:
    """Keeps an array in a run folder."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    make_folder(file.parent)
    write_bytes(file, sealed(buffer.getvalue()), level=logging.DEBUG)


def kept_array(file: Path) -> npt.NDArray[Any] | None:
    """Reads what :func:`_write` kept; None if it is missing, incomplete, or changed."""
    data = unsealed(file)
    if data is not None:
        logger.debug("found in the run folder: %s", file)
    return None if data is None else np.asarray(np.load(io.BytesIO(data), allow_pickle=False))


def _file(extractor: Extractor, home: Path | None, shard: range) -> Path | None:
    """Where a run folder keeps the features of a shard."""
    if home is None:
        return None
    spec = hashlib.sha256(repr(sorted(extractor.spec().items())).encode()).hexdigest()[:12]
    return home / f"{extractor.name.replace(':', '-')}-{spec}" / f"{rows_name(shard)}.npz"


def _write_features(file: Path, features: dict[str, Features]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **features)  # type: ignore[arg-type]  # a space may not be called "file"
    make_folder(file.parent)
    write_bytes(file, sealed(buffer.getvalue()), level=logging.DEBUG)


def rows_name(shard: range) -> str:
    """The name of the file of some rows."""
    return f"{shard.start:08d}-{shard.stop:08d}"
