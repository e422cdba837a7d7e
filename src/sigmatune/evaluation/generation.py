"""Images for evaluation, in shards by (seed, index): bounded memory, resumable, and independent of batching.

A shard is at most ``SHARD`` images, fewer where they are large; a kill costs at most one. In a run folder every shard is a
separate file, written atomically; evaluations with other metrics, extractors or numbers of images share their common shards.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigmatune.core import identity, soundness
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import whole
from sigmatune.evaluation.execution import PLAIN, Execution
from sigmatune.evaluation.extractors import Extractor
from sigmatune.evaluation.extractors.base import Features
from sigmatune.evaluation.sample import Sample
from sigmatune.evaluation.shards import (
    AT_ONCE,
    SMALL,
    Shards,
    end_points_of,
    featured,
    kept_array,
    of_rows,
    rows_at_once,
    rows_name,
    shard_size,
    shards_of,
    whole_batches,
    write_array,
)  # fmt: skip
from sigmatune.plan import Plan
from sigmatune.spectra.images import Images
from sigmatune.support.engine import LOCAL, Engine
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Count, Progress

logger = logging.getLogger(__name__)

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
            or as many whole micro-batches of it as have ``AT_ONCE`` numbers.
        only: Some of :func:`pieces`, when other machines sample the others; then the result is of these alone.
        progress: Sees the images done.
        engine: Where shards are sampled and their features taken; without ``keep`` no image comes back from elsewhere.

    Raises:
        SigmaTuneError: if the model makes no images, the plan does not fit it or has fewer rows, or it returns NaN.
    """
    n, batch = whole(n, "n"), rows_at_once(model, plan) if batch is None else whole(batch, "batch")
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
    where = "" if home is None else f", kept in {home}"
    logger.info("%d images by %s, %d steps, seed %d%s", n, plan.solver, plan.steps, seed, where)
    count = Count(progress, "images", sum(map(len, shards)))
    makes = Shards(model, plan, seed, batch, extractors, home, keep, count, engine)
    with engine.abreast(len(shards)) as spread:
        of_shards = list(spread(makes.shard, shards))
    parts = {extractor.name: [shard[i] for shard in of_shards] for i, extractor in enumerate(extractors)}
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
    batch = batch or rows_at_once(model, plan)
    parts = (part for shard in pieces(model, plan, n) for part in shards_of(shard, batch))
    return sum(plan.evaluations(model, len(part)) for part in parts)


def pieces(model: Denoiser, plan: Plan, n: int) -> list[range]:
    """The shards of n images: what a kill costs at most, and what machines share out."""
    return shards_of(range(n), shard_size(model, plan))


def ends_at_once(model: Denoiser, plan: Plan) -> int:
    """Rows of a shard of end points."""
    return whole_batches(AT_ONCE // int(np.prod(model.shape)), plan, SMALL)


def pictures(
    images: Images, extractors: Sequence[Extractor], n: int | None = None, *, seed: int = 0, engine: Engine = LOCAL
) -> Sample:
    """Extracts the features of existing images: of all, or of a draw of n, each class its share.

    The seed shuffles the rows, because folds and metrics of bounded size take consecutive rows and folders are sorted
    by class.

    Args:
        images: The images.
        extractors: What features to take.
        n: How many; all by default.
        seed: Of draw and order.
        engine: Where features are taken; the images are read here.

    Raises:
        SigmaTuneError: if there are fewer than n, or they are not images or cannot be read.
    """
    chosen = images if n is None or n == images.count else images.drawn(n, seed)
    features: dict[str, dict[str, list[Features]]] = {extractor.name: {} for extractor in extractors}
    shape: tuple[int, ...] = ()
    for pixels, by_extractor in featured(chosen, extractors, engine):
        shape = (pixels.shape[3], *pixels.shape[1:3])
        for extractor, spaces in zip(extractors, by_extractor, strict=True):
            for space, rows in spaces.items():
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


def end_points(model: Denoiser, plan: Plan, rows: range, execution: Execution = PLAIN) -> torch.Tensor:
    """A plan's end points from some noises, before rounding to pixels, (n, *shape).

    Args:
        model: The denoiser.
        plan: The plan; with a schedule for each row, row i is that of noise i.
        rows: The indices of the noises.
        execution: How; its folder keeps the end points, in shards.
    """
    seed, folder = execution.seed, execution.folder
    home = None if folder is None else folder / digest(model, plan, seed, folder) / "end-points"
    parts = shards_of(rows, ends_at_once(model, plan))
    count = Count(execution.progress, f"end points of {plan.steps} steps", len(rows))

    def ends(part: range) -> torch.Tensor:
        file = None if home is None else home / f"{rows_name(part)}.npy"
        kept = None if file is None else kept_array(file)
        if kept is not None:
            count.add(len(part))
            return torch.from_numpy(kept)
        x = end_points_of(model, of_rows(plan, part, 0), seed, part, count.add, execution.engine)
        if file is not None:
            write_array(file, x.numpy())
        return x

    with execution.engine.abreast(len(parts)) as spread:
        return torch.cat(list(spread(ends, parts)))


def digest(model: Denoiser, plan: Plan, seed: int, folder: Path | None = None) -> str:
    """Names the images of a model, a plan and a seed; in a folder, the model by the name recorded there."""
    name = identity.name_in(folder, identity.name(model))
    text = f"{LAYOUT}|{name}{model.decoder()}|{seed}|{plan.micro_batch}|".encode()
    return hashlib.sha256(text + plan.coefficients.digits()).hexdigest()[:32]
