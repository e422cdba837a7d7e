r"""ER-SDE-Solver-3: the extended reverse-time SDE, whose noise follows a free function of the level.

.. math::
    x_s = r x_t + (1 - r) D_t
        + \Big( \sigma_s - \sigma_t + \int_{\sigma_s}^{\sigma_t} \frac{\phi(\sigma_s)}{\phi(u)} du \Big) D'_t
        + \Big( \tfrac{1}{2} (\sigma_s - \sigma_t)^2
        + \int_{\sigma_s}^{\sigma_t} \frac{(u - \sigma_t) \phi(\sigma_s)}{\phi(u)} du \Big) D''_t
        + \sqrt{\sigma_s^2 - r^2 \sigma_t^2} \, \epsilon

with :math:`r = \phi(\sigma_s) / \phi(\sigma_t)` and the differences :math:`D', D''` of the last three outputs in sigma.
:math:`\phi(u) = u` is the ODE. The authors' best is :math:`u (e^{u^{0.3}} + 10)`; here :math:`\phi(u) = u (e^{u^{0.3}} +
10)^\eta` goes from one to the other.
"""

from __future__ import annotations

import math

import torch

from sigmatune.core.table import Coefficients
from sigmatune.solvers.adams import gauss_legendre
from sigmatune.solvers.base import Solver, assemble, one_call_each, scales
from sigmatune.support.elementwise import logaddexp, power
from sigmatune.support.errors import SigmaTuneError


def er_sde(
    sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, eta: float = 1.0, points: int = 0
) -> Coefficients:
    """Builds ER-SDE steps of three stages, one call each; the first two have fewer, and a step to 0 takes D.

    References:
        | Elucidating the Solution Space of Extended Reverse-Time SDE for Diffusion Models (Cui et al., 2023)
        | https://arxiv.org/abs/2309.06169

    Args:
        sigmas: Levels, (..., N + 1), descending, the last may be 0.
        previous: Must be empty.
        eta: Amount of noise, at least 0; 1 is the authors', 0 the ODE.
        points: Points of the integrals' left Riemann sums, which the authors' code and ComfyUI take with 200; 0 integrates
            exactly.

    Raises:
        SigmaTuneError: if eta or points is negative, or for a starting history.
    """
    if previous is not None and previous.shape[-1]:
        raise SigmaTuneError("er-sde takes no starting history.")
    if not 0 <= eta < float("inf") or not 0 <= points <= 10_000:
        raise SigmaTuneError(f"need eta of at least 0 and points in [0, 10000], not {eta!r} and {points!r}.")
    alpha, s = scales(sigmas)
    sigma_t, sigma_s = sigmas[..., :-1], sigmas[..., 1:]
    faded = torch.where(sigma_s > 0, _ratio(sigma_s, sigma_t, eta), torch.zeros_like(sigma_s))
    w = _weights(sigmas, eta, points)
    A = {(0, 0): s[..., 1:] / s[..., :-1] * faded, (2, 1): torch.ones_like(sigma_t)}
    A |= {(0, j): alpha[..., 1:] * w[..., j] for j in (1, 2)}
    b = {0: alpha[..., 1:] * (1 - sigma_s / sigma_t * faded + w[..., 0]), 1: torch.ones_like(sigma_t)}
    noise = s[..., 1:] * (1 - faded**2).clamp(min=0).sqrt() if eta > 0 else None
    return assemble(sigmas, q=sigma_t, A=A, b=b, noise=noise)


def _ratio(u: torch.Tensor, v: torch.Tensor, eta: float) -> torch.Tensor:
    r""":math:`\phi(u) v / (\phi(v) u)` for 0 < u <= v <= inf."""
    if eta == 0:
        return torch.ones_like(u)
    ten = torch.full((), math.log(10), dtype=u.dtype)
    growth = (logaddexp(power(level, 0.3), ten) for level in (torch.where(u > 0, u, torch.ones_like(u)), v))
    return torch.exp(eta * (next(growth) - next(growth)))


def _weights(sigmas: torch.Tensor, eta: float, points: int) -> torch.Tensor:
    """What the differences of the outputs add to their weights in x, newest first, (..., N, 3)."""
    top, bottom = sigmas[..., :-1], sigmas[..., 1:]
    used = torch.isfinite(top) & (bottom > 0)
    used[..., 0] = False
    one = torch.ones_like(top)
    top, bottom = torch.where(used, top, 2 * one), torch.where(used, bottom, one)
    first, second = _integrals(top, bottom, eta, points)
    # Inverse distances in sigma, negative, to one and to two outputs before; 0 where there is none or it was at inf.
    levels = sigmas[..., :-1]
    near, far = (
        torch.cat(
            [torch.zeros_like(levels[..., :j]), 1 / (levels[..., j:] - levels[..., : levels.shape[-1] - j])], dim=-1
        )
        for j in (1, 2)
    )
    near_before = torch.cat([0 * near[..., :1], near[..., :-1]], dim=-1)
    slope = (bottom - top + first) * used
    bend = ((bottom - top) ** 2 / 2 + second) * used * 2 * far
    newest = (slope + bend) * near
    oldest = bend * near_before
    return torch.stack([newest, -newest - oldest, oldest], dim=-1)


def _integrals(top: torch.Tensor, bottom: torch.Tensor, eta: float, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both integrals over each step, (..., N)."""
    low, high = bottom.unsqueeze(-1), top.unsqueeze(-1)
    if points:
        weight = (high - low) / points
        u = low + torch.arange(points, dtype=top.dtype) * weight
    else:
        nodes, gauss = (torch.from_numpy(values) for values in gauss_legendre())
        u = low * power(high / low, (nodes + 1) / 2)
        weight = u * torch.log(high / low) * gauss / 2
    value = low / u * _ratio(low.expand_as(u), u, eta) * weight
    return value.sum(dim=-1), ((u - high) * value).sum(dim=-1)


SOLVER = Solver(
    name="er-sde",
    build=er_sde,
    calls=one_call_each,
    width=3,
    order=2,
    cold_order=2,
    noise="eta",
    summary="ER-SDE-Solver-3: stochastic, one call per step",
)
