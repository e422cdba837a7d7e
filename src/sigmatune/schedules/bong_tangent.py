r"""Bong tangent: two arc-tangent curves of flow time, joined in the middle.

With :math:`n = N + 2`, :math:`m = \lfloor 0.6 n \rfloor` and :math:`\theta_k = \arctan(-8 k / n)`, the m levels of the first
curve and the n - m of the second are

.. math::
    \tau_i = \frac{1}{2} + \frac{1}{2} \cdot \frac{\theta_{i - m} - \theta_{-1}}{\theta_{-m} - \theta_{-1}}, \quad i = 0 \dots
    m - 1, \qquad
    \tau_{m - 1 + j} = \frac{1}{2} \cdot \frac{\theta_j - \theta_{n - m - 1}}{\theta_0 - \theta_{n - m - 1}}, \quad j = 0 \dots
    n - m - 1;

the last of the first is the first of the second, :math:`\tau = 1/2`, and the last is 0. So the steps are small around 1/2 and
at both ends. It ignores the model: between 1 and 0 of flow time, as here, or between 1 and 0 of sigma, which does not start a
model of noise from its noise.

Source: ``bong_tangent`` of RES4LYF, https://github.com/ClownsharkBatwing/RES4LYF.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family


def bong_tangent(steps: int, path: NoisePath) -> Array:
    r"""Spaces flow time by two arc tangents; the module has the formula.

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path of a flow model.

    Returns:
        N noise levels (sigma), descending.
    """
    if steps == 1:
        return np.array([path.sigma_max])
    n = steps + 2
    m = int(0.6 * n)
    first = np.arctan(-8 * np.arange(-m, 0) / n)
    second = np.arctan(-8 * np.arange(n - m) / n)
    tau = np.concatenate([0.5 + _unit(first)[:-1] / 2, _unit(second)[:-1] / 2])
    tau = tau / (1 + 1 / path.sigma_max)
    with np.errstate(divide="ignore"):
        sigma = tau / (1 - tau)
    if below := int((sigma < path.sigma_min).sum()):  # of hundreds of steps; they share what is left of the range
        sigma[-below - 1 :] = np.geomspace(sigma[-below - 1], path.sigma_min, below + 1)
    return np.asarray(sigma)


def _unit(values: Array) -> Array:
    """Values moved and scaled to fall from 1 to 0."""
    return np.asarray((values - values[-1]) / (values[0] - values[-1]))


FAMILY = Family(
    "bong-tangent", bong_tangent, "two arc tangents of flow time, dense around 1/2; RES4LYF's", ends=False, flow=True
)
