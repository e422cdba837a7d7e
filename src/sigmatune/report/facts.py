"""The data of a report: all measurements, independent of the layout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.report.residual import Residual
from sigmatune.tuning.both_numbers import BothNumbers, both_numbers


@dataclass(frozen=True)
class Point:
    """The error of one plan.

    Attributes:
        calls: Network evaluations per image.
        steps: N.
        errors: Paired errors, (rows,), positive.
        mean, low, high: Their geometric mean and its bootstrap interval.
        images: End points of the first noises, (shown, *shape); large images are shrunk.
        levels: The level of each network call, (K,).
    """

    calls: int
    steps: int
    errors: Array
    mean: float
    low: float
    high: float
    images: torch.Tensor
    levels: Array


@dataclass(frozen=True)
class ErrorCurve:
    """Error against calls of one way to choose the levels; points by number of steps."""

    name: str
    points: dict[int, Point]


@dataclass(frozen=True)
class Pair:
    """The plan and the best static default at one number of steps.

    Attributes:
        default: The guard's baseline where a plan was tuned, else the default with the smallest error here.
        name: The default's name.
        plan: None where no plan was tuned, or the plan is this default.
    """

    default: Point
    name: str
    plan: Point | None


@dataclass(frozen=True)
class Group:
    """All plans of one solver.

    Attributes:
        solver: Its name.
        defaults: One curve per static default.
        tuned: The plans, each at its own number of steps: only what was tuned is called tuned.
        pairs: By number of steps.
        reference: End points of the converged solution, (shown, *shape).
        reference_calls: The cost of one of them.
        names: The baselines of this group's plans.
        gain: Whether any of the plans is tuned.
    """

    solver: str
    defaults: list[ErrorCurve]
    tuned: ErrorCurve
    pairs: dict[int, Pair]
    reference: torch.Tensor
    reference_calls: int
    names: list[str]
    gain: bool

    @property
    def better(self) -> ErrorCurve:
        """The plans that differ from their default: the only ones that are drawn as tuned."""
        points = {n: p for n, p in self.tuned.points.items() if n in self.pairs and self.pairs[n].plan is not None}
        return replace(self.tuned, points=points)


@dataclass(frozen=True)
class View:
    """One plan, its baseline, and the location of their errors in the data.

    Attributes:
        plan, default: The plan and its baseline.
        levels: (name, levels of the network calls) of the plan, of its baseline, and of the other defaults, in this
            order.
        residual: Of the plan and of the default, over all held-out noises; None where the data is not an image.
        exact: The converged solution's own power per ring; None where the data is not an image.
    """

    plan: Plan
    default: Plan
    levels: list[tuple[str, Array]]
    residual: tuple[Residual, Residual] | None
    exact: Residual | None

    @property
    def evidence(self) -> dict[str, Any]:
        """The guard's report."""
        return dict(self.plan.evidence or {})

    @property
    def both(self) -> BothNumbers:
        """The ratio of errors and that of distances of sets."""
        numbers = both_numbers(self.evidence)
        assert numbers is not None  # only plans with evidence of pairs are reported
        return numbers

    @property
    def gain(self) -> bool:
        """Whether the plan is a tuned one and not the default."""
        return bool(self.evidence["gain"])


@dataclass(frozen=True)
class ReportFacts:
    """All data of a report.

    Attributes:
        shape: Of one sample.
        value_range: The range of clean data.
        sigma_min: Smallest level of the model.
        rows: Noises of the error against calls.
        held_out: Noises of the guard.
        views: One per plan.
        groups: One per solver.
        cost: The cost of measuring, as :meth:`Workbench.meter` counts.
        latents: Whether samples had to be decoded to be shown.
    """

    shape: tuple[int, ...]
    value_range: tuple[float, float]
    sigma_min: float
    rows: int
    held_out: int
    views: list[View]
    groups: list[Group]
    cost: dict[str, Any]
    latents: bool = False

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of what is shown: of one sample, shrunk where it is large, decoded where it is a latent."""
        return tuple(self.groups[0].reference.shape[1:])
