"""Frechet distances of held-out sets of images, for the guard: where an extractor is installed and the rows are enough."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation.extractors.base import principal
from sigmatune.noise import Array
from sigmatune.statistics.frechet import Gaussian
from sigmatune.statistics.jackknife import Rows
from sigmatune.statistics.moments import Moments
from sigmatune.statistics.pieces import pieces
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.pixels import Pixels, to_pixels
from sigmatune.tuning.no_loss import EndPoints, Quantity

FRECHET_ROWS = 256
"""Fewest held-out rows: more than twice the numbers of the wider space, block10."""

EXTRACTOR = "efficientnet-lite0"


def frechet(model: Denoiser, ends: EndPoints) -> list[tuple[str, tuple[Quantity, Quantity]]]:
    """The Frechet distances of two sets of images from the reference's, in both default spaces of the extractor.

    Args:
        model: Decodes the end points and knows their range of values.
        ends: End points of at least :data:`FRECHET_ROWS` rows.

    Returns:
        Quantities for :func:`sigmatune.tuning.no_loss.compared`; none for fewer rows, for data that are no images, and where
        the extractor is not installed.
    """
    if len(ends.exact) < FRECHET_ROWS or len(model.shape) != 3:
        return []
    seen = []
    with suppress(SigmaTuneError):  # no images after decoding, or no extractor
        from sigmatune.evaluation.extractors import EXTRACTORS

        extractor = EXTRACTORS[EXTRACTOR](device=model.device)
        seen = [extractor(_pixels(model, x)) for x in (ends.plan, ends.rival, ends.exact)]
    if not seen:
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


def _pixels(model: Denoiser, x: torch.Tensor) -> Pixels:
    return np.concatenate([to_pixels(model.decode(part), model.value_range) for part in pieces(x)])
