r"""DPM-Solver++(2S), ancestral: the midpoint method down to :math:`\sigma_{down}`, and fresh noise to come back up.

.. math::
    x_2 = \frac{\sigma_2}{\sigma_t} x_t + \Big( 1 - \frac{\sigma_2}{\sigma_t} \Big) D_t, \qquad
    x_s = \frac{\sigma_{down}}{\sigma_t} x_t + \Big( 1 - \frac{\sigma_{down}}{\sigma_t} \Big) D_2 + \sigma_{up} \epsilon,
    \qquad \sigma_2 = \sqrt{\sigma_t \sigma_{down}}

For eta = 1 the second call is at :math:`\sigma_s` itself.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.base import Solver, no_history
from sigmatune.solvers.sde import down_up
from sigmatune.solvers.staged import ends_of, shares, staged


def dpmpp2s_ancestral(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, eta: float = 1.0) -> Coefficients:
    r"""Builds ancestral 2S steps, two calls each; a step to 0 is one call without noise.

    From sigma = inf the second call is at :math:`2 \sigma_s`, the middle in 1 / sigma.

    References:
        | DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022), algorithm 1
        | https://arxiv.org/abs/2211.01095
        | ``sample_dpmpp_2s_ancestral`` of k-diffusion, https://github.com/crowsonkb/k-diffusion

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
        eta: Share of the posterior's noise, in [0, 1]; 0 is DPM-Solver++(2S).

    Raises:
        SigmaTuneError: if eta is outside [0, 1].
    """
    no_history("dpmpp2s-ancestral", previous)
    sigma_t = sigmas[..., :-1]
    safe, start = ends_of(sigmas), torch.isfinite(sigma_t)
    down, up = down_up(sigma_t, safe, eta)
    reached = torch.where(start, down, safe)  # positive
    middle = torch.where(start, (torch.where(start, sigma_t, safe) * reached).sqrt(), 2 * safe)
    middle = torch.where(middle > safe * (1 + 1e-9), middle, safe)  # equal for eta = 1, up to rounding
    first, second = shares(sigma_t, middle, safe)
    zero, one = torch.zeros_like(safe), torch.ones_like(safe)
    take = {(2, 1): 1 - middle / sigma_t, (3, 1): zero, (3, 2): 1 - down / sigma_t}
    noise = {(3, 1): up / safe * first, (3, 2): up / safe * second}
    return staged(sigmas, [middle], keep=[one, down / safe], take=take, noise=noise)


SOLVER = Solver(
    name="dpmpp2s-ancestral",
    build=dpmpp2s_ancestral,
    calls=lambda steps: 2 * steps - 1 if steps else 0,
    width=2,
    order=2,
    cold_order=2,
    noise="eta",
    between=True,
    summary="DPM-Solver++(2S) ancestral: stochastic, two calls per step and one for the last",
)
