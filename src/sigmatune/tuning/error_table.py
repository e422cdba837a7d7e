r"""The denoising error of a model at every level: the table behind the discretisation loss.

.. math:: e(\sigma) = \tfrac1d \, E \lVert M D(x_0 + \sigma \epsilon; \sigma) - M x_0 \rVert^2

the training objective without a weight, d the size of an image, M a linear measure (:mod:`sigmatune.measures`) or 1. It is
estimated on images with **one** noise for all levels, so that neighbouring entries share their sampling error and the curve
is smooth. For an ideal denoiser it rises
with sigma, and the isotonic fit enforces this. One measurement serves every number of steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import isotonic_regression

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.rng import noise
from sigmatune.core.schedule import whole
from sigmatune.measures import Fitted
from sigmatune.models.travel import held
from sigmatune.noise import Array
from sigmatune.statistics.pieces import pieces
from sigmatune.support import outputs, reading
from sigmatune.support.engine import LOCAL, Engine, Tick
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Count

FORMAT, VERSION = "sigmatune/error-table", 1
TABLE_NOISE = 0xE7A81E
"""Noise channel of the table, so that it never repeats the noise that an image was sampled from."""

LEVELS = 64
GROUP = 8
"""Levels of a piece of the work."""
WIDEST = 1e4
"""Where the table ends on a path whose first level is infinite."""


@dataclass(frozen=True, eq=False)
class ErrorTable:
    """Mean squared error of a denoiser per level.

    Attributes:
        sigma: Levels, rising, (G,).
        error: e at each, mean over images and pixels, (G,).
        standard_error: Of e, from the scatter between images, (G,).
        images: How many images.
        about: Fingerprint, seed and the like, JSON-ready.
    """

    sigma: Array
    error: Array
    standard_error: Array
    images: int
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {np.shape(getattr(self, name)) for name in ("sigma", "error", "standard_error")}
        if len(shapes) != 1 or len(shapes.pop()) != 1 or len(self.sigma) < 2:
            raise SigmaTuneError(
                "an error table needs at least two levels, with an error and a standard error for each."
            )
        values = np.concatenate([self.sigma, self.error, self.standard_error])
        if not np.isfinite(values).all() or (np.diff(self.sigma) <= 0).any() or not (values >= 0).all():
            raise SigmaTuneError("an error table needs rising positive levels and finite errors of at least 0.")

    @property
    def rising(self) -> Array:
        """The isotonic fit of the errors, weighted by their precision."""
        most = self.standard_error.max() or 1.0  # no scatter at all: a model with constant output
        weight = 1 / np.maximum(self.standard_error / most, 1e-3) ** 2
        return np.asarray(isotonic_regression(self.error, weights=weight).x)

    def at(self, sigma: Array) -> Array:
        """The isotonic error at levels between the table's own, linear in log sigma; its end values beyond them."""
        return np.asarray(np.interp(np.log(sigma), np.log(self.sigma), self.rising))

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the table as JSON, atomically; :meth:`load` reads it back bit for bit.

        A file of another kind is replaced only with ``force``.
        """
        lists = {name: getattr(self, name).tolist() for name in ("sigma", "error", "standard_error")}
        fields = {"format": FORMAT, "version": VERSION, **lists, "images": self.images, "about": dict(self.about)}
        outputs.save(path, json.dumps(fields) + "\n", "error-table", force=force)

    @classmethod
    def load(cls, path: str | Path) -> ErrorTable:
        """Reads a table.

        Raises:
            SigmaTuneError: if there is no such file, or it is not an error table of this version.
        """
        try:
            fields = reading.json_of(path, kind="error table")
            if (fields["format"], fields["version"]) != (FORMAT, VERSION):
                raise SigmaTuneError(f"{path} is not an error table of version {VERSION}.")
            sigma, error, scatter = (
                np.array(fields[name], dtype=np.float64) for name in ("sigma", "error", "standard_error")
            )
            return cls(sigma, error, scatter, int(fields["images"]), dict(fields["about"]))
        except SigmaTuneError:
            raise
        except (KeyError, TypeError, ValueError):
            raise SigmaTuneError(f"{path} is not an error table; measure it again.") from None


@dataclass(frozen=True)
class TableSize:
    """How an error table is sampled; the table's numbers depend on it.

    Attributes:
        levels: G, log-spaced over the model's range; a network of whole timesteps gets its nearest ones, each once.
        seed: Seed of the noise; image i gets the noise of (seed, i).
        micro_batch: Rows per network call, padded with zeros.
    """

    levels: int = LEVELS
    seed: int = 0
    micro_batch: int = 16


USUAL = TableSize()


def tabulate(
    model: Denoiser,
    images: torch.Tensor,
    size: TableSize = USUAL,
    *,
    measure: Fitted | None = None,
    progress: Callable[[int, int], None] | None = None,
    engine: Engine = LOCAL,
) -> ErrorTable:
    """Measures a model's error table; costs levels times images network evaluations.

    Args:
        model: The denoiser.
        images: Clean data in the model's scale, (n, *shape), n >= 2: real data, or the model's own samples.
        size: Its levels, its noise, and the rows of a network call.
        measure: What squared errors are taken in, linear; by default the samples as they are.
        progress: Called with (network calls done, network calls in all).
        engine: Where the network is called.

    Raises:
        SigmaTuneError: if the images do not fit the model, are fewer than two, or the model returns NaN; for a measure that
            is not linear.
    """
    if measure is not None and not measure.linear:
        raise SigmaTuneError(
            f"an error table needs a linear measure, and {measure.name} is none; take whitened or rms."
        )
    if tuple(images.shape[1:]) != model.shape or len(images) < 2:
        raise SigmaTuneError(
            f"an error table needs at least two images of shape {model.shape}, not {tuple(images.shape)}."
        )
    seed, at_once = size.seed, whole(size.micro_batch, "micro_batch")
    sigmas = levels_of(model, whole(size.levels, "levels"))
    total, square = np.zeros(len(sigmas)), np.zeros(len(sigmas))
    parts = range(0, len(images), at_once)
    count = Count(
        None if progress is None else lambda _, done, whole: progress(done, whole), "", len(parts) * len(sigmas)
    )
    groups = [range(g, min(g + GROUP, len(sigmas))) for g in range(0, len(sigmas), GROUP)]
    jobs = [(first, group) for first in parts for group in groups]
    pieces = [
        _Piece(images[first : first + at_once], first, at_once, seed, sigmas[group.start : group.stop], measure)
        for first, group in jobs
    ]
    measured = engine.run(_errors, [held(model)], pieces, at_once=len(pieces), tick=count.add)
    for (_, group), errors in zip(jobs, measured, strict=True):
        for g, each in zip(group, errors, strict=True):
            total[g], square[g] = total[g] + each.sum(), square[g] + np.square(each).sum()
    n = len(images)
    mean = total / n
    scatter = np.sqrt(np.maximum(square / n - mean**2, 0) / (n - 1))
    if not np.isfinite(mean).all():
        raise SigmaTuneError("the model returned NaN or infinity; it cannot be tuned.")
    about = {"fingerprint": model.fingerprint(), "seed": seed}
    return ErrorTable(sigmas, mean, scatter, n, about if measure is None else about | {"measure": measure.to_dict()})


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some images, the first of an index, padded to a size, and some levels of the table."""

    images: torch.Tensor
    first: int
    size: int
    seed: int
    sigmas: Array
    measure: Fitted | None


def _errors(model: Denoiser, piece: _Piece, tick: Tick) -> list[Array]:
    """The errors of the images of a piece at each of its levels; ticks at every call."""
    x0 = piece.images.to(model.device, model.dtype)
    rows, pad = range(piece.first, piece.first + len(x0)), piece.size - len(x0)
    eps = noise(piece.seed, rows, 0, model.shape, channel=TABLE_NOISE, dtype=model.dtype)
    conditioned, errors = model.rows(rows, pad), []
    for sigma in piece.sigmas:
        denoised = _denoised(conditioned, x0, eps.to(x0), float(sigma), pad)
        errors.append(_squared_error(denoised, x0, piece.measure))
        tick(1)
    return errors


def evaluations(model: Denoiser, rows: int, size: TableSize = USUAL) -> int:
    """The cost of :func:`tabulate`, in network evaluations of single rows, padding included."""
    calls = sum(model.calls_at(float(level)) for level in levels_of(model, size.levels))
    return -(-rows // size.micro_batch) * size.micro_batch * calls


def levels_of(model: Denoiser, levels: int) -> Array:
    """The levels of a table, rising: log-spaced, or the nearest timesteps of a whole-timestep network."""
    sigmas = np.geomspace(model.path.sigma_min, min(model.path.sigma_max, WIDEST), levels)
    return np.unique(model.whole_time(sigmas)) if model.integer_time else sigmas


def _denoised(model: Denoiser, x0: torch.Tensor, eps: torch.Tensor, sigma: float, pad: int) -> torch.Tensor:
    """The model's estimate of every image from its noisy version at one level, (n, *shape)."""
    z = (x0 + sigma * eps) / np.hypot(1.0, sigma)
    rows = torch.cat([z, z.new_zeros(pad, *z.shape[1:])]) if pad else z
    with torch.no_grad():
        return model(rows, sigma)[: len(x0)]


def _squared_error(denoised: torch.Tensor, x0: torch.Tensor, measure: Fitted | None) -> Array:
    """Mean squared error of every image, (n,)."""
    pairs = zip(pieces(denoised), pieces(x0), strict=True)
    if measure is not None:
        return np.concatenate([measure.squares(a, b).cpu().numpy() for a, b in pairs])
    return np.concatenate([
        (a.double() - b.double()).flatten(1).square().mean(dim=1).cpu().numpy() for a, b in pairs
    ])  # fmt: skip
