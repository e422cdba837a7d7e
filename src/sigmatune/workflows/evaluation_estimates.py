"""What evaluations cost before they begin: network evaluations of single images, and the time by a measured call."""

from __future__ import annotations

from collections.abc import Sequence

from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation.generation import evaluations
from sigmatune.evaluation.leaderboard import Entry
from sigmatune.evaluation.paired_distance import FIRST, MOST
from sigmatune.models.imagined import Imagined
from sigmatune.plan import MICRO_BATCH, Plan
from sigmatune.plan.estimate import CostEstimate, call_seconds
from sigmatune.plan.reference import reference_plan

FEATURES = 0.01
"""Seconds of an image's features and of its share of the figures."""

SETTLED = 7
"""The references of paired errors, in units of the first one: two doublings, as a rule."""


def estimate(
    model: Denoiser, parts: dict[str, int], images: int, each: float | None, rows: int = MICRO_BATCH
) -> CostEstimate:
    """An estimate of some work on a model.

    Args:
        model: The model; it is called a few times unless ``each`` is given.
        parts: Network evaluations by purpose.
        images: How many images have their features extracted.
        each: Seconds of a network evaluation of a single image.
        rows: Rows per call.
    """
    seconds = call_seconds(model, rows) if each is None else each
    where = "in all" if isinstance(model, Imagined) else f"on {model.device.type}"
    return CostEstimate(parts, seconds, FEATURES * images, where)


def evaluation_estimate(
    pairs: Sequence[tuple[Denoiser, Plan]], n: int, *, sampled: bool, paired: bool, each: float | None = None
) -> CostEstimate:
    """What evaluating a plan costs: the reference's images, the plan's, its rival's, and the paired errors.

    Args:
        pairs: The plan with its model, and its rival with its model.
        n: How many images.
        sampled: Whether images are sampled.
        paired: Whether paired errors are measured.
        each: Seconds of a network evaluation of a single image; by default they are measured.
    """
    (model, plan), counts = pairs[0], [evaluations(*pair, n) if sampled else 0 for pair in pairs]
    noises = min(n, MOST) if paired else 0
    pairing = noises * (SETTLED * reference_plan(model, FIRST).network_calls(model) + plan.network_calls(model))
    parts = {"reference": 0, "images": counts[0], "rival's images": sum(counts[1:]), "paired errors": pairing}
    return estimate(model, parts, n * len(pairs) if sampled else 0, each, plan.micro_batch)


def leaderboard_estimate(
    model: Denoiser, entries: Sequence[Entry], n: int, noises: int, *, each: float | None = None
) -> CostEstimate:
    """What a leaderboard costs: the images of its entries and the paired errors.

    Args:
        model: The model.
        entries: The entries.
        n: Images per entry.
        noises: Noises of the paired errors.
        each: Seconds of a network evaluation of a single image; by default they are measured.
    """
    calls = [entry.plan.network_calls(model) for entry in entries]
    pairing = noises * (SETTLED * reference_plan(model, FIRST).network_calls(model) + sum(calls)) if noises else 0
    parts = {
        "reference": 0,
        "images": sum(evaluations(model, entry.plan, n) for entry in entries),
        "paired errors": pairing,
    }
    return estimate(model, parts, n * len(entries), each)
