r"""Euler-Maruyama in phase space: the reverse-time SDE, frozen over every step.

.. math:: x \leftarrow x + h (\Gamma x - m / M + 2 \Gamma s_x) + \sqrt{2 \Gamma h} \, \epsilon, \qquad
          m \leftarrow m + h (x + \nu m + 2 M \nu s_m) + \sqrt{2 M \nu h} \, \epsilon'
"""

from __future__ import annotations

from sigmatune.phase_space.compose import Grid, Op, Step, matrix
from sigmatune.phase_space.sampler import solver


def euler_maruyama(grid: Grid) -> Step:
    """Builds Euler-Maruyama steps, one score each.

    References:
        | Numerical Solution of Stochastic Differential Equations (Kloeden and Platen, 1992)
        | https://doi.org/10.1007/978-3-662-12616-5

    Args:
        grid: The levels.
    """
    p, h = grid.process, grid.h
    F = matrix(1 + p.gamma * h, -h / p.mass, h, 1 + p.nu * h, h)
    B = matrix(2 * p.gamma * h, 0, 0, 2 * p.mass * p.nu * h, h)
    return [grid.now, Op(F, B, B)]  # the noise has the covariance of the score's weights


SOLVER = solver(
    "phase-em",
    euler_maruyama,
    asks=1,
    order=1,
    summary="phase space, Euler-Maruyama: stochastic, one call per step",
)
