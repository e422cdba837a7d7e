"""Images for evaluation, in shards by (seed, index): bounded memory, resumable, and independent of batching.

A shard is at most ``SHARD`` images, fewer where they are large; a kill costs at most one. In a run folder every shard is a
separate file, written atomically; evaluations with other metrics, extractors or numbers of images share their common shards.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.core import identity, soundness
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.origin import held
from sigmatune.core.schedule import whole
from sigmatune.evaluation.extractors import Extractor
from sigmatune.evaluation.extractors import held as held_extractors
from sigmatune.evaluation.extractors.base import Features
from sigmatune.plan import Plan, sample
from sigmatune.spectra.images import Images
from sigmatune.support.engine import LOCAL, Engine, Tick
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import make_folder, write_bytes
from sigmatune.support.pixels import Pixels, to_pixels
from sigmatune.support.progress import Count, Progress
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

LAYOUT = 1
"""Part of the name of a run's folder; raise it when the same name would mean other images."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The features of n images.

    Attributes:
        n: How many.
        origin: Their source, JSON-ready; stated with every figure.
        shape: Of one image, (C, H, W).
    """

    n: int
    origin: dict[str, Any]
    shape: tuple[int, ...]
    _parts: dict[str, list[Path | dict[str, Features]]] = field(repr=False)

    def rows(self, extractor: str, space: str) -> Features:
        """The features in one space of one extractor, (n, d)."""
        return np.concatenate([_loaded(part, space) for part in self._parts[extractor]])


def _loaded(part: Path | dict[str, Features], space: str) -> Features:
    if isinstance(part, dict):
        return part[space]
    data = unsealed(part)
    if data is None:
        raise SigmaTuneError(f"{part} changed while it was in use; run the same command again.")
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return np.asarray(stored[space])


def generate(  # noqa: PLR0913 (what to make, what to keep, what to use)
    model: Denoiser,
    plan: Plan,
    n: int,
    extractors: Sequence[Extractor],
    *,
    seed: int = 0,
    folder: Path | None = None,
    keep: bool = True,
    batch: int | None = None,
    progress: Progress | None = None,
    engine: Engine = LOCAL,
) -> Sample:
    """Samples images with a plan and extracts their features.

    Args:
        model: The denoiser.
        plan: The plan, shared, or one schedule for each of at least n rows.
        n: How many images, with indices 0..n-1.
        extractors: What features to take.
        seed: Seed of the noise.
        folder: A run folder, created if missing. Without it everything stays in memory.
        keep: Also keep the images; without them another extractor has to sample them again.
        batch: Images that are sampled at once; changes memory and speed, but no bit of the result. By default a shard,
            or as many whole micro-batches of it as have :data:`AT_ONCE` numbers.
        progress: Sees the images done.
        engine: Where shards are sampled and their features taken; without ``keep`` no image comes back from elsewhere.

    Raises:
        SigmaTuneError: if the model makes no images, the plan does not fit it or has fewer rows, or it returns NaN.
    """
    n, batch = whole(n, "n"), _at_once(model, plan) if batch is None else whole(batch, "batch")
    rows = plan.coefficients.rows
    if rows is not None and n > rows:
        raise SigmaTuneError(f"the plan has a schedule for each of {rows} seeds, fewer than the {n} images requested.")
    if model.pixel_shape[0] not in (1, 3) or len(model.pixel_shape) != 3:
        raise SigmaTuneError(f"metrics need images, but the model returns data of shape {tuple(model.pixel_shape)}.")
    soundness.check(model)
    model.renew()
    key = digest(model, plan, seed, folder)
    home = None if folder is None else folder / key
    shards = shards_of(range(n), _shard(model, plan))
    where = "" if home is None else f", kept in {home}"
    logger.info("%d images by %s, %d steps, seed %d%s", n, plan.solver, plan.steps, seed, where)
    count = Count(progress, "images", n)
    makes = _Shards(model, plan, seed, batch, extractors, home, keep, count, engine)
    with engine.abreast(len(shards)) as spread:
        of_shards = list(spread(makes.shard, shards))
    parts = {extractor.name: [shard[i] for shard in of_shards] for i, extractor in enumerate(extractors)}
    origin = {
        "model": model.fingerprint(),
        "plan": {"solver": plan.solver, "calls": plan.network_calls(model), "steps": plan.steps, "digest": key},
        "seed": seed,
        "indices": [0, n],
        "micro_batch": plan.micro_batch,
        "dtype": model.arithmetic(),
        "device": str(model.device),
        "pixels": "clipped to the value range and rounded to 8 bits",
    }
    return Sample(n, origin, tuple(model.pixel_shape), parts)


def evaluations(model: Denoiser, plan: Plan, n: int, batch: int | None = None) -> int:
    """Network evaluations of single images that :func:`generate` takes for n images, padding included."""
    batch = batch or _at_once(model, plan)
    shards = shards_of(range(n), _shard(model, plan))
    return sum(plan.evaluations(model, len(part)) for shard in shards for part in shards_of(shard, batch))


def shards_of(rows: range, size: int) -> list[range]:
    """Splits rows into parts of a size."""
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def pictures(images: Images, extractors: Sequence[Extractor], n: int | None = None, *, seed: int = 0) -> Sample:
    """Extracts the features of existing images: of all, or of a draw of n, each class its share.

    The seed shuffles the rows, because folds and metrics of bounded size take consecutive rows and folders are sorted
    by class.

    Args:
        images: The images.
        extractors: What features to take.
        n: How many; all by default.
        seed: Of draw and order.

    Raises:
        SigmaTuneError: if there are fewer than n, or they are not images or cannot be read.
    """
    chosen = images if n is None or n == images.count else images.drawn(n, seed)
    features: dict[str, dict[str, list[Features]]] = {extractor.name: {} for extractor in extractors}
    shape: tuple[int, ...] = ()
    for pixels in in_pixels(chosen):
        shape = (pixels.shape[3], *pixels.shape[1:3])
        for extractor in extractors:
            for space, rows in extractor(pixels).items():
                features[extractor.name].setdefault(space, []).append(rows)
    order = np.random.Generator(np.random.Philox(key=np.uint64(seed))).permutation(chosen.count)
    parts: dict[str, list[Path | dict[str, Features]]] = {
        name: [{space: np.concatenate(rows)[order] for space, rows in spaces.items()}]
        for name, spaces in features.items()
    }
    origin: dict[str, Any] = {"pictures": images.name, "seed": seed, "about": chosen.about()}
    if chosen is images:
        origin["indices"] = [0, images.count]
    return Sample(chosen.count, origin, shape, parts)


def in_pixels(images: Images) -> Iterator[Pixels]:
    """Converts images to uint8, batch by batch, (B, H, W, C).

    Raises:
        SigmaTuneError: if they are not images.
    """
    if not images.pictures:
        raise SigmaTuneError(f"metrics need images, but {images.name} was read 'as-is'; pass another value range.")
    for values, _ in images:
        yield to_pixels(values)


def _at_once(model: Denoiser, plan: Plan) -> int:
    """Rows that are sampled at once."""
    return _batches(AT_ONCE // max(int(np.prod(model.shape)), int(np.prod(model.pixel_shape))), plan, SHARD)


def _shard(model: Denoiser, plan: Plan) -> int:
    """Images of a shard."""
    return _batches(KEPT_AT_ONCE // int(np.prod(model.pixel_shape)), plan, SHARD)


def _batches(rows: int, plan: Plan, most: int) -> int:
    """As many rows as whole micro-batches have, at least one of them, because a part of one costs as much."""
    return min(most, max(rows // plan.micro_batch, 1) * plan.micro_batch)


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
        ends = (_run(model, _of_rows(piece.plan, part, first), piece.seed, part, tick) for part in parts)
        pixels = np.concatenate([to_pixels(model.decode(x), model.value_range) for x in ends])
    return pixels if piece.keep else None, [extractors[i](pixels) for i in piece.wanted]


class _Shards:
    """What makes the features of shards, or finds them in a run folder."""

    def __init__(  # noqa: PLR0913 (those of generate)
        self, model: Denoiser, plan: Plan, seed: int, batch: int, extractors: Sequence[Extractor], home: Path | None,
        keep: bool, count: Count, engine: Engine,
    ) -> None:  # fmt: skip
        self.model, self.plan, self.seed, self.batch, self.extractors = model, plan, seed, batch, extractors
        self.home, self.keep, self.count, self.engine = home, keep, count, engine
        shape = tuple(model.pixel_shape)
        self.held = [held(model), held_extractors(extractors, shape, model.device)]

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
        file = self.home / "pictures" / f"{_name(shard)}.npy" if self.home is not None and self.keep else None
        pixels = None if file is None else _kept(file)
        keep = file is not None and pixels is None
        size = _batches(PIECE, self.plan, SHARD) if self.engine.workers else len(shard)
        pieces = [
            _Piece(
                _of_rows(self.plan, rows, 0), self.seed, rows, self.batch,
                None if pixels is None else pixels[rows.start - shard.start : rows.stop - shard.start], wanted, keep,
            )
            for rows in shards_of(shard, size)
        ]  # fmt: skip
        images, features = zip(*self.engine.run(_made, self.held, pieces, tick=self.count.add), strict=True)
        if file is not None and keep:
            _write(file, np.concatenate(images))
        if pixels is not None:
            self.count.add(len(shard))
        return [
            {space: np.concatenate([part[i][space] for part in features]) for space in features[0][i]}
            for i in range(len(wanted))
        ]


def _of_rows(plan: Plan, rows: range, first: int) -> Plan:
    """A plan, whose row 0 is of index ``first``, for some rows."""
    part = range(rows.start - first, rows.stop - first)
    return plan if plan.coefficients.rows is None else replace(plan, coefficients=plan.coefficients.at(part))


def _run(
    model: Denoiser, plan: Plan, seed: int, rows: range, tick: Tick, engine: Engine = LOCAL
) -> torch.Tensor:
    """The end points of the rows of a plan, on the CPU, micro-batches side by side."""
    pieces = [(_of_rows(plan, part, rows.start), seed, part) for part in shards_of(rows, plan.micro_batch)]
    # As many as there are threads, even for one piece: more threads for a piece could change its bits.
    ends = engine.run(_ends, [held(model)], pieces, at_once=torch.get_num_threads(), tick=tick)
    return torch.cat(list(ends))


def _ends(model: Denoiser, piece: tuple[Plan, int, range], tick: Tick) -> torch.Tensor:
    plan, seed, rows = piece
    x = sample(model, plan, seed=seed, indices=rows, micro_batch=plan.micro_batch).cpu()
    tick(len(rows))
    return x


def end_points(
    model: Denoiser,
    plan: Plan,
    rows: range,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    engine: Engine = LOCAL,
) -> torch.Tensor:
    """A plan's end points from some noises, before rounding to pixels, (n, *shape); kept in the folder, if any."""
    home = None if folder is None else folder / digest(model, plan, seed, folder) / "end-points"
    parts = shards_of(rows, _batches(AT_ONCE // int(np.prod(model.shape)), plan, SMALL))
    count = Count(progress, f"end points of {plan.steps} steps", len(rows))

    def ends(part: range) -> torch.Tensor:
        file = None if home is None else home / f"{_name(part)}.npy"
        kept = None if file is None else _kept(file)
        if kept is not None:
            count.add(len(part))
            return torch.from_numpy(kept)
        x = _run(model, _of_rows(plan, part, 0), seed, part, count.add, engine)
        if file is not None:
            _write(file, x.numpy())
        return x

    with engine.abreast(len(parts)) as spread:
        return torch.cat(list(spread(ends, parts)))


def _write(file: Path, array: npt.NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array)
    make_folder(file.parent)
    write_bytes(file, sealed(buffer.getvalue()), level=logging.DEBUG)


def _kept(file: Path) -> npt.NDArray[Any] | None:
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
    return home / f"{extractor.name.replace(':', '-')}-{spec}" / f"{_name(shard)}.npz"


def _write_features(file: Path, features: dict[str, Features]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **features)  # type: ignore[arg-type]  # a space may not be called "file"
    make_folder(file.parent)
    write_bytes(file, sealed(buffer.getvalue()), level=logging.DEBUG)


def _name(shard: range) -> str:
    return f"{shard.start:08d}-{shard.stop:08d}"


def digest(model: Denoiser, plan: Plan, seed: int, folder: Path | None = None) -> str:
    """Names the images of a model, a plan and a seed; in a folder, the model by the name recorded there."""
    name = identity.name_in(folder, identity.name(model))
    text = f"{LAYOUT}|{name}{model.decoder()}|{seed}|{plan.micro_batch}|".encode()
    return hashlib.sha256(text + plan.coefficients.digits()).hexdigest()[:32]
