r"""SDE-DPM-Solver++(2M): the two-step extrapolation of DPM-Solver++(2M) for the reverse-time SDE.

.. math:: x_s = \frac{\sigma_s}{\sigma_t} e^{-\eta h} x_t + (1 - e^{-(1 + \eta) h}) \bar D
          + \sigma_s \sqrt{1 - e^{-2 \eta h}} \, \epsilon, \qquad h = \log \frac{\sigma_t}{\sigma_s}

with :math:`\bar D` as in :mod:`~sigmatune.solvers.dpmpp2m`. eta = 0 is DPM-Solver++(2M); here
:math:`e^{-\eta h} = (\sigma_s / \sigma_t)^\eta`, which needs no case for the ends.
"""

from __future__ import annotations

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.base import Solver, assemble, one_call_each
from sigmatune.solvers.dpmpp2m import middle
from sigmatune.solvers.sde import sde_step


def sde_dpmpp2m(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, eta: float = 1.0) -> Coefficients:
    """Builds SDE 2M steps (midpoint), one call each; a step to 0 adds no noise.

    References:
        | DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022), section 4.3
        | https://arxiv.org/abs/2211.01095

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: The level of one earlier call whose output is the state's second tensor, (..., 1).
        eta: Amount of noise, at least 0; 1 is the reverse-time SDE itself.

    Raises:
        SigmaTuneError: if eta is negative, or for a history of more than one level.
    """
    keep, take, noise = sde_step(sigmas, eta)
    w = middle(sigmas, previous)
    return assemble(
        sigmas,
        q=sigmas[..., :-1],
        A={(0, 0): keep, (0, 1): take * w[..., 1]},
        b={0: take * w[..., 0], 1: torch.ones_like(take)},
        noise=noise,
    )


SOLVER = Solver(
    name="sde-dpmpp2m",
    build=sde_dpmpp2m,
    calls=one_call_each,
    width=2,
    order=2,
    cold_order=2,
    history=1,
    noise="eta",
    summary="SDE-DPM-Solver++(2M): stochastic, one call per step",
)
