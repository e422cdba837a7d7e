r"""Conjugate splitting: A and B of the probability-flow ODE, each solved by the conjugate integrator of its own variable.

While A moves the position, the momentum and :math:`\hat\epsilon` are frozen, and with :math:`K = \lambda + \Gamma`

.. math:: x \leftarrow e^{K h} (1 - h \lambda) \, x - \frac{e^{K h} - 1}{K} \frac{m}{M}
          - \int e^{K (\tau - \tau_s)} \Gamma \, (L(\tau)^{-T} \hat\epsilon)_x \, d\tau,

and B likewise with :math:`\nu`, :math:`+x` and :math:`M \nu`. With lambda = 0 the linear part of each is exact. This
splitting is our derivation; not compared with the paper's: each variable is integrated exactly, except for what is
frozen.

Reference: Efficient Integrators for Diffusion Generative Models (Pandey et al., 2023), https://arxiv.org/abs/2310.07894
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sigmatune.core.solver import Solver
from sigmatune.phase_space.compose import Ask, Grid, Op, Step, matrix
from sigmatune.phase_space.conjugate import asked_root, integral
from sigmatune.phase_space.sampler import solver

Tensor = torch.Tensor


def spelled(word: str, asks: list[bool]) -> Callable[..., Step]:
    """The step of a string of A and B.

    Args:
        word: The letters.
        asks: Whether each letter needs a new score.
    """

    def conjugate_splitting(grid: Grid, *, lam: float = 0.0) -> Step:
        """Builds conjugate splitting steps; see the module.

        Args:
            grid: The levels.
            lam: lambda, 1 / unit of the clock tau; a pure number of either sign.
        """
        parts: list[Op | Ask] = []
        done = dict.fromkeys("AB", 0)
        tau = grid.process.tau(grid.t)
        for letter, ask in zip(word, asks, strict=True):
            if ask:
                parts.append(grid.now)
            begin, end = (done[letter] + k for k in (0, 1))
            high, low = (tau[..., :-1] - grid.h * (share / word.count(letter)) for share in (begin, end))
            parts.append(_update(grid, letter, high, low, lam))
            done[letter] += 1
        return parts

    return conjugate_splitting


def _update(grid: Grid, letter: str, high: Tensor, low: Tensor, lam: float) -> Op:
    p, h = grid.process, high - low
    rate, row = (p.gamma, 0) if letter == "A" else (p.nu, 1)
    K = lam + rate
    keep = torch.exp(h * K) * (1 - h * lam)
    # (e^{Kh} - 1) / K, which is h for K = 0.
    forced = torch.expm1(h * K) / K if K else h
    force = torch.zeros(2, 2, dtype=h.dtype)
    force[row, row] = rate * (1.0 if letter == "A" else p.mass)
    B = integral(p, high, low, lambda stretch: torch.exp(K * stretch) * force) @ asked_root(grid)
    F = matrix(keep, -forced / p.mass, 0, 1, h) if letter == "A" else matrix(1, 0, forced, keep, h)
    return Op(F, B, matrix(0, 0, 0, 0, h))


def conjugate_of(word: str, asks: list[bool]) -> Solver:
    """The solver ``conjugate-`` and the letters."""
    return solver(
        f"conjugate-{word.lower()}",
        spelled(word, asks),
        asks=sum(asks),
        order=1,
        summary=f"phase space, {word} conjugate splitting: deterministic, {sum(asks)} call{'s' * (sum(asks) > 1)} per step",
        deterministic=True,
    )
