r"""The guard: a tuned plan is returned only if it beats the best static default on held-out noise and loses nothing beside it.

1. The baseline is the best of a fixed, published list of defaults, chosen on the validation noises
   (:mod:`sigmatune.tuning.baseline`).
2. Both run on the held-out noises, once, against the converged solution: the reference's steps are doubled until the
   statistic changes by less than a tenth of the effect (or of the interval's half width, where the effect is smaller).
3. First half: the statistic is the trimmed mean of log(err_plan / err_default) with a paired bootstrap interval. The whole
   interval has to lie below zero.
4. Second half (:mod:`sigmatune.tuning.no_loss`): the untrimmed mean of the plan's error is at most 2 % larger, and the
   plan is not significantly worse in that mean, in the upper tail of its error, or in the distance of its set of end points
   from the reference's.

Otherwise the default is returned, with the verdict "no gain" and the reason. What other measures say, and how much of the gain
a family with searched ends would have brought, is measured on the same noises and reported; it decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from sigmatune import measures
from sigmatune.measures import MEASURES, Fitted
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.statistics.paired import Comparison, compare
from sigmatune.statistics.sliced import sliced_wasserstein
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.frechet_sets import frechet
from sigmatune.tuning.measure_choice import measurable, precision
from sigmatune.tuning.no_loss import EndPoints, Loss, losses
from sigmatune.tuning.workbench import MOST_REFERENCE_STEPS, Workbench


@dataclass(frozen=True)
class Judged:
    """The guard's verdict on one tuned plan.

    Attributes:
        comparison: The paired comparison on the held-out noises.
        reference_steps: Steps of the converged reference.
        change: How much the statistic changed when the reference's steps were last doubled.
        converged: Whether that change was small enough; otherwise there is no gain.
        distances: Sliced Wasserstein distance to the reference set, of the plan and of the default, in the data's own space.
        exact: Every end point of both is the reference's, up to rounding.
        losses: The tests of the second half.
        others: The comparison by every other measure of the samples, by its name.
        searched: The comparison of the plan with the best family with searched ends, if there is one.
    """

    comparison: Comparison
    reference_steps: int
    change: float
    converged: bool
    distances: dict[str, float]
    exact: bool = False
    losses: tuple[Loss, ...] = ()
    others: Mapping[str, Comparison] = field(default_factory=dict)
    searched: Comparison | None = None

    @property
    def lost(self) -> list[Loss]:
        """What the plan is refused for."""
        return [loss for loss in self.losses if loss.lost]

    @property
    def gain(self) -> bool:
        """Whether the guard returns the tuned plan."""
        return self.converged and self.comparison.gain and not self.lost


def judge(
    bench: Workbench,
    tuned: Plan,
    default: Plan,
    *,
    searched: Plan | None = None,
    affordable: Callable[[int], bool] = lambda steps: True,
) -> Judged:
    """Compares a tuned plan with the best default on the held-out noises.

    Args:
        bench: The workbench; its held-out noises are used here and nowhere else.
        tuned: The candidate.
        default: The best static default, chosen on validation.
        searched: The best family with searched ends, found on the tuning noises; compared with the candidate, too.
        affordable: Whether a limit in time pays for a reference of so many steps; the first doubling always counts.

    Raises:
        SigmaTuneError: if a plan is stochastic, because paired errors mean nothing there.
    """
    plans = [tuned, default, *([] if searched is None else [searched])]
    if not all(plan.coefficients.deterministic for plan in plans):
        raise SigmaTuneError("the guard compares end points of the same noise, so it needs deterministic plans.")
    steps = bench.settings.reference_steps
    (now, errors), change, converged = _compared(bench, tuned, default, steps), math.inf, False
    while not converged and 2 * steps <= MOST_REFERENCE_STEPS and affordable(2 * steps):
        before, steps = now, 2 * steps
        now, errors = _compared(bench, tuned, default, steps)
        change = abs(now.statistic - before.statistic)
        converged = change <= 0.1 * max(abs(now.statistic), (now.high - now.low) / 2)
    seed, exact = bench.settings.seed, bench.reference("held_out", steps)
    points = [bench.outputs(plan, "held_out", purpose="guard") for plan in (tuned, default)]
    ends = EndPoints(points[0], points[1], exact, errors)
    return Judged(
        now,
        steps,
        change,
        converged,
        {name: sliced_wasserstein(x, exact, seed=seed) for name, x in zip(("plan", "default"), points, strict=True)},
        all(bool((e <= bench.least).all()) for e in errors),
        tuple(losses(bench.measure, ends, seed=seed, features=frechet(bench.model, ends, bench.engine))),
        _by_other_measures(bench, ends),
        None if searched is None else _against(bench, errors[0], searched, steps),
    )


def _compared(bench: Workbench, tuned: Plan, default: Plan, steps: int) -> tuple[Comparison, tuple[Array, Array]]:
    """The comparison, and the errors of both plans."""
    errors = [bench.errors(plan, "held_out", reference_steps=steps, purpose="guard") for plan in (tuned, default)]
    return compare(*errors, seed=bench.settings.seed), (errors[0], errors[1])


def _against(bench: Workbench, errors: Array, plan: Plan, steps: int) -> Comparison:
    """The comparison of the tuned plan's errors with another plan's."""
    other = bench.errors(plan, "held_out", reference_steps=steps, purpose="guard")
    return compare(errors, other, seed=bench.settings.seed)


def _by_other_measures(bench: Workbench, ends: EndPoints) -> dict[str, Comparison]:
    """The comparison by every linear measure that suits the samples, other than the workbench's."""
    tuning, compared = measurable(bench.reference("tuning")), {}
    for name, measure in MEASURES.items():
        if measure.linear and name != bench.measure.name and measure.suits(tuple(bench.model.shape)) is None:
            fitted = measures.fit(name, tuning, bench.model)
            error = _errors(fitted, ends.exact, fitted.rounding(precision(bench.model)))
            compared[name] = compare(error(ends.plan), error(ends.rival), seed=bench.settings.seed)
    return compared


def _errors(measure: Fitted, exact: torch.Tensor, least: float) -> Callable[[torch.Tensor], Array]:
    return lambda x: np.asarray(measure.errors(x, exact).clamp(min=least).numpy())
