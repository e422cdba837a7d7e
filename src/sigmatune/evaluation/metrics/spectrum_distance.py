r"""Spectrum distance: how far the mean power of the images is from that of the data, ring by ring, in natural logarithms.

.. math:: \Big( \frac{1}{K} \sum_{k \ge 1} \log^2 \frac{P_x(k)}{P_y(k)} \Big)^{1/2}

0.1 means that the typical ring has ten per cent too much or too little power. Ring 0, the mean colour, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sigmatune.evaluation.extractors.base import Features
from sigmatune.evaluation.metrics.base import Metric
from sigmatune.evaluation.reference_set import Statistics
from sigmatune.statistics.jackknife import Estimate, Rows, jackknife


def distance(features: Features, reference: Statistics | None) -> Mapping[str, Estimate]:
    """The distance from power per image, (n, rings)."""
    assert reference is not None
    theirs = np.log(np.maximum(reference.moments.mean[1:], 1e-12))  # uint8 has no power below 1e-6
    rows = reference.seen(features)[:, 1:]

    def of(keep: Rows) -> float:
        gap = np.log(np.maximum(rows[keep].mean(axis=0), 1e-12)) - theirs
        return float(np.sqrt(np.mean(gap**2)))

    (estimate,) = jackknife(len(rows), of)
    return {"spectrum": estimate}


METRIC = Metric(
    "Spectrum distance", {"spectrum": "lower"}, distance, source="rings", bounds={"spectrum": (0.0, float("inf"))}
)
