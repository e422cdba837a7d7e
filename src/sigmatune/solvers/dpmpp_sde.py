r"""DPM-Solver++ (stochastic), single step: the midpoint method, each stage an ancestral step.

.. math::
    x_2 = \frac{\sigma_{2, down}}{\sigma_t} x_t + \Big( 1 - \frac{\sigma_{2, down}}{\sigma_t} \Big) D_t
          + \sigma_{2, up} \epsilon_2, \qquad
    x_s = \frac{\sigma_{down}}{\sigma_t} x_t + \Big( 1 - \frac{\sigma_{down}}{\sigma_t} \Big)
          \Big( \big( 1 - \tfrac{1}{2r} \big) D_t + \tfrac{1}{2r} D_2 \Big) + \sigma_{up} \epsilon_s

with :math:`\log \sigma_2 = (1 - r) \log \sigma_t + r \log \sigma_s`. Both noises come from one Brownian path in sigma, of which
the first sees the part down to :math:`\sigma_2`, so that their correlation is
:math:`\rho^2 = (\sigma_t - \sigma_2) / (\sigma_t - \sigma_s)`.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.base import Solver, no_history
from sigmatune.solvers.sde import down_up
from sigmatune.solvers.staged import ends_of, place, shares, staged
from sigmatune.support.errors import SigmaTuneError


def dpmpp_sde(
    sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, eta: float = 1.0, r: float = 0.5
) -> Coefficients:
    """Builds stochastic DPM-Solver++ steps of two stages, two calls each; a step to 0 is one call without noise.

    References:
        | DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022)
        | https://arxiv.org/abs/2211.01095
        | ``sample_dpmpp_sde`` of k-diffusion, whose combination of both this is, https://github.com/crowsonkb/k-diffusion

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
        eta: Share of the posterior's noise, in [0, 1]; 0 is DPM-Solver++(2S).
        r: The place of the second call in the step, in (0, 1).

    Raises:
        SigmaTuneError: if eta is outside [0, 1] or r outside (0, 1).
    """
    no_history("dpmpp-sde", previous)
    if not 0 < r < 1:
        raise SigmaTuneError(f"r must lie in (0, 1), not {r!r}.")
    sigma_t = sigmas[..., :-1]
    middle, safe = place(sigmas, r), ends_of(sigmas)
    down_2, up_2 = down_up(sigma_t, middle, eta)
    down, up = down_up(sigma_t, safe, eta)
    first, second = shares(sigma_t, middle, safe)
    whole = 1 - down / sigma_t
    take = {
        (2, 1): 1 - down_2 / sigma_t,
        (3, 1): whole * (1 - 1 / (2 * r)),
        (3, 2): whole / (2 * r),
    }
    noise = {(2, 1): up_2 / middle, (3, 1): up / safe * first, (3, 2): up / safe * second}
    return staged(sigmas, [middle], keep=[down_2 / middle, down / safe], take=take, noise=noise)


SOLVER = Solver(
    name="dpmpp-sde",
    build=dpmpp_sde,
    calls=lambda steps: 2 * steps - 1 if steps else 0,
    width=2,
    order=2,
    cold_order=2,
    noise="eta",
    between=True,
    summary="DPM-Solver++ SDE, single step: stochastic, two calls per step and one for the last",
)
