r"""The second half of the guard: a plan that is typically better must not be worse in what the typical error does not see.

A trimmed mean of ratios does not notice a lost mode: few rows fail, and however badly they fail, each is one row. So four
quantities of the plan are compared with those of the rival, all on the same held-out noises and in the measure's space:

1. the untrimmed mean of the errors;
2. their upper tail, the mean of the worst tenth. A mode that holds 1% of the data moves it ten times as far as the mean, and a
   tenth of the usual 96 noises is 10 rows, about the fewest of which a mean has a usable interval;
3. the energy distance, and
4. the sliced Wasserstein distance of the set of end points from that of the reference: a plan may be near the reference row by
   row and still lack contrast in all of them.

With an extractor and at least ``FRECHET_ROWS`` rows of images two more: the Frechet distances of the decoded images in both
of the extractor's spaces.

Every difference comes with its standard error from the jackknife over the pairs, and a one-sided p-value from Student's t with
as many degrees of freedom as there are folds, less one. A quantity is *lost* if its p-value after Holm's correction is at most
:data:`FALSE_ALARMS`: of plans that are exactly as good as the rival in everything the tests refuse at most this share. It is
larger than usual on purpose, because a gain that is given up costs little and a lost mode much.

The mean is *lost* as soon as it is more than :data:`MARGIN` larger, significantly or not. Two noises in a hundred that end in
another mode are a loss that a hundred noises cannot prove and a thousand would; a plan whose gain is real has the smaller mean
as well, or one so near that no image shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import stdtr

from sigmatune.measures import Fitted
from sigmatune.noise import Array
from sigmatune.statistics.energy import mean_of_pairs, pair_terms
from sigmatune.statistics.holm import holm
from sigmatune.statistics.jackknife import Estimate, Rows, jackknife
from sigmatune.statistics.pieces import pieces
from sigmatune.statistics.sliced import projected, squared

FALSE_ALARMS = 0.1
"""Share of equally good plans that the tests refuse at most."""

TAIL = 0.1
"""Share of the rows that the upper tail is the mean of."""

MEAN = "mean error"

MARGIN = 0.02
"""How much larger the plan's mean error may be, as a share of the rival's, without being a loss."""

Quantity = Callable[[Rows], float]
"""A number of a plan from the rows with these places."""


@dataclass(frozen=True)
class Loss:
    """One quantity of a plan beside the rival's; smaller is better.

    Attributes:
        name: What it is.
        plan, rival: Its values.
        difference: The plan's minus the rival's, with its jackknife.
        p: Probability of a difference at least as large if there is none, one-sided.
        adjusted: p after Holm's correction.
        strict: Whether a value that is larger by :data:`MARGIN` counts as a loss, and not only a significantly larger one.
    """

    name: str
    plan: float
    rival: float
    difference: Estimate
    p: float
    adjusted: float
    strict: bool = False

    @property
    def significant(self) -> bool:
        """Whether the plan is significantly worse."""
        return self.adjusted <= FALSE_ALARMS

    @property
    def lost(self) -> bool:
        """Whether the guard refuses the plan for it."""
        return self.significant or (self.strict and self.difference.value > MARGIN * self.rival)

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        return {
            "name": self.name,
            "plan": self.plan,
            "rival": self.rival,
            "difference": self.difference.value,
            "standard_error": self.difference.error,
            "p": self.p,
            "adjusted_p": self.adjusted,
            "lost": self.lost,
        }


@dataclass(frozen=True, eq=False)
class EndPoints:
    """What a plan and its rival did on the same noises.

    Attributes:
        plan, rival, exact: End points and the reference's, (n, *shape).
        errors: The plan's errors and the rival's, (n,) each.
    """

    plan: torch.Tensor
    rival: torch.Tensor
    exact: torch.Tensor
    errors: tuple[Array, Array]


def losses(measure: Fitted, ends: EndPoints, *, seed: int = 0, features: Sequence[tuple[str, Any]] = ()) -> list[Loss]:
    """Tests every quantity.

    Args:
        measure: The fitted measure.
        ends: End points and errors of at least four rows.
        seed: Seed of the sliced distance's directions.
        features: Further quantities, as :func:`compared` takes them.
    """
    space = [mapped(measure, x) for x in (ends.plan, ends.rival, ends.exact)]
    named = [*of_errors(*ends.errors), *of_sets(space[0], space[1], space[2], seed=seed), *features]
    return compared(named, len(ends.exact))


def of_errors(plan: Array, rival: Array) -> list[tuple[str, tuple[Quantity, Quantity]]]:
    """The quantities of the errors alone, (n,) each: (name, (the plan's, the rival's))."""
    return [
        (MEAN, (lambda rows: float(plan[rows].mean()), lambda rows: float(rival[rows].mean()))),
        (f"mean of the worst {TAIL:.0%} of errors", (lambda rows: worst(plan[rows]), lambda rows: worst(rival[rows]))),
    ]


def of_sets(
    plan: torch.Tensor, rival: torch.Tensor, exact: torch.Tensor, *, seed: int
) -> list[tuple[str, tuple[Quantity, Quantity]]]:
    """The squared distances of two sets from the reference's, all mapped to the measure's space."""
    terms = [pair_terms(x, exact) for x in (plan, rival)]
    *seen, of_exact = projected([plan, rival, exact], seed=seed)

    def energy(h: Array) -> Quantity:
        return lambda rows: mean_of_pairs(h, rows)

    def sliced(x: Array) -> Quantity:
        return lambda rows: squared(x[rows], of_exact[rows])

    return [
        ("squared energy distance", (energy(terms[0]), energy(terms[1]))),
        ("squared sliced Wasserstein distance", (sliced(seen[0]), sliced(seen[1]))),
    ]


def compared(named: Sequence[tuple[str, tuple[Quantity, Quantity]]], rows: int) -> list[Loss]:
    """The tests of some quantities on the same rows, corrected for their number.

    Raises:
        SigmaTuneError: for fewer than four rows.
    """
    sides = [side for _, pair in named for side in pair]
    estimates = jackknife(rows, lambda kept: [side(kept) for side in sides])
    pairs = list(zip(estimates[::2], estimates[1::2], strict=True))
    p = [chance(plan - rival) for plan, rival in pairs]
    return [
        Loss(name, plan.value, rival.value, plan - rival, value, adjusted, strict=name == MEAN)
        for (name, _), (plan, rival), value, adjusted in zip(named, pairs, p, holm(p), strict=True)
    ]


def chance(difference: Estimate) -> float:
    """The one-sided p-value of a difference; 1 where there is none at all."""
    if difference.error == 0:
        return 0.0 if difference.value > 0 else 1.0
    return float(stdtr(len(difference.left) - 1, -difference.value / difference.error))


def worst(errors: Array) -> float:
    """The mean of the worst :data:`TAIL` of some errors, the last one of them with the share that is left to it."""
    share = TAIL * len(errors)
    weight = np.clip(share - np.arange(len(errors)), 0, 1)
    return float(np.sort(errors)[::-1] @ weight / share)


def mapped(measure: Fitted, x: torch.Tensor) -> torch.Tensor:
    """Samples in the measure's space."""
    return torch.cat([measure.apply(part) for part in pieces(x)])
