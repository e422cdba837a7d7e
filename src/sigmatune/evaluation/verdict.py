r"""One verdict over all figures of a plan and of its rival, by a stated rule, and hints on figures that are alarming.

Both ran on the same noises, so every figure has a paired difference :math:`\Delta` with a jackknife standard error. All figures
are tested together, two-sided by Student's t, with Holm's correction, so that a false alarm in any of them is as rare as 5%:

1. **gain**: some figure is significantly better and none is significantly worse;
2. **no gain**, worse: the other way round;
3. **contradiction**: some are significantly better and others significantly worse; no figure outvotes another;
4. **no gain**, no difference: none is significant; figures that are equal to the last digit are those of the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy.special import stdtr

from sigmatune.evaluation.record import Figure
from sigmatune.statistics.holm import holm

SURE = 0.05
NAMED = 3
"""Most figures that the verdict names with their values."""

FEW, POOR = 2000, 0.1
"""Images below which figures are mostly noise and bias, and shares of the neighbours' metrics that are alarming."""

RULE = "all figures together, paired jackknife, two-sided t, Holm's correction, 5%"


@dataclass(frozen=True)
class Beside:
    """A figure of a plan beside its rival's.

    Attributes:
        figure, rival: The two.
        p: The two-sided p-value of their difference, corrected for the number of figures.
    """

    figure: Figure
    rival: Figure
    p: float

    @property
    def side(self) -> str:
        """``better``, ``worse``, or ``level`` where the difference is not significant."""
        gap = self.figure.estimate.value - self.rival.estimate.value
        if self.p > SURE or gap == 0:
            return "level"
        return "better" if (gap < 0) == (self.figure.better == "lower") else "worse"

    @property
    def words(self) -> str:
        """The figure and both values."""
        name = f"{self.figure.name} {self.figure.settings.space}".strip()
        return f"{name} {self.figure.estimate.value:.3g} against {self.rival.estimate.value:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        gap = self.figure.minus(self.rival)
        return {
            "name": self.figure.name, "space": self.figure.settings.space, "value": self.figure.estimate.value,
            "rival": self.rival.estimate.value, "difference": gap.value, "low": gap.interval[0], "high": gap.interval[1],
            "adjusted_p": self.p, "side": self.side,
        }  # fmt: skip


def beside(figures: Sequence[Figure], rivals: Sequence[Figure]) -> list[Beside]:
    """Pairs the figures of two plans on the same noises.

    Args:
        figures, rivals: Of the plan and of its rival, in the same order.

    Raises:
        SigmaTuneError: if two figures cannot be compared.
    """
    raw = [_two_sided(figure, rival) for figure, rival in zip(figures, rivals, strict=True)]
    return [Beside(figure, rival, p) for figure, rival, p in zip(figures, rivals, holm(raw), strict=True)]


def _two_sided(figure: Figure, rival: Figure) -> float:
    gap = figure.minus(rival)
    if gap.error == 0:
        return 1.0 if gap.value == 0 else 0.0
    return float(2 * stdtr(len(gap.left) - 1, -abs(gap.value) / gap.error))


def verdict(pairs: Sequence[Beside], rival: str) -> str:
    """The verdict in one sentence; the module states its rule.

    Args:
        pairs: All figures.
        rival: What the rival is called.
    """
    better, worse = ([pair for pair in pairs if pair.side == side] for side in ("better", "worse"))
    count = f"{len(pairs)} figures" if len(pairs) != 1 else "1 figure"
    if better and worse:
        return (
            f"contradiction: of {count} beside {rival}'s, {len(better)} significantly better ({_named(better)}) and "
            f"{len(worse)} significantly worse ({_named(worse)}); decide by the one that matters to you."
        )
    if better:
        return f"gain: {len(better)} of {count} significantly better than {rival}'s, none worse ({_named(better)})."
    if worse:
        return f"no gain: {len(worse)} of {count} significantly worse than {rival}'s, none better ({_named(worse)})."
    if all(pair.figure.estimate == pair.rival.estimate for pair in pairs):
        equal = "equal" if len(pairs) != 1 else "equals"
        return f"no gain: {count} {equal} {rival}'s to the last digit; both plans drew the same images."
    return f"no gain: none of {count} differs significantly from {rival}'s."


def _named(pairs: Sequence[Beside]) -> str:
    order = sorted(pairs, key=lambda pair: pair.p)
    more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
    return "; ".join(pair.words for pair in order[:NAMED]) + more


def hints(figures: Sequence[Figure]) -> list[str]:
    """What to think of figures that are alarming, a sentence each."""
    said = []
    seen = [figure for figure in figures if figure.name != "paired"]
    fewest = min((figure.settings.n for figure in seen), default=FEW)
    if fewest < FEW:
        said.append(
            f"{fewest:,} images: distances of few images are biased upwards; compare them only with figures of as many images."
        )
    for name, meaning in (
        (
            "precision",
            "hardly any image lies among the data; the samples may be noise, or the values of the data misread",
        ),
        ("recall", "the images reach hardly any of the data's variety, or too few are compared in too many dimensions"),
        ("coverage", "most of the data have no image near them; the samples may have collapsed, or differ in kind"),
    ):
        low = [figure for figure in seen if figure.name == name and figure.estimate.value < POOR]
        if low:
            least = min(low, key=lambda figure: figure.estimate.value)
            said.append(f"{name} {least.estimate.value:.3g} in {least.settings.space}: {meaning}.")
    return said
