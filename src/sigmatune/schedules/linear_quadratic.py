r"""Linear-quadratic: small equal steps of flow time at the noisy end, then steps that grow.

.. math:: \tau_i = \tau_{\max} (1 - x_i), \qquad
          x_i = \theta \frac{i}{L} + \left( 1 - \theta \frac{N}{L} \right) \left( \frac{\max(i - L, 0)}{N - L} \right)^2,
          \qquad L = \lfloor N / 2 \rfloor

The first L steps share the fraction :math:`\theta` of the time between them, as steps of a sampler of many steps would; the
slope is continuous at L. It is the schedule of the video models Mochi and Movie Gen, for flow models alone.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.errors import SigmaTuneError


def linear_quadratic(steps: int, path: NoisePath, *, threshold: float = 0.025) -> Array:
    r"""Spaces flow time linearly over the first half of the steps and quadratically over the second.

    References:
        | Movie Gen: A Cast of Media Foundation Models (Polyak et al., 2024)
        | https://arxiv.org/abs/2410.13720
        | ``linear_quadratic_schedule`` of Mochi (https://github.com/genmoai/models) and ComfyUI, with these numbers

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path of a flow model.
        threshold: The share :math:`\theta` of the time that the first half of the steps covers, in (0, 0.3].

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: if the threshold is outside (0, 0.3].
    """
    if not 0 < threshold <= 0.3:
        raise SigmaTuneError(f"threshold must lie in (0, 0.3], not be {threshold!r}.")
    i, linear = np.arange(steps, dtype=np.float64), max(steps // 2, 1)
    grown = np.maximum(i - linear, 0) / max(steps - linear, 1)
    x = threshold * i / linear + (1 - threshold * steps / linear) * grown**2
    tau = (1 - x) / (1 + 1 / path.sigma_max)
    with np.errstate(divide="ignore"):
        return np.maximum(tau / (1 - tau), path.sigma_min)  # of many hundred steps the last would lie below


FAMILY = Family(
    "linear-quadratic",
    linear_quadratic,
    "equal small steps of flow time, then growing ones; Mochi's",
    ends=False,
    flow=True,
    published=({},),
)
