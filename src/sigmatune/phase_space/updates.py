r"""The updates of splitting samplers: O, A and B.

In the clock :math:`\tau`, backwards in time, with the score :math:`s = (s_x, s_m)` frozen over an update of length h:

.. math::
    O&: \quad x \leftarrow e^{-\Gamma h} x + \sqrt{1 - e^{-2 \Gamma h}} \, \epsilon, \quad
        m \leftarrow e^{-\nu h} m + \sqrt{M (1 - e^{-2 \nu h})} \, \epsilon' \\
    A&: \quad x \leftarrow x + h \, (2 \Gamma x - m / M + 2 \Gamma s_x) \\
    B&: \quad m \leftarrow m + h \, (x + 2 \nu m + 2 M \nu s_m)

Without O, and with every 2 replaced by 1, they split the probability-flow ODE. lambda_s scales the noise of the
position: O's x has :math:`\lambda_s \Gamma` for :math:`\Gamma`, and A's pull is :math:`(1 + \lambda_s) \Gamma (x + s_x)`, so
that the limit of small steps is the data for any value. lambda_s = 1 leaves the sampler unchanged. This form is our
derivation; not compared with the paper's. Two others, which scale O's rate or noise alone, are biased unless
lambda_s = 1 and were removed (``benchmarks/results/phase_space.json``, "bias").

Reference: Towards Fast Stochastic Sampling in Diffusion Generative Models (Pandey et al., 2024), https://arxiv.org/abs/2402.07211
"""

from __future__ import annotations

import torch

from sigmatune.phase_space.compose import Grid, Op, matrix
from sigmatune.support.errors import SigmaTuneError

FORM = "consistent"
"""The one form of lambda_s, which plan files state."""


def check(lambda_s: float, form: str) -> None:
    """Refuses an invalid lambda_s.

    Raises:
        SigmaTuneError: for a negative or infinite lambda_s, or another form.
    """
    if not 0 <= lambda_s < float("inf"):
        raise SigmaTuneError(f"lambda_s must be a number of at least 0, not {lambda_s!r}.")
    if form != FORM:
        raise SigmaTuneError(
            f"the form of lambda_s is {FORM!r}, not {form!r}; other forms were biased and are gone, so leave the form out."
        )


def update_o(grid: Grid, share: float, lambda_s: float) -> Op:
    """The exact Ornstein-Uhlenbeck update over a share of every step."""
    p, h = grid.process, grid.h * share
    rate = p.gamma * lambda_s
    return Op(
        matrix(torch.exp(-rate * h), 0, 0, torch.exp(-p.nu * h), h),
        matrix(0, 0, 0, 0, h),
        matrix(-torch.expm1(-2 * rate * h), 0, 0, -p.mass * torch.expm1(-2 * p.nu * h), h),
    )


def update_a(grid: Grid, share: float, factor: float) -> Op:
    """The update of the position; ``factor`` is 1 + lambda_s for the SDE and 1 for the probability-flow ODE."""
    p, h = grid.process, grid.h * share
    pull = factor * p.gamma * h
    return Op(matrix(1 + pull, -h / p.mass, 0, 1, h), matrix(pull, 0, 0, 0, h), matrix(0, 0, 0, 0, h))


def update_b(grid: Grid, share: float, factor: float) -> Op:
    """The update of the momentum; ``factor`` is 2 for the SDE and 1 for the probability-flow ODE."""
    p, h = grid.process, grid.h * share
    pull = factor * p.nu * h
    return Op(matrix(1, 0, h, 1 + pull, h), matrix(0, 0, 0, p.mass * pull, h), matrix(0, 0, 0, 0, h))
