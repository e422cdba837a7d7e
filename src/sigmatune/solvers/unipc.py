r"""UniPC: a predictor, and a corrector that costs no call because it uses the output of the next step's.

After the network call at the predicted state, the step that led there is repeated with the new output
:math:`D_s` among the nodes; the next step starts from this corrected state.

=====  =============================================  ==================================================
order  predictor                                      corrector (adds :math:`D_s`)
=====  =============================================  ==================================================
1      Euler                                          the mean of both ends, :math:`(D_t + D_s) / 2`
2      extrapolation to the middle (DPM-Solver++ 2M)  the parabola through three outputs, integrated
3      the parabola through three outputs             the cubic through four outputs, integrated
=====  =============================================  ==================================================

The corrector raises the order by one. This is the variant B(h) = e^h - 1 ("bh2") in the data prediction; beyond the
first two entries of the table the choice of B cancels out.
"""

from __future__ import annotations

from functools import partial

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import adams, inverse_distances, log_steps
from sigmatune.solvers.base import Solver, assemble, euler_step, one_call_each
from sigmatune.solvers.dpmpp2m import middle


def unipc(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, order: int = 2) -> Coefficients:
    """Builds UniPC steps of an order, one call each; the order rises from 1 with the history, a step to 0 is Euler's.

    References:
        | UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models (Zhao et al., 2023)
        | https://arxiv.org/abs/2302.04867

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Levels, (..., p), descending, of up to order - 1 earlier calls, whose outputs the state holds.
        order: 1, 2 or 3: that of the predictor.

    Raises:
        SigmaTuneError: for a longer history.
    """
    g = inverse_distances(sigmas, previous, order - 1)
    h = log_steps(sigmas)
    keep, take = euler_step(sigmas)
    predict = _predictor(sigmas, h, g, previous)
    return predictor_corrector(sigmas, keep, take, predict, corrector(h, g))


def predictor_corrector(
    sigmas: torch.Tensor,
    keep: torch.Tensor,
    take: torch.Tensor,
    predict: torch.Tensor,
    correct: tuple[torch.Tensor, torch.Tensor],
    noise: torch.Tensor | None = None,
) -> Coefficients:
    """Lays out a multistep predictor whose corrector uses the output of the next step's call.

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        keep, take: The factors of z and of the weighted outputs in each step, (..., N).
        predict: Weights of the outputs in the predictor, newest first, (..., N, p).
        correct: Weights of the output at the step's end, (..., N), and of those before, newest first, (..., N, p).
        noise: Weight of the noise of each step, the same in both, (..., N).
    """
    ahead, behind = correct
    predict, order = take.unsqueeze(-1) * predict, predict.shape[-1]
    ahead, behind = take * ahead, take.unsqueeze(-1) * behind

    # State: the network's input, the last outputs, and what is known of the corrected state before the call at its end.
    known, zero, one = order, torch.zeros_like(take), torch.ones_like(take)
    started = torch.cat([zero[..., :1], one[..., 1:]], dim=-1)  # the first input needs no correction
    late = torch.cat([zero[..., :1], ahead[..., :-1]], dim=-1)  # the weight of D in the state at which it was computed
    A = {(0, 0): keep * (1 - started), (0, known): keep * started}
    A |= {(known, 0): keep * (1 - started), (known, known): keep * started}
    b = {0: keep * late + predict[..., 0], known: keep * late + behind[..., 0]}
    for j in range(1, order):
        A[0, j], A[known, j] = predict[..., j], behind[..., j]
    for j in range(2, order):
        A[j, j - 1] = one
    if order > 1:
        b[1] = one
    drawn = None if noise is None else {0: noise, known: noise}
    return assemble(sigmas, q=sigmas[..., :-1], A=A, b=b, noise=drawn)


def _predictor(sigmas: torch.Tensor, h: torch.Tensor, g: torch.Tensor, previous: torch.Tensor | None) -> torch.Tensor:
    """Weights of the outputs in the predictor, newest first, (..., N, order)."""
    order = g.shape[-1] + 1
    if order == 1:
        return torch.ones_like(h).unsqueeze(-1)
    line = middle(sigmas, None if previous is None else previous[..., -1:])
    if order == 2:
        return line
    return torch.where(g[..., -1:] > 0, adams(h, g, "data"), torch.nn.functional.pad(line, (0, order - 2)))


def corrector(h: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the output at the step's end, (..., N), and of those before, newest first, (..., N, order).

    A step to 0 or from inf has h = 0 and is not integrated as a polynomial: after a step to 0 no call follows, so no
    correction is needed; from inf, and for order 1, the corrector is the mean of both ends.
    """
    regular = h > 0
    end = -1 / torch.where(regular, h, torch.ones_like(h))
    weights = adams(h, torch.cat([end.unsqueeze(-1), g], dim=-1), "data")
    ahead, behind = weights[..., 1], torch.cat([weights[..., :1], weights[..., 2:]], dim=-1)
    mean = ~regular | ~(g > 0).any(dim=-1)
    half = torch.zeros_like(behind)
    half[..., 0] = 0.5
    return torch.where(mean, 0.5, ahead), torch.where(mean.unsqueeze(-1), half, behind)


def _solver(order: int) -> Solver:
    return Solver(
        name=f"unipc{order}",
        build=partial(unipc, order=order),
        calls=one_call_each,
        width=order + 1,
        order=order + 1,
        cold_order=min(order + 1, 3),
        history=order - 1,
        summary=f"UniPC with a predictor of order {order}: corrected to order {order + 1}, one call per step",
    )


SOLVERS = tuple(_solver(order) for order in (1, 2, 3))
