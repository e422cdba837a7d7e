r"""Both numbers of a plan's evidence: the ratio of errors, and the ratio of distances of sets.

The error says how far every sample is from the converged one of its noise, the distance how far all samples together are from
the converged ones as a set. Which distance leads is fixed:

1. a Frechet distance, where the guard had the extractor and the rows: the first space's, stated as usual, without a root;
2. otherwise the energy distance D (``sigmatune.statistics.energy``), the root of what the evidence holds.

.. math:: r = \frac{D(\text{plan}, \text{converged})}{D(\text{baseline}, \text{converged})}

The estimate of D^2 is unbiased, so few rows may put it at or below 0: the plan's counts as 0, and with such a baseline there is
no ratio. Whether the two distances differ significantly is the guard's paired jackknife test, here two-sided at 95% and without
its correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from sigmatune.support.errors import SigmaTuneError

FRECHET, ENERGY = "Frechet distance", "squared energy distance"

SURE = 0.025
"""A one-sided p-value at most this far from 0 or 1 is significant."""

LEAST = 1e-12
"""A squared distance of sets, as a share of the data's size, that is rounding."""

UNSURE = "(not significantly)"
"""Beside a distance of sets that does not differ significantly."""

SAME = 0.005
"""Ratios this near to 1 are 1 with the two digits that are shown."""


@dataclass(frozen=True)
class BothNumbers:
    """The ratio of errors and that of distances of sets, tuned plan over baseline; below 1 the plan is better.

    Attributes:
        error, low, high: The typical ratio of the errors, with its interval.
        sets: The ratio of the distances of the sets; None where it was not measured.
        distance: What that distance is called.
        rows: How many noises both are of.
        p: One-sided p-value of a farther set, without a correction; None where it was not measured.
    """

    error: float
    low: float
    high: float
    sets: float | None = None
    distance: str | None = None
    rows: int | None = None
    p: float | None = None

    @property
    def large(self) -> str:
        """Both in a few large words: ``18% less error, 44% nearer as a set``; :data:`UNSURE` where this is not significant."""
        error = _share(self.error, "less", "more", "equal") + " error"
        if self.sets is None:
            return error
        if self.sets < SAME:
            return f"{error}, no measurable distance as a set"
        but = ", but" if self.opposite else ","
        said = f"{error}{but} {_share(self.sets, 'nearer', 'farther', 'equally near')} as a set"
        return said if self.sure or abs(self.sets - 1) < SAME else f"{said} {UNSURE}"

    @property
    def shown_error(self) -> str:
        """The ratio of errors with its interval."""
        return f"{self.error:.2f} ({self.low:.2f}-{self.high:.2f})"

    @property
    def shown_sets(self) -> str:
        """The ratio of the distances; a dash where there is none."""
        return "-" if self.sets is None else f"{self.sets:.2f}"

    @property
    def sentence(self) -> str:
        """The distance of the sets in one sentence, and in a second one a contradiction; "" if not measured."""
        if self.sets is None:
            return ""
        side = "farther" if self.sets > 1 else "nearer"
        sure = f"significantly {side}" if self.sure else f"not significantly {side}"
        if abs(self.sets - 1) < SAME:  # the digits that are shown say equal, so the words do, too
            sure = "equally near"
        said = (
            f"As a set the tuned plan's samples are {self.sets:.2f} times as far from the converged ones as the baseline's "
            f"({self.distance}, {self.rows} noises; {sure})."
        )
        return " ".join(part for part in (said, self.contradiction) if part)

    @property
    def sure(self) -> bool:
        """Whether the distances of the sets differ significantly."""
        return self.p is not None and not SURE < self.p < 1 - SURE

    @property
    def opposite(self) -> bool:
        """Whether one ratio is below 1 and the other above."""
        if self.sets is None or min(abs(self.error - 1), abs(self.sets - 1)) < SAME:
            return False
        return (self.error < 1) != (self.sets < 1)

    @property
    def contradiction(self) -> str:
        """Whether error and sets contradict each other, in one sentence; "" if not."""
        if not self.opposite:
            return ""
        of_error = not self.low <= 1 <= self.high
        better = self.error < 1
        said = f"the error is {'smaller' if better else 'larger'}, the set {'farther' if better else 'nearer'}"
        if of_error and self.sure:
            return f"The two numbers contradict each other: {said}, both significantly."
        if of_error or self.sure:
            which = "error" if of_error else "distance of sets"
            return f"The two numbers contradict each other: {said}; only the {which} differs significantly."
        return f"The two numbers point in opposite directions ({said}), neither of them significantly."

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        sets = None if self.sets is None else {
            "value": self.sets, "distance": self.distance, "rows": self.rows, "significant": self.sure
        }  # fmt: skip
        return {
            "error_ratio": {"value": self.error, "low": self.low, "high": self.high},
            "set_ratio": sets,
            "contradict": self.opposite,
        }


def both_numbers(evidence: Mapping[str, Any] | None) -> BothNumbers | None:
    """Derives both numbers from a plan's evidence.

    Args:
        evidence: The plan's. Evidence from before there were distances of sets has the error alone.

    Returns:
        Both, or None without evidence of pairs (a plan that was not tuned, or one whose guard compared images with data).

    Raises:
        SigmaTuneError: if these parts are not what :func:`sigmatune.tuning.guard_evidence.evidence` wrote.
    """
    if not evidence or "error_ratio" not in evidence:
        return None
    try:
        error = {name: float(evidence["error_ratio"][name]) for name in ("value", "low", "high")}
        sets = evidence.get("sets", {})
        name = _leading(sets)
        if name is None or not (baseline := float(sets[name]["baseline"])) > LEAST:
            return BothNumbers(error["value"], error["low"], error["high"])
        ratio = max(float(sets[name]["plan"]), 0.0) / baseline
        squared = name == ENERGY
        tests = evidence.get("no_loss", {}).get("tests", ())
        p = next((float(test["p"]) for test in tests if test["name"] == name), None)
        return BothNumbers(
            error["value"], error["low"], error["high"], sqrt(ratio) if squared else ratio,
            name.removeprefix("squared ") if squared else name, int(sets["rows"]), p,
        )  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError):
        raise SigmaTuneError("the evidence of this plan is none that SigmaTune wrote; tune the plan again.") from None


def lead(evidence: Mapping[str, Any] | None) -> list[str]:
    """What is said of a plan first, a line each: for a gain both numbers in a few words, the verdict, the distance of sets.

    Raises:
        SigmaTuneError: as for :func:`both_numbers`.
    """
    both, known = both_numbers(evidence), evidence or {}
    verdict = str(known.get("verdict", "this plan carries no evidence."))
    if both is None:
        return [verdict]
    large = [f"{both.large}."] if known.get("gain") is True else []
    return [*large, verdict, *([both.sentence] if both.sentence else [])]


def _leading(sets: Mapping[str, Any]) -> str | None:
    """The distance that leads."""
    return next((name for name in sets if name.startswith(FRECHET)), ENERGY if ENERGY in sets else None)


def _share(ratio: float, below: str, above: str, equal: str) -> str:
    """How much a ratio is below or above 1, in words."""
    if abs(ratio - 1) < SAME:
        return equal
    return f"{abs(1 - ratio):.0%} {below if ratio < 1 else above}"
