r"""SDE-DPM-Solver++(3M): the three-step method for the reverse-time SDE.

The parabola through the last three outputs, in :math:`\lambda = -\log \sigma`, takes the place of D in

.. math:: x_s = \frac{\sigma_s}{\sigma_t} e^{-\eta h} x_t + (1 - e^{-(1 + \eta) h}) \bar D
          + \sigma_s \sqrt{1 - e^{-2 \eta h}} \, \epsilon, \qquad h = \log \frac{\sigma_t}{\sigma_s}.

The published code, and with it k-diffusion and ComfyUI, has half of the coefficient of :math:`u^2`
(:mod:`~sigmatune.solvers.dpmpp3m` says more). Here ``curve`` is that factor: 1/2, so that images are those of these programs,
or 1 for the parabola itself. The weak order is 2 with either, because of the first steps.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import adams, inverse_distances, log_steps, moment
from sigmatune.solvers.base import Solver, assemble, one_call_each
from sigmatune.solvers.sde import sde_step


def sde_dpmpp3m(
    sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, eta: float = 1.0, curve: float = 0.5
) -> Coefficients:
    """Builds SDE 3M steps, one call each: from a cold start a first-order step, a line, then parabolas; no noise to 0.

    References:
        | DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022), section 4.3
        | https://arxiv.org/abs/2211.01095
        | ``sample_dpmpp_3m_sde`` of k-diffusion, https://github.com/crowsonkb/k-diffusion

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Levels, (..., p), descending, of up to two earlier calls, whose outputs the state holds.
        eta: Amount of noise, at least 0; 1 is the reverse-time SDE itself.
        curve: Factor of the parabola's quadratic term.

    Raises:
        SigmaTuneError: if eta is negative, or for a history of more than two levels.
    """
    keep, take, noise = sde_step(sigmas, eta)
    h, g = log_steps(sigmas), inverse_distances(sigmas, previous, 2)
    speed = 1 + eta  # the kernel is exp((1 + eta) u)
    w = adams(speed * h, g / speed, "data")
    less = (1 - curve) * moment(speed * h, 2) * h**2
    w = w - less.unsqueeze(-1) * _bend(g)
    A = {(0, 0): keep, (0, 1): take * w[..., 1], (0, 2): take * w[..., 2], (2, 1): torch.ones_like(take)}
    return assemble(sigmas, q=sigmas[..., :-1], A=A, b={0: take * w[..., 0], 1: torch.ones_like(take)}, noise=noise)


def _bend(g: torch.Tensor) -> torch.Tensor:
    """Weights of the outputs in the coefficient of u^2, (..., N, 3); 0 where there are only two."""
    near, far = g[..., 0], g[..., 1]
    gap = torch.where(near > far, near - far, torch.ones_like(near))
    return torch.stack([near * far, -(near**2) * far / gap, near * far**2 / gap], dim=-1)


SOLVER = Solver(
    name="sde-dpmpp3m",
    build=sde_dpmpp3m,
    calls=one_call_each,
    width=3,
    order=2,
    cold_order=2,
    history=2,
    noise="eta",
    summary="SDE-DPM-Solver++(3M): stochastic, one call per step",
)
