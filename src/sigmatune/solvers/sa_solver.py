r"""SA-Solver: stochastic Adams predictor and corrector for the reverse-time SDE.

.. math:: x_s = \frac{\sigma_s}{\sigma_t} e^{-\tau^2 h} x_t + \sum_j b_j D_j + \sigma_s \sqrt{1 - e^{-2 \tau^2 h}} \, \epsilon,
          \qquad b_j = \int_0^h (1 + \tau^2) e^{(1 + \tau^2)(u - h)} \ell_j(u) \, du, \qquad h = \log \frac{\sigma_t}{\sigma_s}

with the Lagrange polynomials :math:`\ell_j` in :math:`-\log \sigma`. The predictor goes through the last three outputs; after
the next call the step is repeated with that output as a fourth one and the same noise, which costs no call. Both orders rise
from 1 and fall again towards a final 0.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import adams, inverse_distances, log_steps
from sigmatune.solvers.base import Solver, no_history, one_call_each, scales
from sigmatune.solvers.unipc import predictor_corrector
from sigmatune.support.elementwise import power
from sigmatune.support.errors import SigmaTuneError


def sa_solver(
    sigmas: torch.Tensor,
    *,
    previous: torch.Tensor | None = None,
    tau: float = 1.0,
    noise_from: float = 0.0,
    noise_to: float = 0.0,
) -> Coefficients:
    """Builds SA-Solver steps, one call each; a step to 0 takes D.

    References:
        | SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models (Xue et al., 2023)
        | https://arxiv.org/abs/2309.05019

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
        tau: Amount of noise, at least 0; 1 is the reverse-time SDE itself, 0 the ODE.
        noise_from, noise_to: Add noise in steps to levels from ``noise_from`` down to ``noise_to`` alone; 0 is no bound.
            ComfyUI adds it where the model's time is between 0.8 and 0.2 of the whole.

    Raises:
        SigmaTuneError: if tau or a bound is negative or not finite, or for a starting history.
    """
    no_history("sa-solver", previous)
    if not all(0 <= value < float("inf") for value in (tau, noise_from, noise_to)):
        raise SigmaTuneError("tau, noise_from and noise_to must be numbers of at least 0.")
    alpha, s = scales(sigmas)
    sigma_t, sigma_s = sigmas[..., :-1], sigmas[..., 1:]
    noisy = (sigma_s >= noise_to) & ((sigma_s <= noise_from) | (noise_from == 0))
    squared = torch.where(noisy, tau**2, 0.0).double()
    ratio = sigma_s / sigma_t
    regular = ratio > 0
    faded = torch.where(regular, power(torch.where(regular, ratio, torch.ones_like(ratio)), squared), squared == 0)
    keep, take = s[..., 1:] / s[..., :-1] * faded, alpha[..., 1:] * (1 - ratio * faded)
    noise = s[..., 1:] * (1 - faded**2).sqrt() if bool((squared > 0).any()) else None

    steps, falls = sigma_s.shape[-1], bool((sigmas[..., -1] == 0).all())
    left = [steps - 1 - k if falls else 4 for k in range(steps)]
    known = torch.arange(1, 3)
    g, h, speed = inverse_distances(sigmas, None, 2), log_steps(sigmas), 1 + squared
    most = torch.tensor([min(3, k + 1, max(left[k], 1)) for k in range(steps)]).unsqueeze(-1)
    predict = adams(speed * h, g * (most > known) / speed.unsqueeze(-1), "data")
    most = torch.tensor([min(4, k + 2, max(left[k], 2)) for k in range(steps)]).unsqueeze(-1)
    correct = _corrector(speed * h, g * (most - 1 > known) / speed.unsqueeze(-1))
    return predictor_corrector(sigmas, keep, take, predict, correct, noise)


def _corrector(h: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the output at the step's end, (..., N), and of those before, (..., N, 3); from inf the mean of both ends."""
    regular = h > 0
    end = -1 / torch.where(regular, h, torch.ones_like(h))
    weights = adams(h, torch.cat([end.unsqueeze(-1), g], dim=-1), "data")
    ahead, behind = weights[..., 1], torch.cat([weights[..., :1], weights[..., 2:]], dim=-1)
    half = torch.zeros_like(behind)
    half[..., 0] = 0.5
    return torch.where(regular, ahead, 0.5), torch.where(regular.unsqueeze(-1), behind, half)


SOLVER = Solver(
    name="sa-solver",
    build=sa_solver,
    calls=one_call_each,
    width=4,
    order=2,
    cold_order=2,
    noise="tau",
    summary="SA-Solver, predictor of order 3 and corrector of order 4: stochastic, one call per step",
)
