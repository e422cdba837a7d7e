r"""Precision and recall, density and coverage: fidelity and diversity separately, by k nearest neighbours.

With :math:`B(y_j)` the ball around an image of the data that reaches to its k-th neighbour among the data, and
:math:`B(x_i)` the same among the generated ones,

.. math:: \text{precision} = \overline{[x_i \in \cup_j B(y_j)]}, \quad \text{recall} = \overline{[y_j \in \cup_i B(x_i)]},
          \quad \text{density} = \tfrac{1}{k} \overline{\textstyle\sum_j [x_i \in B(y_j)]}, \quad
          \text{coverage} = \overline{[\exists i: x_i \in B(y_j)]}

References:
    | Improved Precision and Recall Metric for Assessing Generative Models (Kynkaanniemi et al., 2019)
    | https://arxiv.org/abs/1904.06991
    | Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020)
    | https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.spatial.distance import cdist

from sigmatune.evaluation.extractors.base import Features
from sigmatune.evaluation.metrics.base import Metric
from sigmatune.evaluation.reference_set import Statistics
from sigmatune.noise import Array
from sigmatune.statistics.jackknife import Estimate, Rows, jackknife
from sigmatune.support.errors import SigmaTuneError

K = 5
MOST = 5000
"""Most rows of either side; memory grows with the square."""


def manifolds(features: Features, reference: Statistics | None) -> Mapping[str, Estimate]:
    """The four numbers for equally many generated and real images: as many as the smaller side has, at most MOST."""
    assert reference is not None
    n = min(len(features), len(reference.rows), MOST)
    if n <= 2 * K:
        raise SigmaTuneError(f"precision and recall need more than {2 * K} images on either side, not {n}.")
    x, y = reference.seen(features[:n]), reference.rows[:n].astype(np.float64)
    within, between = _distances(x, x), _distances(x, y)
    real = _radii(_distances(y, y))

    def four(keep: Rows) -> tuple[float, ...]:
        inside = between[keep] <= real
        reached = between[keep] <= _radii(within[np.ix_(keep, keep)])[:, None]
        return (
            float(inside.any(axis=1).mean()),
            float(reached.any(axis=0).mean()),
            float(inside.sum(axis=1).mean() / K),
            float(inside.any(axis=0).mean()),
        )

    return dict(zip(("precision", "recall", "density", "coverage"), jackknife(n, four), strict=True))


def _distances(x: Array, y: Array) -> Features:
    return np.concatenate([cdist(x[i : i + 500], y).astype(np.float32) for i in range(0, len(x), 500)])


def _radii(distances: Features) -> Features:
    """The distance of each row to its K-th neighbour; the nearest is the row itself."""
    return np.asarray(np.partition(distances, K, axis=1)[:, K])


METRIC = Metric(
    "Precision, recall, density, coverage",
    {"precision": "higher", "recall": "higher", "density": "higher", "coverage": "higher"},
    manifolds,
    bounds={**dict.fromkeys(("precision", "recall", "coverage"), (0.0, 1.0)), "density": (0.0, float("inf"))},
)
