"""Metrics by name. A new metric is a file with a ``METRIC`` and a line here; the law tests cover it."""

from __future__ import annotations

from sigmatune.evaluation.metrics import frechet_distance as frechet
from sigmatune.evaluation.metrics import inception_score, kernel, neighbours
from sigmatune.evaluation.metrics import sliced_wasserstein as sliced
from sigmatune.evaluation.metrics import spectrum_distance as spectrum
from sigmatune.evaluation.metrics.base import Metric
from sigmatune.support.registry import Registry

METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "fd": frechet.METRIC,
        "kid": kernel.METRIC,
        "is": inception_score.METRIC,
        "prdc": neighbours.METRIC,
        "sw": sliced.METRIC,
        "spectrum": spectrum.METRIC,
        "fd-infinite": frechet.INFINITE,
    },
    aliases={"fid": "fd"},
)
"""The metrics of a set of images against a reference, by the name that the command line knows."""

__all__ = ["METRICS", "Metric"]
