r"""RES, multistep: the line through the last two outputs, integrated exactly; with noise, ancestral.

.. math::
    x_s = e^{-h} x_t + h \Big( \varphi_1(-h) - \tfrac{1}{c_2} \varphi_2(-h) \Big) D_t + \tfrac{h}{c_2} \varphi_2(-h) D_{prev}
          + \sigma_{up} \epsilon, \qquad h = \log \frac{\sigma_t}{\sigma_{down}}, \quad
    c_2 = \frac{1}{h} \log \frac{\sigma_{down, prev}}{\sigma_{prev}}

Without noise :math:`\sigma_{down} = \sigma_s`, and :math:`c_2 = -h_{prev} / h`. DPM-Solver++(2M) extrapolates to the middle of
the step instead, which is the limit for short steps.
"""

from __future__ import annotations

from functools import partial

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import moment
from sigmatune.solvers.base import Solver, assemble, one_call_each, scales
from sigmatune.solvers.sde import down_up
from sigmatune.support.errors import SigmaTuneError


def res_multistep(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, eta: float = 0.0) -> Coefficients:
    """Builds RES multistep steps, one call each; the first step and a step to 0 are of first order, no noise to 0.

    References:
        | Improved Order Analysis and Design of Exponential Integrator for Diffusion Models Sampling (Zhang et al., 2023)
        | https://arxiv.org/abs/2308.02157
        | ``res_multistep`` of Cosmos and ComfyUI, for the noise, https://github.com/comfyanonymous/ComfyUI

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: The level of one earlier call whose output is the state's second tensor, (..., 1).
        eta: Share of the posterior's noise, in [0, 1].

    Raises:
        SigmaTuneError: if eta is outside [0, 1], or for a history of more than one level.
    """
    if previous is not None and previous.shape[-1] > 1:
        raise SigmaTuneError("this solver uses 1 earlier outputs, so give at most 1 earlier levels.")
    alpha, s = scales(sigmas)
    sigma_t, sigma_s = sigmas[..., :-1], sigmas[..., 1:]
    down, up = down_up(sigma_t, sigma_s, eta)
    old = _weight(sigmas, down, previous, eta)
    keep, take = alpha[..., 1:] * down / s[..., :-1], alpha[..., 1:] * (1 - down / sigma_t)
    return assemble(
        sigmas,
        q=sigma_t,
        A={(0, 0): keep, (0, 1): take * old},
        b={0: take * (1 - old), 1: torch.ones_like(take)},
        noise=alpha[..., 1:] * up,
    )


def _weight(sigmas: torch.Tensor, down: torch.Tensor, previous: torch.Tensor | None, eta: float) -> torch.Tensor:
    """The weight of the previous output, (..., N); 0 where there is none, and in steps that start or end at inf or 0."""
    sigma_t = sigmas[..., :-1]
    if previous is not None and previous.shape[-1]:  # the step before the first was made with the same eta
        before = torch.cat([previous, sigma_t[..., :-1]], dim=-1)
        reached = torch.cat([down_up(previous, sigma_t[..., :1], eta)[0], down[..., :-1]], dim=-1)
    else:
        nothing = torch.zeros_like(sigma_t[..., :1])
        before, reached = (torch.cat([nothing, value[..., :-1]], dim=-1) for value in (sigma_t, down))
    used = (before > 0) & torch.isfinite(before) & (reached > 0) & (down > 0)
    one = torch.ones_like(sigma_t)
    span, h = (
        torch.where(used, top, one).log() - torch.where(used, bottom, 0.5 * one).log()
        for top, bottom in ((before, reached), (sigma_t, down))
    )
    return torch.where(used, -moment(h, 1) * h / span, 0 * one)


def _solver(name: str, eta: float, **declared: object) -> Solver:
    return Solver(
        name=name,
        build=partial(res_multistep, eta=eta),
        calls=one_call_each,
        width=2,
        history=1,
        noise="eta",
        **declared,  # type: ignore[arg-type]
    )


SOLVERS = (
    _solver("res-multistep", 0.0, order=2, cold_order=2, summary="RES, multistep: second order, one call per step"),
    _solver(
        "res-multistep-ancestral",
        1.0,
        order=2,
        cold_order=2,
        summary="RES, multistep, ancestral: stochastic, one call per step",
    ),
)
