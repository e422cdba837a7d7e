r"""DPM-Solver++(3M): a third-order multistep method in the data prediction.

The parabola through the last three outputs, in :math:`\lambda = -\log \sigma`, is integrated exactly. With
:math:`D^{(1)}, D^{(2)}` its slope and its quadratic coefficient per step length,

.. math:: \int_0^h e^{u-h} D(u) \, du = \varphi_1 D_t + \Big(1 - \frac{\varphi_1}{h}\Big) D^{(1)}
          + \Big(1 - \frac{2}{h} + \frac{2 \varphi_1}{h^2}\Big) D^{(2)}, \qquad \varphi_1 = 1 - e^{-h}.

The published code, and with it k-diffusion and diffusers, has half of the last coefficient, which leaves second order;
the tests show both.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import adams, inverse_distances, log_steps
from sigmatune.solvers.base import Solver, one_call_each
from sigmatune.solvers.dpmpp2m import middle
from sigmatune.solvers.multistep import multistep


def dpmpp3m(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None) -> Coefficients:
    """Builds 3M steps, one call each: from a cold start an Euler step, a 2M step, then 3M; a step to 0 is Euler's.

    References:
        | DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022), appendix
        | https://arxiv.org/abs/2211.01095

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Levels, (..., p), descending, of up to two earlier calls, whose outputs the state holds.

    Raises:
        SigmaTuneError: for a history of more than two levels.
    """
    g = inverse_distances(sigmas, previous, 2)
    parabola = adams(log_steps(sigmas), g, "data")
    line = torch.nn.functional.pad(middle(sigmas, None if previous is None else previous[..., -1:]), (0, 1))
    return multistep(sigmas, previous=previous, weights=torch.where(g[..., 1:] > 0, parabola, line))


SOLVER = Solver(
    name="dpmpp3m",
    build=dpmpp3m,
    calls=one_call_each,
    width=3,
    order=3,
    cold_order=2,
    history=2,
    summary="DPM-Solver++(3M): third order, one call per step",
)
