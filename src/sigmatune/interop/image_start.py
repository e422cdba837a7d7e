"""Pipelines that start from an image: its weight beside the noise, and their ``strength`` as a noise level."""

from __future__ import annotations

from sigmatune import noise
from sigmatune.interop.native import Native
from sigmatune.noise import NoisePath
from sigmatune.plan import Plan
from sigmatune.support.errors import SigmaTuneError


def starting_level(plan: Plan, strength: float) -> float:
    r"""Turns a pipeline's ``strength`` into the noise level to start from, for :func:`sigmatune.partial`.

    It is the level at the position ``strength * T`` of the model's own time (before a shift), whatever the plan's
    levels and their number: the level that a uniform grid has there. Strength 1 is the plan's first level.

    Args:
        plan: A plan with its noise path.
        strength: In (0, 1].

    Raises:
        SigmaTuneError: for another strength, or a plan without a noise path.
    """
    if plan.path is None or plan.schedule.rows is not None:
        raise SigmaTuneError("a strength needs a plan of one model, with its noise path and one schedule for all rows.")
    if not 0 < strength <= 1:
        raise SigmaTuneError(f"a strength lies in (0, 1], not {strength!r}; 1 starts from pure noise.")
    path = noise.from_spec(plan.path)
    first = float(plan.schedule.sigmas[0])
    return first if strength == 1 else min(float(path.at_position(max(1.0, strength * path.levels))), first)


def mixing_weights(native: Native, path: NoisePath, t: float) -> tuple[float, float]:
    """Weights of data and noise at a t of the plan, or at any other of the model.

    Raises:
        SigmaTuneError: at the plan's first t if its state holds more than the image.
    """
    times = native.times.float().tolist()
    if abs(t - times[0]) <= 1e-3:
        if native.origin is None:
            raise SigmaTuneError(
                "this plan's state holds more than the image (learned coefficients, a momentum), so it does not "
                "define how to start from an image; use a plan of a position-space solver."
            )
        return native.origin, native.start
    near = min(times, key=lambda time: abs(time - t))
    exact = near if abs(near - t) <= 1e-3 else t
    return float(path.alpha(exact)), float(path.s(exact))
