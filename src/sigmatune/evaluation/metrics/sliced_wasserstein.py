r"""Sliced Wasserstein distance of the images themselves, in [-1, 1], over fixed random directions.

.. math:: SW_2^2 = \overline{\int_0^1 \big( F^{-1}_{\theta^T x}(u) - F^{-1}_{\theta^T y}(u) \big)^2 du}

References:
    | Sliced and Radon Wasserstein Barycenters of Measures (Bonneel et al., 2015)
    | https://doi.org/10.1007/s10851-014-0506-3
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sigmatune.evaluation.extractors.base import Features
from sigmatune.evaluation.metrics.base import Metric
from sigmatune.evaluation.reference_set import Statistics
from sigmatune.statistics.jackknife import Estimate, Rows, jackknife

LEVELS = (np.arange(500) + 0.5) / 500
"""Quantiles at which samples are compared, so that their sizes may differ."""


def distance(features: Features, reference: Statistics | None) -> Mapping[str, Estimate]:
    """The distance per direction, 0 for equal sets."""
    assert reference is not None
    theirs = np.quantile(reference.rows.astype(np.float64), LEVELS, axis=0)
    rows = reference.seen(features)

    def of(keep: Rows) -> float:
        return float(np.sqrt(np.mean((np.quantile(rows[keep], LEVELS, axis=0) - theirs) ** 2)))

    (estimate,) = jackknife(len(rows), of)
    return {"sw": estimate}


METRIC = Metric(
    "Sliced Wasserstein distance", {"sw": "lower"}, distance, source="projections", bounds={"sw": (0.0, float("inf"))}
)
