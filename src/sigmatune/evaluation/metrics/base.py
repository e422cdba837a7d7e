"""The definition of a metric of two sets of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sigmatune.evaluation.extractors.base import Features, Kind
from sigmatune.evaluation.reference_set import Statistics
from sigmatune.statistics.jackknife import Estimate

Better = Literal["lower", "higher"]
Source = Literal["chosen", "projections", "rings"]


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        title: Its name in tables.
        better: For each of its figures by name, which direction is better.
        estimate: Computes its figures from the features of the generated images, (n, D), and the reference's statistics
            (None if it needs none).
        source: The extractor whose features it uses: the user's choice, or its own.
        kinds: The kinds of space in which it is meaningful.
        default: Whether it is reported by default.
        needs_reference: Whether it compares with data.
        bounds: The values that its figures can have; their intervals end there.
    """

    title: str
    better: Mapping[str, Better]
    estimate: Callable[[Features, Statistics | None], Mapping[str, Estimate]]
    source: Source = "chosen"
    kinds: tuple[Kind, ...] = ("texture", "semantic", "pixels", "other")
    default: bool = True
    needs_reference: bool = True
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
