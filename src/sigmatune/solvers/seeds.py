r"""SEEDS: exponential Runge-Kutta stages for the reverse-time SDE, whose noises are those of one path.

With :math:`h = \log (\sigma_t / \sigma_s)`, places :math:`c_1 = 0 < c_2 < \dots < c_{M+1} = 1` and :math:`\sigma_m` at
:math:`c_m`,

.. math::
    x_m = \frac{\sigma_m}{\sigma_t} e^{-\eta c_m h} x_t + (1 - e^{-(1 + \eta) c_m h}) \bar D_m + \sigma_m N_m, \qquad
    N_{m+1} = e^{-\eta (c_{m+1} - c_m) h} N_m + \sqrt{1 - e^{-2 \eta (c_{m+1} - c_m) h}} \, \epsilon_m,

with :math:`N_1 = 0`. :math:`\bar D_m` are weighted sums of the outputs so far: with
:math:`w(u) = \varphi_2(-u) / \varphi_1(-u)`

==========  ==============================================================================================
SEEDS-2     :math:`\bar D_2 = D_1`, :math:`\bar D_3 = (1 - \tfrac{1}{2 c_2}) D_1 + \tfrac{1}{2 c_2} D_2`
SEEDS-3     :math:`\bar D_2 = D_1`, :math:`\bar D_3 = D_1 + \tfrac{c_3}{c_2} w(c_3 (1 + \eta) h) (D_2 - D_1)`,
            :math:`\bar D_4 = D_1 + \tfrac{1}{c_3} w((1 + \eta) h) (D_3 - D_1)`
==========  ==============================================================================================
"""

from __future__ import annotations

from functools import partial

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import log_steps, moment
from sigmatune.solvers.base import Solver, no_history
from sigmatune.solvers.sde import fade
from sigmatune.solvers.staged import ends_of, place, staged

PLACES = {2: (1 / 2,), 3: (1 / 3, 2 / 3)}
"""The places of the inner calls by the number of stages: the authors' choice."""


def seeds(
    sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, eta: float = 1.0, order: int = 2
) -> Coefficients:
    """Builds SEEDS steps, as many calls each as the order; a step to 0 is one call without noise.

    References:
        | SEEDS: Exponential SDE Solvers for Fast High-Quality Sampling from Diffusion Models (Gonzalez et al., 2023)
        | https://arxiv.org/abs/2305.14267

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
        eta: Amount of noise, at least 0; 1 is the reverse-time SDE itself, 0 the ODE.
        order: The number of stages, 2 or 3.

    Raises:
        SigmaTuneError: if eta is negative.
    """
    no_history(f"seeds{order}", previous)
    c, sigma_t = PLACES[order], sigmas[..., :-1]
    safe = ends_of(sigmas)
    levels = [sigma_t, *(place(sigmas, at) for at in c), safe]
    full = (1 + eta) * log_steps(sigmas)
    keep, take, noise = [], {}, {}
    for m in range(2, order + 2):
        faded = fade(sigma_t, levels[m - 1], eta)
        whole = 1 - levels[m - 1] / sigma_t * faded
        newest = _newest(order, m, full)
        keep.append(faded)
        take[m, 1] = whole if m == 2 else whole * (1 - newest)
        if m > 2:
            take[m, m - 1] = whole * newest
        for j in range(1, m):  # the noise of call j fades on the way from level j + 1 to level m
            alone = fade(levels[j - 1], levels[j], eta)
            noise[m, j] = (1 - alone**2).clamp(min=0).sqrt() * fade(levels[j], levels[m - 1], eta)
    return staged(sigmas, levels[1:-1], keep=keep, take=take, noise=noise if eta > 0 else None)


def _newest(order: int, m: int, full: torch.Tensor) -> torch.Tensor:
    """The weight of the newest output in the sum for stage m, (..., N); full is (1 + eta) h."""
    if order == 2:
        return torch.full_like(full, 1 / (2 * PLACES[2][0]))
    c2, c3 = PLACES[3]
    return c3 / c2 * moment(c3 * full, 1) if m == 3 else moment(full, 1) / c3


def _solver(order: int) -> Solver:
    return Solver(
        name=f"seeds{order}",
        build=partial(seeds, order=order),
        calls=lambda steps: order * steps - order + 1 if steps else 0,
        width=order,
        order=2,
        cold_order=2,
        noise="eta",
        between=True,
        summary=f"SEEDS-{order}: stochastic, {order} calls per step and one for the last",
    )


SOLVERS = tuple(_solver(order) for order in (2, 3))
