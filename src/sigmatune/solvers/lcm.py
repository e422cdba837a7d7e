r"""Multistep consistency sampling: jump to the data, and add fresh noise to come back up.

.. math:: x_s = D_t + \sigma_s \Big( \sqrt{1 - \gamma^2} \, \hat\epsilon + \gamma \epsilon \Big), \qquad
          \hat\epsilon = \frac{x_t - D_t}{\sigma_t}

The output of a **consistency model** is the end of the trajectory through :math:`x_t`. With :math:`\gamma = 1` (``eta``), the
sampler of latent consistency models, every :math:`x_s` then has the right distribution, whatever the steps; 0 is DDIM. The
mean that an ordinary denoiser predicts is not such an end: with it and fresh noise more steps do not converge, so the order is
0.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.base import Solver, assemble, no_history, one_call_each, scales
from sigmatune.support.errors import SigmaTuneError


def lcm(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, eta: float = 1.0) -> Coefficients:
    """Builds consistency steps, one call each; a step to 0 adds no noise.

    References:
        | Consistency Models (Song et al., 2023), algorithm 1, https://arxiv.org/abs/2303.01469
        | Latent Consistency Models (Luo et al., 2023), https://arxiv.org/abs/2310.04378
        | Trajectory Consistency Distillation (Zheng et al., 2024), whose gamma is eta, https://arxiv.org/abs/2402.19159

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
        eta: Share of fresh noise, in [0, 1].

    Raises:
        SigmaTuneError: if eta is outside [0, 1].
    """
    no_history("lcm", previous)
    if not 0 <= eta <= 1:
        raise SigmaTuneError(f"eta must lie in [0, 1], not {eta!r}.")
    alpha, s = scales(sigmas)
    old = (1 - eta**2) ** 0.5
    keep = old * s[..., 1:] / s[..., :-1]
    take = alpha[..., 1:] * (1 - old * sigmas[..., 1:] / sigmas[..., :-1])
    return assemble(sigmas, q=sigmas[..., :-1], A={(0, 0): keep}, b={0: take}, noise=eta * s[..., 1:])


SOLVER = Solver(
    name="lcm",
    build=lcm,
    calls=one_call_each,
    width=1,
    order=0,
    cold_order=0,
    noise="eta",
    summary="consistency sampling for LCM, TCD and other distilled models: stochastic, one call per step",
)
