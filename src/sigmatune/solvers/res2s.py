r"""RES, single step: two stages of an exponential Runge-Kutta method that meets its order conditions exactly.

.. math::
    x_2 = e^{-c_2 h} x_t + c_2 h \varphi_1(-c_2 h) D_t, \qquad
    x_s = e^{-h} x_t + h \Big( \varphi_1(-h) - \tfrac{1}{c_2} \varphi_2(-h) \Big) D_t + \tfrac{h}{c_2} \varphi_2(-h) D_2

with :math:`h = \log (\sigma_t / \sigma_s)` and :math:`c_2 = 1/2`. DPM-Solver++(2S) has the same stages and the weight
:math:`\varphi_1 / (2 c_2)` in place of :math:`\varphi_2 / c_2`, which is its limit for short steps.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import log_steps, moment
from sigmatune.solvers.base import Solver, no_history
from sigmatune.solvers.staged import place, staged
from sigmatune.support.errors import SigmaTuneError


def res2s(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, c2: float = 0.5) -> Coefficients:
    """Builds RES steps of two stages, two calls each; a step to 0 is one call.

    References:
        | Improved Order Analysis and Design of Exponential Integrator for Diffusion Models Sampling (Zhang et al., 2023)
        | https://arxiv.org/abs/2308.02157

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
        c2: The place of the second call in the step, in (0, 1).

    Raises:
        SigmaTuneError: if c2 is outside (0, 1).
    """
    no_history("res2s", previous)
    if not 0 < c2 < 1:
        raise SigmaTuneError(f"c2 must lie in (0, 1), not {c2!r}.")
    middle, ratio = place(sigmas, c2), sigmas[..., 1:] / sigmas[..., :-1]
    one = torch.ones_like(ratio)
    b2 = (1 - ratio) * moment(log_steps(sigmas), 1) / c2
    take = {(2, 1): 1 - middle / sigmas[..., :-1], (3, 1): 1 - ratio - b2, (3, 2): b2}
    return staged(sigmas, [middle], keep=[one, one], take=take)


SOLVER = Solver(
    name="res2s",
    build=res2s,
    calls=lambda steps: 2 * steps - 1 if steps else 0,
    width=2,
    order=2,
    cold_order=2,
    between=True,
    summary="RES, single step: second order, two calls per step and one for the last",
)
