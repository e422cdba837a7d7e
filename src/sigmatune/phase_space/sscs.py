r"""SSCS, the symmetric splitting of CLD: exact half steps around one Euler step of the score terms.

.. math:: d(x, m) = (-\Gamma x - m / M, \; x - \nu m) \, d\tau + \sqrt{2 (\Gamma, M \nu)} \, dw
          \quad \text{exactly over } h / 2,

.. math:: x \leftarrow x + 2 h \Gamma (x + s_x), \quad m \leftarrow m + 2 h \nu (m + M s_m), \quad \text{and again } h / 2.

The exact part is the forward process with the sign of the momentum changed, so its closed forms are those of
:mod:`sigmatune.processes.psld` with the off-diagonal entries negated.
"""

from __future__ import annotations

from sigmatune.phase_space.compose import Grid, Op, Step, matrix
from sigmatune.phase_space.sampler import solver
from sigmatune.processes.psld import flow, noise


def sscs(grid: Grid) -> Step:
    """Builds symmetric splitting steps, one score each, at the time in front of the step.

    References:
        | Score-Based Generative Modeling with Critically-Damped Langevin Diffusion (Dockhorn et al., 2021)
        | https://arxiv.org/abs/2112.07068

    Args:
        grid: The levels.
    """
    p, h = grid.process, grid.h
    sign = matrix(1, -1, -1, 1, h)
    half = Op(sign * flow(p, h / 2), matrix(0, 0, 0, 0, h), sign * noise(p, h / 2))
    pull_x, pull_m = 2 * p.gamma * h, 2 * p.nu * h
    kick = Op(matrix(1 + pull_x, 0, 0, 1 + pull_m, h), matrix(pull_x, 0, 0, p.mass * pull_m, h), matrix(0, 0, 0, 0, h))
    return [half, grid.now, kick, half]


SOLVER = solver(
    "sscs",
    sscs,
    asks=1,
    order=1,
    summary="phase space, symmetric splitting CLD sampler: stochastic, one call per step",
)
