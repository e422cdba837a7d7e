"""Metrics by name. A new metric is a file with a ``METRIC`` and a line here; the law tests cover it."""

from __future__ import annotations

from sigmatune.evaluation.metrics import frechet, inception_score, kernel, neighbours, sliced, spectrum
from sigmatune.evaluation.metrics.metric import Metric
from sigmatune.registry import Registry

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
