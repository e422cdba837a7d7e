"""Figures of a set of images: which metrics, in which spaces of which extractors, against which data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sigmatune.evaluation.extractors import Extractor, Subspace
from sigmatune.evaluation.extractors.base import Features
from sigmatune.evaluation.extractors.raw_pixels import Projections, Rings
from sigmatune.evaluation.metrics import METRICS, Metric
from sigmatune.evaluation.record import EvaluationSettings, Figure, versions
from sigmatune.evaluation.reference_set import Reference, Statistics
from sigmatune.evaluation.sample import Sample
from sigmatune.statistics.jackknife import Estimate
from sigmatune.support.engine import LOCAL, Engine, Lazily, Tick
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Count, Progress


@dataclass(frozen=True)
class Wanted:
    """The requested measurements, resolved and validated before sampling starts.

    Attributes:
        metrics: By name.
        extractor: The chosen one.
        spaces: Its spaces in which distances are measured.
    """

    metrics: dict[str, Metric]
    extractor: Extractor
    spaces: list[Subspace]

    @classmethod
    def of(cls, metrics: Sequence[str], extractor: Extractor, spaces: Sequence[str] = ()) -> Wanted:
        """Reads names; no metrics means the default ones, no spaces the extractor's default ones.

        Raises:
            SigmaTuneError: for an unknown metric or space, or a score from logits that the extractor does not have.
        """
        names = list(metrics) or [name for name, metric in METRICS.items() if metric.default]
        chosen = {METRICS.aliases.get(name, name): METRICS[name] for name in names}
        scored = [name for name, metric in chosen.items() if metric.kinds == ("logits",)]
        if scored and "logits" not in extractor.spaces:
            if metrics:
                raise SigmaTuneError(f"{scored[0]} needs the logits of a classifier; {extractor.name} has none.")
            for name in scored:
                del chosen[name]
        return cls(chosen, extractor, extractor.resolve(tuple(spaces)))

    @property
    def extractors(self) -> list[Extractor]:
        """All extractors whose features are needed."""
        of_pixels: dict[str, Extractor] = {"projections": Projections(), "rings": Rings()}
        sources = {metric.source for metric in self.metrics.values()}
        return [*([self.extractor] if "chosen" in sources else []), *(of_pixels[s] for s in of_pixels if s in sources)]

    @property
    def needs_reference(self) -> bool:
        """Whether any metric needs data to compare with."""
        return any(metric.needs_reference for metric in self.metrics.values())

    def places(self, metric: Metric) -> list[tuple[str, Subspace]]:
        """The extractor and space of each figure of a metric."""
        if metric.source != "chosen":
            return [(metric.source, Subspace(metric.source, metric.source, None, "pixels"))]
        if metric.kinds == ("logits",):
            return [(self.extractor.name, Subspace("logits", "logits", None, "logits"))]
        return [(self.extractor.name, space) for space in self.spaces if space.kind in metric.kinds]


def check(wanted: Wanted, reference: Reference | None, shape: tuple[int, ...]) -> None:
    """Refuses impossible measurements before sampling starts.

    Raises:
        SigmaTuneError: if the reference is missing, of other images or extractors, or holds too little of a space.
    """
    if reference is None:
        if wanted.needs_reference:
            named = [name for name, metric in wanted.metrics.items() if metric.needs_reference]
            need = f"{', '.join(named)} {'need' if len(named) > 1 else 'needs'} data to compare with"
            raise SigmaTuneError(f"{need}; pass --reference, a folder of images or a file.")
        return
    for extractor in wanted.extractors:
        reference.check(extractor, shape)
    for metric in wanted.metrics.values():
        for name, space in wanted.places(metric) if metric.needs_reference else []:
            reference.space(name, space)


def _estimates(piece: tuple[Metric, Features, Statistics | None], tick: Tick) -> dict[str, Estimate]:
    metric, features, known = piece
    estimates = dict(metric.estimate(features, known))
    tick(1)
    return estimates


def figures(
    sample: Sample,
    wanted: Wanted,
    reference: Reference | None,
    *,
    progress: Progress | None = None,
    engine: Engine = LOCAL,
) -> list[Figure]:
    """Measures a set of images.

    Args:
        sample: Their features.
        wanted: What to measure.
        reference: The data, if any metric needs it.
        progress: Sees the figures done.
        engine: Where the figures and their jackknives are computed.

    Raises:
        SigmaTuneError: as :func:`check` does, if there are too few images, or for a figure that is not a finite number.
    """
    check(wanted, reference, sample.shape)
    jobs = [(metric, *place) for metric in wanted.metrics.values() for place in wanted.places(metric)]
    specs = {extractor.name: extractor.spec() for extractor in wanted.extractors}
    seeds: dict[str, Any] = {
        name: sample.origin[name] for name in ("seed", "indices", "pictures") if name in sample.origin
    }
    measured, count = [], Count(progress, "metrics", len(jobs))
    count.add(0)

    def piece(i: int) -> tuple[Metric, Features, Statistics | None]:
        metric, name, space = jobs[i]
        compared = reference if metric.needs_reference else None
        return metric, sample.rows(name, space.base), None if compared is None else compared.space(name, space)

    estimates = engine.run(_estimates, [], Lazily(len(jobs), piece), tick=count.add)
    for (metric, name, space), values in zip(jobs, estimates, strict=True):
        settings = EvaluationSettings(
            n=sample.n,
            reference=reference.spec() if reference is not None and metric.needs_reference else None,
            extractor=specs[name],
            space=space.name,
            seeds=seeds,
            dtype=str(sample.origin.get("dtype", "uint8")),
            versions=versions(),
        )
        for label, estimate in values.items():
            if not np.isfinite([estimate.value, *estimate.left]).all():
                raise SigmaTuneError(f"{label} in the space {space.name} is {estimate.value}; check the images.")
            bounded = replace(estimate, bounds=metric.bounds.get(label, estimate.bounds))
            measured.append(Figure(label, metric.better[label], bounded, settings))
    return measured
