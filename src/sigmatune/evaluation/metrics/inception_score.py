r"""Inception-type score: how confident a classifier is for each image, and how diverse its predictions are.

.. math:: IS = \exp \, E_x \, KL \big( p(y | x) \, \| \, p(y) \big)

Computed by torchmetrics with one split. It uses no reference data. A classifier other than Inception has another scale,
so scores are comparable within one extractor only.

References:
    | Improved Techniques for Training GANs (Salimans et al., 2016)
    | https://arxiv.org/abs/1606.03498
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch

from sigmatune.evaluation.extractors.base import Features
from sigmatune.evaluation.metrics.base import Metric
from sigmatune.evaluation.reference_set import Statistics
from sigmatune.statistics.jackknife import Estimate, Rows, jackknife
from sigmatune.support.errors import SigmaTuneError


def score(features: Features, reference: Statistics | None) -> Mapping[str, Estimate]:  # noqa: ARG001 (needs none)
    """The score from logits, (n, classes)."""
    try:
        from torchmetrics.image.inception import InceptionScore
    except ImportError:
        raise SigmaTuneError("the Inception-type score needs torchmetrics; pip install 'sigmatune[eval]'.") from None
    logits = torch.from_numpy(np.asarray(features, dtype=np.float64))

    def of(rows: Rows) -> float:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            torch.manual_seed(0)  # it shuffles, which changes the last bits
            warnings.simplefilter("ignore")  # that it keeps the rows, and that one split has no spread
            metric = InceptionScore(feature=torch.nn.Identity(), splits=1)
            metric.update(logits[torch.from_numpy(rows)])
            return float(metric.compute()[0])

    (estimate,) = jackknife(len(logits), of)
    return {"is": estimate}


METRIC = Metric(
    "Inception-type score",
    {"is": "higher"},
    score,
    kinds=("logits",),
    needs_reference=False,
    bounds={"is": (1.0, float("inf"))},
)
