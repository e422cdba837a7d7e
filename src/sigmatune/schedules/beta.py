r"""Beta sampling: timesteps at the quantiles of a Beta distribution.

.. math:: p_i = 1 + (T - 1) F^{-1}_{a, b}(u_i), \quad i = 0, \dots, N - 1

with F the distribution function of Beta(a, b) and p = t + 1 the position of a level among the model's T. For a, b < 1
the steps crowd at both ends, where the spectrum of the image changes most; a = b = 1 is uniform; a = b = 1/2 is
:math:`F^{-1}(u) = \sin^2(\pi u / 2)`.

The distribution is over **timesteps**. The option of the same name in some libraries spreads sigma itself over a Beta
distribution, which is another curve. There are two readings of the quantiles: the paper's, inclusive of both ends,
u = 1 - i / (N - 1), and the one of user interfaces, end-open, u = 1 - i / N, which drops t = 0. ComfyUI's ``beta`` is the
second with 0.6, 0.6 and the ``beta57`` of its extension RES4LYF the second with 0.5, 0.7, in whole timesteps.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.special import betaincinv

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.options import positive


def inclusive(steps: int, path: NoisePath, *, a: float = 0.6, b: float = 0.6) -> Array:
    r"""Places levels at the Beta quantiles :math:`u_i = 1 - i / (N - 1)` over time, both ends included.

    .. math:: p_i = 1 + (T - 1) F^{-1}_{a, b}(u_i)

    References:
        | Beta Sampling is All You Need: Efficient Image Generation Strategy for Diffusion Models using Stepwise
          Spectral Analysis (Lee et al., 2024)
        | https://arxiv.org/abs/2407.12173

    Args:
        steps: N; one step is at u = 1, sigma_max.
        path: The noise path; T is its ``levels``.
        a, b: The distribution's parameters, > 0; the paper's are 0.6, 0.6 (Stable Diffusion) and 0.5, 0.5 (ADM-G).

    Returns:
        N noise levels (sigma), descending. Extreme parameters can make neighbours equal in floating point; a Schedule
        refuses that.

    Raises:
        SigmaTuneError: if a or b is not positive.
    """
    return _quantiles(np.linspace(1, 0, steps), path, a, b)


def end_open(steps: int, path: NoisePath, *, a: float = 0.6, b: float = 0.6) -> Array:
    r"""Places levels at the Beta quantiles :math:`u_i = 1 - i / N` over time, the clean end left out.

    .. math:: p_i = 1 + (T - 1) F^{-1}_{a, b}(u_i)

    Source, arguments, result and errors: see :func:`inclusive`.
    """
    return _quantiles(np.arange(steps, 0, -1) / steps, path, a, b)


def _quantiles(u: Array, path: NoisePath, a: float, b: float) -> Array:
    positive(a=a, b=b)
    return path.at_position(1 + (path.levels - 1) * betaincinv(a, b, u))


INCLUSIVE = Family(
    "beta", inclusive, "Beta(a, b) quantiles over time, both ends included", published=({}, {"a": 0.5, "b": 0.5})
)
BETA57 = Family(
    "beta57", partial(end_open, a=0.5, b=0.7), "beta-open with a = 0.5, b = 0.7; RES4LYF's name for it", ends=False
)
OPEN = Family(
    "beta-open",
    end_open,
    "Beta(a, b) quantiles over time, stops before sigma_min; ComfyUI's beta",
    ends=False,
    published=({}, {"a": 0.5, "b": 0.7}),
)
