r"""Measured: timesteps at the quantiles of a measured density over the model's own time.

.. math:: p_i = 1 + (T - 1) F^{-1}(u_i), \quad u_i = 1 - i / (N - 1), \quad i = 0, \dots, N - 1

Beta sampling applies this probability integral transform to a Beta distribution; here it applies to the density itself:
M equal bins from the clean end of the path to the noisy one, so that F is piecewise linear. Every step covers the same
share of the measured quantity, such as the spectral change that `sigmatune analyze` measures.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.errors import SigmaTuneError


def measured(steps: int, path: NoisePath, *, density: list[float] | None = None) -> Array:
    r"""Places levels at the quantiles :math:`u_i = 1 - i / (N - 1)` of a histogram over time, both ends included.

    .. math:: p_i = 1 + (T - 1) F^{-1}(u_i), \quad F(j / M) = \sum_{m < j} d_m / \sum_m d_m

    A bin of 0 is skipped; where F is flat at exactly u, the quantile is an end of the flat stretch. The first level is
    always sigma_max and, from two steps on, the last sigma_min, whatever the outer bins hold.

    References:
        | Beta Sampling is All You Need: Efficient Image Generation Strategy for Diffusion Models using Stepwise
          Spectral Analysis (Lee et al., 2024)
        | https://arxiv.org/abs/2407.12173

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path; T is its ``levels``.
        density: d, a list of numbers of at least 0 over equal bins of position, clean end first, in any unit; flat
            (uniform in time) by default.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: if the density is not a list of numbers of at least 0, or all of them are 0.
    """
    bins = _checked([1.0] if density is None else density)
    F = np.append(0, bins.cumsum())
    share = np.interp(np.linspace(1, 0, steps), F / F[-1], np.linspace(0, 1, len(F)))
    share[0] = 1
    if steps > 1:
        share[-1] = 0
    return path.at_position(1 + (path.levels - 1) * share)


def _checked(density: list[float]) -> Array:
    numbers = isinstance(density, list) and all(type(value) in (int, float) for value in density)
    values = np.array(density, dtype=np.float64) if numbers and density else np.array([-1.0])
    largest = float(values.max())
    if not (np.isfinite(values).all() and (values >= 0).all() and largest > 0):
        raise SigmaTuneError("density must be a list of numbers of at least 0, not all 0, such as [3.0, 1.0, 2.0].")
    return np.asarray(values / largest)


FAMILY = Family("measured", measured, "quantiles over time of a measured density, both ends included")
