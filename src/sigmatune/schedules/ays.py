r"""Align Your Steps: NVIDIA's published tables, for any number of steps.

.. math:: \log \sigma_i = \ell\!\left( \tfrac{i}{N} \right), \quad i = 0, \dots, N - 1

with :math:`\ell` the piecewise linear curve through the logarithms of a table's eleven levels. The last level is replaced by
the final 0, so that ten steps are the table itself. This is how its authors and ComfyUI read it.

The tables were optimised for one model each, with a bound on a Kullback-Leibler divergence, and are used far beyond these
models. Forge and AUTOMATIC1111 read them otherwise ("Align Your Steps 11"): N even places with both ends, so that the last
level stays before the final 0. Their "Align Your Steps 32" first reads 32 levels from the table with its last level set to
0.015.

What lies outside another model's range is cut off: the curve then begins or ends at the end of the range. With
``scaled=1`` it is stretched in log sigma instead, from sigma_max to sigma_min.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.errors import SigmaTuneError

TABLES: dict[str, tuple[float, ...]] = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "if": (160.41, 8.081, 3.315, 1.885, 1.207, 0.785, 0.553, 0.293, 0.186, 0.030, 0.006),
    "svd": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}
"""Levels for Stable Diffusion 1.5, SDXL, the first stage of DeepFloyd-IF, and Stable Video Diffusion: table 3 of the paper."""


def levels(table: str, steps: int, path: NoisePath, *, scaled: float = 0.0) -> Array:
    r"""Reads a published table at N + 1 even places and leaves out the last.

    References:
        | Align Your Steps: Optimizing Sampling Schedules in Diffusion Models (Sabour et al., 2024), table 3
        | https://arxiv.org/abs/2404.14507

    Args:
        table: A name in :data:`TABLES`.
        steps: N; one step is at sigma_max.
        path: The noise path.
        scaled: 1 stretches the curve to the model's range, which has to be finite; 0 cuts it to the range.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: if scaled is neither 0 nor 1, the range is infinite where it is 1, or the table lies outside the range.
    """
    curve, place = np.log(TABLES[table]), np.linspace(0, 1, len(TABLES[table]))
    low, high = np.log([path.sigma_min, path.sigma_max])
    if _switch(scaled):
        curve, first, last = _stretched(curve, low, high), 0.0, 1.0
    else:
        first, last = _inside(curve, low, high)
    if steps == 1:
        return np.array([path.sigma_max])
    level = np.interp(np.linspace(first, last, steps + 1)[:-1], place, curve)
    return np.asarray(np.exp(np.clip(level, low, high)))


def levels_to_the_end(table: str, steps: int, path: NoisePath, *, points: int = 11) -> Array:
    r"""Reads a published table at N even places, both ends included, as Forge and AUTOMATIC1111 do.

    Args:
        table: A name in :data:`TABLES`.
        steps: N; one step is at sigma_max.
        path: The noise path; levels outside its range are cut off.
        points: 11 for the table itself, 32 for the longer one that these programs ship.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: if points is neither 11 nor 32, or the table lies outside the range.
    """
    if points not in (11, 32):
        raise SigmaTuneError(f"points is 11 or 32, not {points!r}.")
    curve = np.log(TABLES[table])
    if points == 32:
        curve[-1] = np.log(0.015)
        curve = np.interp(np.linspace(0, 1, 32), np.linspace(0, 1, len(curve)), curve)
    low, high = np.log([path.sigma_min, path.sigma_max])
    first, last = _inside(curve, low, high)
    if steps == 1:
        return np.array([path.sigma_max])
    level = np.interp(np.linspace(first, last, steps), np.linspace(0, 1, len(curve)), curve)
    return np.asarray(np.exp(np.clip(level, low, high)))


def _switch(scaled: float) -> bool:
    if scaled not in (0, 1):
        raise SigmaTuneError(f"scaled is 0 (cut the table to the range) or 1 (stretch it), not {scaled!r}.")
    return bool(scaled)


def _stretched(curve: Array, low: float, high: float) -> Array:
    """The log levels, moved affinely to both ends of the range."""
    if np.isinf(high):
        raise SigmaTuneError(
            "a table cannot be stretched to an infinite first level; pass sigma_max=80 or the like, or scaled=0."
        )
    return np.asarray(low + (curve - curve[-1]) / (curve[0] - curve[-1]) * (high - low))


def _inside(curve: Array, low: float, high: float) -> tuple[float, float]:
    """The places, 0 to 1, between which the log levels are inside the range."""
    if curve[0] <= low or curve[-1] >= high:
        first, last, *ends = np.exp([curve[0], curve[-1], low, high])
        raise SigmaTuneError(
            f"the table's levels, {first:.5g} to {last:.5g}, lie outside the range [{ends[0]:.6g}, {ends[1]:.6g}]; "
            "pass scaled=1."
        )
    places = np.interp([-high, -low], -curve, np.linspace(0, 1, len(curve)))
    return float(places[0]), float(places[1])


def _family(table: str, model: str, **published: float) -> Family:
    """The family of one table; every table is a default as it stands, one also stretched."""
    return Family(
        f"ays-{table}",
        partial(levels, table),
        f"NVIDIA's Align Your Steps table for {model}",
        starts=False,
        ends=False,
        published=({}, published) if published else ({},),
    )


SD15 = _family("sd15", "Stable Diffusion 1.5", scaled=1.0)
SDXL = _family("sdxl", "SDXL")
IF = _family("if", "DeepFloyd-IF")
SVD = _family("svd", "Stable Video Diffusion")


def _to_the_end(table: str, points: int) -> Family:
    """The family of one table in the reading of Forge and AUTOMATIC1111."""
    return Family(
        f"ays{points}-{table}",
        partial(levels_to_the_end, table, points=points),
        f"Forge's Align Your Steps {points}, {table.upper()}: the last level stays",
        starts=False,
        ends=False,
    )


TO_THE_END = tuple(_to_the_end(table, points) for points in (11, 32) for table in ("sd15", "sdxl"))
