"""Images for evaluation, in shards by (seed, index): bounded memory, resumable, and independent of batching.

A shard is at most ``SHARD`` images, fewer where they are large; a kill costs at most one. In a run folder every shard is a
separate file, written atomically; evaluations with other metrics, extractors or numbers of images share their common shards.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.core import identity, soundness
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import whole
from sigmatune.evaluation.extractors import Extractor
from sigmatune.evaluation.extractors.base import Features
from sigmatune.evaluation.sample import Sample
from sigmatune.plan import Plan, sample
from sigmatune.spectra.images import Images
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import make_folder, write_bytes
from sigmatune.support.pixels import Pixels, to_pixels
from sigmatune.support.progress import Count, Progress
from sigmatune.support.reading import sealed, unsealed
from sigmatune.support.threads import side_by_side

logger = logging.getLogger(__name__)

SHARD = 256
AT_ONCE = 2**24
"""Numbers of end points or images that are held as floating point at once, 64 MiB in single precision."""

KEPT_AT_ONCE = 2**26
"""Bytes of the images of a shard: where images are large, a shard has fewer of them."""

SMALL = 64
"""Most rows of a shard of end points, whose plans may be long."""

LAYOUT = 1
"""Part of the name of a run's folder; raise it when the same name would mean other images."""


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
    only: Collection[range] | None = None,
    progress: Progress | None = None,
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
        only: Some of :func:`pieces`, when other machines sample the others; then the result is of these alone.
        progress: Sees the images done.

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
    shards = [shard for shard in pieces(model, plan, n) if only is None or shard in only]
    parts: dict[str, list[Path | dict[str, Features]]] = {extractor.name: [] for extractor in extractors}
    where = "" if home is None else f", kept in {home}"
    logger.info("%d images by %s, %d steps, seed %d%s", n, plan.solver, plan.steps, seed, where)
    count, done = Count(progress, "images", sum(map(len, shards))), 0
    for shard in shards:
        file = home / "pictures" / f"{_name(shard)}.npy" if home is not None and keep else None
        pixels = _Pixels(model, plan, seed, shard, batch, file, count)
        for extractor in extractors:
            parts[extractor.name].append(_features(extractor, pixels, home, shard))
        done += len(shard)
        count.reach(done)
    origin = {
        "model": model.fingerprint(),
        "plan": {"solver": plan.solver, "calls": plan.network_calls(model), "steps": plan.steps, "digest": key},
        "seed": seed,
        "indices": [0, n] if only is None else [[shard.start, shard.stop] for shard in shards],
        "micro_batch": plan.micro_batch,
        "dtype": model.arithmetic(),
        "device": str(model.device),
        "pixels": "clipped to the value range and rounded to 8 bits",
    }
    return Sample(count.total, origin, tuple(model.pixel_shape), parts)


def evaluations(model: Denoiser, plan: Plan, n: int, batch: int | None = None) -> int:
    """Network evaluations of single images that :func:`generate` takes for n images, padding included."""
    batch = batch or _at_once(model, plan)
    return sum(
        plan.evaluations(model, len(part)) for shard in pieces(model, plan, n) for part in shards_of(shard, batch)
    )


def pieces(model: Denoiser, plan: Plan, n: int) -> list[range]:
    """The shards of n images: what a kill costs at most, and what machines share out."""
    return shards_of(range(n), _shard(model, plan))


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


def ends_at_once(model: Denoiser, plan: Plan) -> int:
    """Rows of a shard of end points."""
    return _batches(AT_ONCE // int(np.prod(model.shape)), plan, SMALL)


def _shard(model: Denoiser, plan: Plan) -> int:
    """Images of a shard."""
    return _batches(KEPT_AT_ONCE // int(np.prod(model.pixel_shape)), plan, SHARD)


def _batches(rows: int, plan: Plan, most: int) -> int:
    """As many rows as whole micro-batches have, at least one of them, because a part of one costs as much."""
    return min(most, max(rows // plan.micro_batch, 1) * plan.micro_batch)


class _Pixels:
    """The images of one shard, sampled when first needed."""

    def __init__(
        self, model: Denoiser, plan: Plan, seed: int, shard: range, batch: int, file: Path | None, count: Count
    ) -> None:
        self.model, self.plan, self.seed, self.shard, self.batch = model, plan, seed, shard, batch
        self.file, self.count = file, count
        self._pixels: Pixels | None = None

    def __call__(self) -> Pixels:
        if self._pixels is None:
            self._pixels = None if self.file is None else _kept(self.file)
            if self._pixels is None:
                self._pixels = self._sampled()
                if self.file is not None:
                    _write(self.file, self._pixels)
        return self._pixels

    def _sampled(self) -> Pixels:
        ends = (_run(self.model, self.plan, self.seed, part, self.count) for part in shards_of(self.shard, self.batch))
        return np.concatenate([to_pixels(self.model.decode(x), self.model.value_range) for x in ends])


def _run(model: Denoiser, plan: Plan, seed: int, rows: range, count: Count) -> torch.Tensor:
    """The end points of some rows, on the CPU, micro-batches side by side."""
    size = plan.micro_batch
    parts = shards_of(rows, size)

    def piece(part: range) -> torch.Tensor:
        plan_of_part = replace(plan, coefficients=plan.coefficients.at(part))
        x = sample(model, plan_of_part, seed=seed, indices=part, micro_batch=size)
        count.add(len(part))
        return x

    # As many as there are threads, even for one piece: more threads for a piece could change its bits.
    with side_by_side(torch.get_num_threads(), model) as spread:
        return torch.cat(list(spread(piece, parts))).cpu()


def end_points(
    model: Denoiser,
    plan: Plan,
    rows: range,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> torch.Tensor:
    """A plan's end points from some noises, before rounding to pixels, (n, *shape); kept in the folder, if any."""
    home = None if folder is None else folder / digest(model, plan, seed, folder) / "end-points"
    ends, count = [], Count(progress, f"end points of {plan.steps} steps", len(rows))
    for part in shards_of(rows, ends_at_once(model, plan)):
        file = None if home is None else home / f"{_name(part)}.npy"
        kept = None if file is None else _kept(file)
        if kept is not None:
            ends.append(torch.from_numpy(kept))
        else:
            ends.append(_run(model, plan, seed, part, count))
            if file is not None:
                _write(file, ends[-1].numpy())
        count.reach(part.stop - rows.start)
    return torch.cat(ends)


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


def _features(
    extractor: Extractor, pixels: Callable[[], Pixels], home: Path | None, shard: range
) -> Path | dict[str, Features]:
    if home is None:
        return extractor(pixels())
    spec = hashlib.sha256(repr(sorted(extractor.spec().items())).encode()).hexdigest()[:12]
    file = home / f"{extractor.name.replace(':', '-')}-{spec}" / f"{_name(shard)}.npz"
    if unsealed(file) is None:
        buffer = io.BytesIO()
        np.savez(buffer, **extractor(pixels()))  # type: ignore[arg-type]  # a space may not be called "file"
        make_folder(file.parent)
        write_bytes(file, sealed(buffer.getvalue()), level=logging.DEBUG)
    return file


def _name(shard: range) -> str:
    return f"{shard.start:08d}-{shard.stop:08d}"


def digest(model: Denoiser, plan: Plan, seed: int, folder: Path | None = None) -> str:
    """Names the images of a model, a plan and a seed; in a folder, the model by the name recorded there."""
    name = identity.name_in(folder, identity.name(model))
    text = f"{LAYOUT}|{name}{model.decoder()}|{seed}|{plan.micro_batch}|".encode()
    return hashlib.sha256(text + plan.coefficients.digits()).hexdigest()[:32]
