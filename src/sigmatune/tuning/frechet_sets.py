"""Frechet distances of held-out sets of images, for the guard: where an extractor is installed and the rows are enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation.extractors.base import Extractor, Features, principal
from sigmatune.models.travel import device_of, held
from sigmatune.noise import Array
from sigmatune.statistics.frechet import Gaussian
from sigmatune.statistics.jackknife import Rows
from sigmatune.statistics.moments import Moments
from sigmatune.statistics.pieces import pieces
from sigmatune.support.engine import LOCAL, Engine, Lazily, Tick
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.pixels import Pixels, to_pixels
from sigmatune.tuning.no_loss import EndPoints, Quantity

FRECHET_ROWS = 256
"""Fewest held-out rows: more than twice the numbers of the wider space, block10."""

EXTRACTOR = "efficientnet-lite0"

PIECE = 64
"""Rows whose features are taken at once."""


def frechet(model: Denoiser, ends: EndPoints, engine: Engine = LOCAL) -> list[tuple[str, tuple[Quantity, Quantity]]]:
    """The Frechet distances of two sets of images from the reference's, in both default spaces of the extractor.

    Args:
        model: Decodes the end points and knows their range of values.
        ends: End points of at least :data:`FRECHET_ROWS` rows.
        engine: Where they are decoded and their features taken.

    Returns:
        Quantities for :func:`sigmatune.tuning.no_loss.compared`; none for fewer rows, for data that are no images, and where
        the extractor is not installed.
    """
    if len(ends.exact) < FRECHET_ROWS or len(model.shape) != 3:
        return []
    from sigmatune.evaluation.extractors import EXTRACTORS

    try:
        extractor = EXTRACTORS[EXTRACTOR](device=model.device)
    except SigmaTuneError:  # not installed
        return []
    seen = _seen(model, extractor, ends, engine)
    if seen is None:
        return []
    quantities = []
    for space in extractor.resolve(()):
        plan, rival, exact = (features[space.base].astype(np.float64) for features in seen)
        basis = None if space.components is None else principal(Moments.of(exact).covariance, space.components)
        pair = distance(plan, exact, basis), distance(rival, exact, basis)
        quantities.append((f"Frechet distance in {space.name}", pair))
    return quantities


def distance(of_plan: Array, of_exact: Array, basis: Array | None) -> Callable[[Rows], float]:
    """The Frechet distance of the rows of two sets of features, projected to a basis first."""
    x, y = (features if basis is None else features @ basis for features in (of_plan, of_exact))
    return lambda rows: Gaussian.of(Moments.of(x[rows])).distance(Gaussian.of(Moments.of(y[rows])))


def _seen(model: Denoiser, extractor: Extractor, ends: EndPoints, engine: Engine) -> list[dict[str, Features]] | None:
    """The features of the three sets; None if they are no images after decoding."""
    from sigmatune.evaluation.extractors import held as held_extractors

    rows = len(ends.exact)
    places = [(x, first) for x in (ends.plan, ends.rival, ends.exact) for first in range(0, rows, PIECE)]

    def piece(i: int) -> torch.Tensor:
        x, first = places[i]
        part = x[first : first + PIECE]
        return part.clone() if engine.workers else part  # a view would travel with all that it is a view of

    things = [held(model), held_extractors([extractor], tuple(model.pixel_shape), device_of(model))]
    parts: list[dict[str, Features]] = []
    for features in engine.run(_features, things, Lazily(len(places), piece)):
        if features is None:
            return None
        parts.append(features)
    each = len(parts) // 3
    return [
        {space: np.concatenate([part[space] for part in parts[first : first + each]]) for space in parts[0]}
        for first in range(0, len(parts), each)
    ]


def _features(model: Denoiser, extractors: list[Any], x: torch.Tensor, tick: Tick) -> dict[str, Features] | None:
    """The features of some end points; None if they are no images after decoding."""
    try:
        pixels = _pixels(model, x)
    except SigmaTuneError:
        return None
    tick(len(x))
    features: dict[str, Features] = extractors[0](pixels)
    return features


def _pixels(model: Denoiser, x: torch.Tensor) -> Pixels:
    return np.concatenate([to_pixels(model.decode(part), model.value_range) for part in pieces(x)])
