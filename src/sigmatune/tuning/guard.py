r"""The guard: a tuned plan is returned only if it beats the best static default on held-out noise.

1. The baseline is the best of a fixed, published list of defaults, chosen on the validation noises.
2. Both run on the held-out noises, once, against the converged solution: the reference's steps are doubled until the
   statistic changes by less than a tenth of the effect (or of the interval's half width, where the effect is smaller).
3. The statistic is the trimmed mean of log(err_plan / err_default) with a paired bootstrap interval. Only if the whole
   interval lies below zero is the tuned plan returned; otherwise the default is returned, with the verdict "no gain".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sigmatune.plan import Plan
from sigmatune.plan.reference import REFERENCE_FAMILY, REFERENCE_SOLVER
from sigmatune.statistics.paired import Comparison, compare
from sigmatune.statistics.sliced import sliced_wasserstein
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.workbench import MOST_REFERENCE_STEPS, Workbench


@dataclass(frozen=True)
class Judged:
    """The guard's verdict on one tuned plan.

    Attributes:
        comparison: The paired comparison on the held-out noises.
        reference_steps: Steps of the converged reference.
        change: How much the statistic changed when the reference's steps were last doubled.
        converged: Whether that change was small enough; otherwise there is no gain.
        distances: Sliced Wasserstein distance to the reference set, of the plan and of the default.
        exact: Every end point of both is the reference's, up to rounding.
    """

    comparison: Comparison
    reference_steps: int
    change: float
    converged: bool
    distances: dict[str, float]
    exact: bool = False

    @property
    def gain(self) -> bool:
        """Whether the guard returns the tuned plan."""
        return self.converged and self.comparison.gain


def judge(bench: Workbench, tuned: Plan, default: Plan) -> Judged:
    """Compares a tuned plan with the best default on the held-out noises.

    Args:
        bench: The workbench; its held-out noises are used here and nowhere else.
        tuned: The candidate.
        default: The best static default, chosen on validation.

    Raises:
        SigmaTuneError: if a plan is stochastic, because paired errors mean nothing there.
    """
    if not (tuned.coefficients.deterministic and default.coefficients.deterministic):
        raise SigmaTuneError("the guard compares end points of the same noise, so it needs deterministic plans.")
    steps = bench.settings.reference_steps
    (now, exact), change, converged = _compared(bench, tuned, default, steps), math.inf, False
    while not converged and 2 * steps <= MOST_REFERENCE_STEPS:
        before, steps = now, 2 * steps
        now, exact = _compared(bench, tuned, default, steps)
        change = abs(now.statistic - before.statistic)
        converged = change <= 0.1 * max(abs(now.statistic), (now.high - now.low) / 2)
    reference = bench.reference("held_out", steps)
    distances = {
        name: sliced_wasserstein(bench.outputs(plan, "held_out", purpose="guard"), reference, seed=bench.settings.seed)
        for name, plan in (("plan", tuned), ("default", default))
    }
    return Judged(now, steps, change, converged, distances, exact)


def _compared(bench: Workbench, tuned: Plan, default: Plan, steps: int) -> tuple[Comparison, bool]:
    """The comparison, and whether all errors of both plans are rounding."""
    errors = [bench.errors(plan, "held_out", reference_steps=steps, purpose="guard") for plan in (tuned, default)]
    return compare(*errors, seed=bench.settings.seed), all(bool((e <= bench.least).all()) for e in errors)


def evidence(bench: Workbench, judged: Judged, defaults: list[dict[str, Any]], default_label: str) -> dict[str, Any]:
    """The guard's report, as stored in a plan file.

    Args:
        bench: The workbench.
        judged: The verdict.
        defaults: The static defaults with their validation scores.
        default_label: Which of them was the baseline.
    """
    c, s = judged.comparison, bench.settings
    ratio = {name: math.exp(value) for name, value in (("value", c.statistic), ("low", c.low), ("high", c.high))}
    return {
        "verdict": _sentence(judged, ratio, default_label),
        "gain": judged.gain,
        "baseline": default_label,
        "error_ratio": ratio,
        "statistic": {"name": "trimmed mean over rows of log(err_plan / err_default)", **c.to_dict()},
        "error": "root mean square of plan minus reference, same noise, in the measure's space",
        "measure": bench.measure.to_dict(),
        "sliced_wasserstein_to_reference": judged.distances,
        "defaults_on_validation": defaults,
        "reference": {
            "family": REFERENCE_FAMILY,
            "solver": REFERENCE_SOLVER,
            "steps": judged.reference_steps,
            "statistic_change_on_doubling": judged.change if math.isfinite(judged.change) else None,
            "converged": judged.converged,
        },
        "rows": {
            "seed": s.seed,
            **{split: [r.start, r.stop] for split in ("tuning", "validation", "held_out") for r in [s.rows(split)]},
        },
        "micro_batch": s.micro_batch,
        "dtype": bench.model.arithmetic(),
    }


def _sentence(judged: Judged, ratio: dict[str, float], default_label: str) -> str:
    """The verdict in one sentence."""
    c = judged.comparison
    if judged.gain:
        return (
            f"gain: on {c.rows} held-out noises the tuned plan's error is {ratio['value']:.2f} times that of the best static "
            f"default, {default_label} ({c.confidence:.0%} interval {ratio['low']:.2f} to {ratio['high']:.2f})."
        )
    if judged.exact:
        return (
            f"no gain: on {c.rows} held-out noises both the tuned plan and the best static default, {default_label}, end where "
            "the exact solution does, up to rounding, so this is that default."
        )
    if not judged.converged:
        return (
            f"no gain: the reference did not converge within {judged.reference_steps} steps, so the comparison of "
            f"the tuned plan is inconclusive and this is the best static default, {default_label}."
        )
    return (
        f"no gain: on {c.rows} held-out noises the tuned plan is not significantly better than {default_label} "
        f"(ratio {ratio['value']:.2f}, {c.confidence:.0%} interval {ratio['low']:.2f} to {ratio['high']:.2f}), "
        "so this is that default."
    )
