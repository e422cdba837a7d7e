"""What the stages of tuning do and cost, in a few words: for the studio, and for the table in the documentation of tuning."""

from __future__ import annotations

from typing import NamedTuple


class StageWords(NamedTuple):
    """A stage in words.

    Attributes:
        summary: What it proposes.
        price: What that costs; a plan is measured on all tuning noises.
    """

    summary: str
    price: str


DESCENT = "about 3 or 4 plans per step"

WORDS = {
    "static": StageWords("families of schedules over their parameters and ends; the best five are measured", "5 plans"),
    "closed-form": StageWords("the optimum for Gaussian data with the spectrum of the model's own samples", "1 plan"),
    "discretisation": StageWords("the exact optimum of the discretisation loss, for all numbers of steps from one table",
                                 "the table once, 1 plan"),
    "trajectory": StageWords("dynamic programming over the sampler's own state along the reference trajectories",
                             "its table once, 1 plan"),
    "surrogate": StageWords("minimise a surrogate of the network, evaluate the network at the minimum, correct the surrogate, "
                            "repeat", "at most 12 plans"),
    "search": StageWords("CMA-ES, an evolution strategy, over the levels", "1 plan per trial"),
    "gradient": StageWords("L-BFGS through the plan to the reference's end points, over the levels", DESCENT),
    "start": StageWords("L-BFGS over the levels and the size of the start noise", DESCENT),
    "queries": StageWords("L-BFGS over the levels of the steps and those that the network receives", DESCENT),
    "coefficients": StageWords("L-BFGS over the levels and the solver's coefficients", DESCENT),
    "evolution": StageWords("a genetic algorithm over subsets of the model's timesteps", "1 plan per trial"),
}  # fmt: skip
"""Every stage of ``sigmatune.tuning.stages.STAGES``, in its order."""

SPACING = "levels that nearly touch are moved apart, unless they are better so"
"""What the log of a plan calls ``spacing``; it follows the stages and cannot be asked for."""


def in_words(stage: str) -> str:
    """What a stage of a plan's log does; "" for a name that this version does not know."""
    return SPACING if stage == "spacing" else WORDS[stage].summary if stage in WORDS else ""
