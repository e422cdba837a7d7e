"""The guard's report, as a plan file stores it, and its verdict in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sigmatune.plan.reference import REFERENCE_FAMILY, REFERENCE_SOLVER
from sigmatune.statistics.paired import Comparison
from sigmatune.support.errors import SigmaTuneError, sentence
from sigmatune.tuning.guard import Judged
from sigmatune.tuning.no_loss import FALSE_ALARMS, MARGIN
from sigmatune.tuning.workbench import Workbench


def evidence(
    bench: Workbench,
    judged: Judged,
    defaults: list[dict[str, Any]],
    default_label: str,
    *,
    searched_label: str | None = None,
) -> dict[str, Any]:
    """The guard's report.

    Args:
        bench: The workbench.
        judged: The verdict.
        defaults: The static defaults with their validation scores.
        default_label: Which of them was the baseline.
        searched_label: What the best family with searched ends is called.
    """
    return {
        "verdict": verdict(judged, default_label),
        "gain": judged.gain,
        "baseline": default_label,
        "error_ratio": ratio(judged.comparison),
        "statistic": {"name": "trimmed mean over rows of log(err_plan / err_default)", **judged.comparison.to_dict()},
        "error": "root mean square of plan minus reference, same noise, in the measure's space",
        "measure": bench.measure.to_dict(),
        "no_loss": no_loss(judged),
        "sets": sets(bench, judged),
        "other_measures": {name: {"error_ratio": ratio(other)} for name, other in judged.others.items()},
        **_searched(judged, searched_label),
        "sliced_wasserstein_to_reference": judged.distances,
        "defaults_on_validation": defaults,
        "reference": {
            "family": REFERENCE_FAMILY,
            "solver": REFERENCE_SOLVER,
            "steps": judged.reference_steps,
            "statistic_change_on_doubling": judged.change if math.isfinite(judged.change) else None,
            "converged": judged.converged,
        },
        "rows": _rows(bench),
        "micro_batch": bench.settings.micro_batch,
        "dtype": bench.model.arithmetic(),
    }


def _rows(bench: Workbench) -> dict[str, Any]:
    """Seed and index ranges of the noises."""
    s = bench.settings
    ranges = {split: s.rows(split) for split in ("tuning", "validation", "held_out")}
    return {"seed": s.seed, **{split: [rows.start, rows.stop] for split, rows in ranges.items()}}


def ratio(c: Comparison) -> dict[str, float]:
    """The typical ratio of errors with its interval."""
    return {name: math.exp(value) for name, value in (("value", c.statistic), ("low", c.low), ("high", c.high))}


def no_loss(judged: Judged) -> dict[str, Any]:
    """The second half of the guard."""
    return {
        "held": not judged.lost,
        "rule": f"the mean error is at most {MARGIN:.0%} larger, and nothing is significantly larger",
        "false_alarm_rate": FALSE_ALARMS,
        "correction": "Holm",
        "test": "one-sided Student's t of the plan minus the baseline, jackknife over held-out noises",
        "tests": [loss.to_dict() for loss in judged.losses],
    }


def sets(bench: Workbench, judged: Judged) -> dict[str, Any]:
    """The distances of both sets of end points from the reference's."""
    distances = {
        loss.name: {"plan": loss.plan, "baseline": loss.rival} for loss in judged.losses if "distance" in loss.name
    }
    return {"space": bench.measure.name, "rows": judged.comparison.rows, **distances}


def _searched(judged: Judged, label: str | None) -> dict[str, Any]:
    """What the plan gains over the best family with searched ends."""
    if judged.searched is None or label is None:
        return {}
    return {"best_searched_family": {"name": label, "error_ratio": ratio(judged.searched)}}


def verdict(judged: Judged, default_label: str) -> str:
    """The verdict in one sentence."""
    c, r = judged.comparison, ratio(judged.comparison)
    span = f"{c.confidence:.0%} interval {r['low']:.2f} to {r['high']:.2f}"
    if judged.gain:
        return (
            f"gain: on {c.rows} held-out noises the tuned plan's error is {r['value']:.2f} times that of the best static "
            f"default, {default_label} ({span})."
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
    if c.gain:
        return (
            f"no gain: on {c.rows} held-out noises the tuned plan's typical error is {r['value']:.2f} times that of "
            f"{default_label}, but it is worse in its {_lost(judged)}, so this is that default."
        )
    return (
        f"no gain: on {c.rows} held-out noises the tuned plan is not significantly better than {default_label} "
        f"(ratio {r['value']:.2f}, {span}), so this is that default."
    )


def _lost(judged: Judged) -> str:
    """What the plan is worse in, the surest first, with the numbers of the first."""
    first, *others = sorted(judged.lost, key=lambda loss: loss.adjusted)
    numbers = f"{first.name} ({first.plan:.3g} against {first.rival:.3g}, p = {first.adjusted:.2g})"
    return " and ".join([numbers, *(loss.name for loss in others)])


def statement(evidence: Mapping[str, Any]) -> list[str]:
    """What else an evidence says, a line each: the tests of the second half, other measures, the best searched family.

    Raises:
        SigmaTuneError: if these parts are not what :func:`evidence` wrote.
    """
    try:
        tests = [_of_test(test) for test in evidence.get("no_loss", {}).get("tests", ())]
        others = {f"error by the measure {name}": one for name, one in evidence.get("other_measures", {}).items()}
        if family := evidence.get("best_searched_family"):
            others[f"error against the best family with searched ends, {family['name']}"] = family
        ratios = [_of_ratio(what, one["error_ratio"]) for what, one in others.items()]
        return [sentence(line) for line in (*tests, *ratios)]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise SigmaTuneError("the evidence of this plan is none that SigmaTune wrote; tune the plan again.") from None


def _of_test(test: Mapping[str, Any]) -> str:
    said = "worse" if test["lost"] else "no worse"
    return f"{test['name']}: {test['plan']:.4g}, baseline {test['rival']:.4g} ({said}, p = {test['adjusted_p']:.2g})"


def _of_ratio(what: str, r: Mapping[str, float]) -> str:
    return f"{what}: ratio {r['value']:.2f} ({r['low']:.2f} to {r['high']:.2f})"
