r"""Uniform in the model's own time, in the three variants that diffusers calls ``timestep_spacing``.

With p = 1..T the position of a level (p = t + 1 for a table of T timesteps), i = 0..N-1:

=================== ================================================ =====================================
family              position of level i                              reaches
=================== ================================================ =====================================
uniform-linspace    T + i (1 - T) / (N - 1)                          sigma_max and sigma_min
uniform-leading     1 + (N - 1 - i) floor(T / N) + offset            near sigma_min, **not** sigma_max
uniform-trailing    T (1 - i / N)                                    sigma_max, not sigma_min
=================== ================================================ =====================================

Positions are real numbers, computed one by one: no rounding, and no stride to add up, so trailing cannot overshoot to
t = -1. Models of whole timesteps round afterwards (:meth:`sigmatune.core.denoiser.Denoiser.snap`).

Reference: Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), https://arxiv.org/abs/2305.08891,
table 2.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.errors import SigmaTuneError


def linspace(steps: int, path: NoisePath) -> Array:
    r"""Spaces positions evenly between both ends, :math:`p_i = T + i (1 - T) / (N - 1)`.

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path; T is its ``levels``.

    Returns:
        N noise levels (sigma), descending.
    """
    return path.at_position(np.linspace(path.levels, 1, steps))


def leading(steps: int, path: NoisePath, *, steps_offset: int = 0) -> Array:
    r"""Takes every floor(T / N)-th position from the clean end, :math:`p_i = 1 + (N - 1 - i) \lfloor T/N \rfloor + o`.

    By this definition the first level lies below sigma_max although samplers start from pure noise: the known flaw of
    this spacing, kept because models are published with it. A single step would be at the clean end; here it is at
    sigma_max.

    Args:
        steps: N, at most T.
        path: The noise path; T is its ``levels``.
        steps_offset: o, in positions; 1 for Stable Diffusion.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: for more than T steps, or an offset that leaves [1, T].
    """
    every = stride(steps, path, "uniform-leading")
    if steps == 1:
        return path.at_position(np.array([path.levels]))
    room = path.levels - 1 - (steps - 1) * every
    if not 0 <= steps_offset <= room:
        raise SigmaTuneError(f"steps_offset must lie in [0, {room}] for {steps} steps, not {steps_offset!r}.")
    return path.at_position(np.arange(steps - 1, -1, -1, dtype=np.float64) * every + steps_offset + 1)


def trailing(steps: int, path: NoisePath) -> Array:
    r"""Takes every (T / N)-th position from the noisy end, :math:`p_i = T (1 - i / N)`.

    Args:
        steps: N, at most T.
        path: The noise path; T is its ``levels``.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: for more than T steps.
    """
    stride(steps, path, "uniform-trailing")
    return path.at_position(path.levels * np.arange(steps, 0, -1) / steps)


def stride(steps: int, path: NoisePath, name: str) -> int:
    """floor(T / N) of a family that takes distinct positions; refuses more than T steps."""
    if steps > path.levels:
        raise SigmaTuneError(
            f"{name} takes at most the model's {path.levels} levels, not {steps}; take fewer steps or uniform-linspace."
        )
    return path.levels // steps


LINSPACE = Family("uniform-linspace", linspace, "uniform in t, both ends included", published=({},))
LEADING = Family(
    "uniform-leading", leading, "uniform in t from the clean end", starts=False, ends=False, published=({},)
)
TRAILING = Family("uniform-trailing", trailing, "uniform in t from the noisy end", ends=False, published=({},))
