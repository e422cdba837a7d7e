r"""Gaussian data: the effect of a plan on every mode, exactly and without a network.

For :math:`x_0 \sim N(0, \mathrm{diag} P)` the ideal denoiser multiplies every mode of the unit state by a number,

.. math:: D(z; \sigma) = d \, z, \qquad d = \frac{\alpha P}{\alpha^2 P + s^2},

so the linear state machine becomes a product of small matrices, one per call and mode,

.. math:: S_{k+1} = M_k S_k + G_k \epsilon_k, \quad M_k = A_k + d_k \, b_k c_k^T, \qquad
          g = c_K M_{K-1} \cdots M_0 \, \text{start}, \quad
          v = g^2 + \sum_k (c_K M_{K-1} \cdots M_{k+1} G_k)^2,

with gain g and output variance v of each mode. The plan's error is the squared Wasserstein distance between its output
and the data, :math:`(\sqrt v - \sqrt P)^2`, per mode. All of it is differentiable in the levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from sigmatune.core.table import Coefficients
from sigmatune.noise import Array
from sigmatune.solvers.base import scales
from sigmatune.support.errors import SigmaTuneError


def transfer(coefficients: Coefficients, power: torch.Tensor) -> torch.Tensor:
    """The matrices M of one shared table, (K, modes, w, w).

    Args:
        coefficients: The plan's table, without a row axis.
        power: P of each mode, (modes,), float64.

    Raises:
        SigmaTuneError: for a phase-space network's table, because no position-space denoiser gives its score.
    """
    if coefficients.ports > 1:
        raise SigmaTuneError("closed forms need a position-space plan; this plan is for a phase-space network.")
    alpha, s = scales(coefficients.q)
    d = alpha[:, None] * power / (alpha[:, None] ** 2 * power + s[:, None] ** 2)
    outer = coefficients.b[:, :, None] * coefficients.c[:-1, None, :]
    return coefficients.A[:, None] + d[:, :, None, None] * outer[:, None]


def gain(coefficients: Coefficients, power: torch.Tensor) -> torch.Tensor:
    """The gain of the start noises in every mode, (modes, m); for a deterministic plan m = 1."""
    product = _product(transfer(coefficients, power)) @ coefficients.start
    return (coefficients.c[-1] @ product.movedim(-2, 0).flatten(1)).reshape(product.shape[0], -1)


def variance(coefficients: Coefficients, power: torch.Tensor) -> torch.Tensor:
    """The variance of the result in every mode, including noise added while sampling, (modes,)."""
    if coefficients.G.shape[-1] == 0:
        return gain(coefficients, power).square().sum(dim=-1)
    suffix = _suffixes(transfer(coefficients, power))  # (K + 1, modes, w, w)
    result = coefficients.c[-1] @ suffix  # (K + 1, modes, w)
    fresh = (result[1:] @ coefficients.G).square().sum(dim=(0, 2))
    return (result[0] @ coefficients.start).square().sum(dim=-1) + fresh


def errors(coefficients: Coefficients, power: torch.Tensor) -> torch.Tensor:
    r"""Squared Wasserstein distance of every mode to the data, :math:`(\sqrt v - \sqrt P)^2`, (modes,).

    Args:
        coefficients: The plan's table, without a row axis; differentiable.
        power: P of each mode, (modes,), float64.
    """
    if coefficients.G.shape[-1] == 0 and coefficients.start.shape[-1] == 1:
        return (gain(coefficients, power)[:, 0].abs() - power.sqrt()).square()
    return (variance(coefficients, power).sqrt() - power.sqrt()).square()


@dataclass(frozen=True, eq=False)
class Analysis:
    """The effect of a plan on Gaussian data, mode by mode.

    Attributes:
        power: P of each mode.
        variance: Variance of the result.
        error: Squared Wasserstein distance to the data.
        largest_gain: Largest amplification of a network input over its true standard deviation, over all calls and modes:
            1 for an exact sampler; much more is instability.
        terms: The excess of each part of the plan over the exact solution, (K + 1, modes): first the start (noise
            instead of the noisy data's own distribution), then one step after each call, moved to the end by the exact
            solution. They sum to the error of the gain. None for a stochastic plan.
    """

    power: Array
    variance: Array
    error: Array
    largest_gain: float
    terms: Array | None

    @property
    def cancellation(self) -> Array | None:
        """Which share of the terms cancels in each mode, 0 (none: all of one sign) to 1 (all), (modes,)."""
        if self.terms is None:
            return None
        total = np.abs(self.terms).sum(axis=0)
        return np.asarray(1 - np.abs(self.terms.sum(axis=0)) / np.where(total > 0, total, 1))

    def __str__(self) -> str:
        relative = np.sqrt(self.error / self.power)
        worst = int(np.argmax(self.error))
        lines = [
            f"error per mode {self.error.mean():.3g} (squared Wasserstein distance; data {self.power.mean():.3g})",
            f"worst mode: power {self.power[worst]:.3g}, {relative[worst]:.1%} of its standard deviation",
            f"largest gain {self.largest_gain:.3g}" + (" (unstable)" if self.largest_gain > UNSTABLE else ""),
        ]
        if self.terms is not None and self.cancellation is not None:
            size = np.sqrt((self.terms**2).mean(axis=1))
            cancels = float(np.average(self.cancellation, weights=np.abs(self.terms).sum(axis=0)))
            largest = ", ".join(f"{_part(i)} {size[i]:.2g}" for i in np.argsort(-size)[:3])
            lines.append(f"largest terms: {largest}; {cancels:.0%} of all terms cancel")
        return "\n".join(lines)


UNSTABLE = 2.0
"""A network input that is too large by this factor lies outside every network's training range."""


def _part(index: int) -> str:
    return "start" if index == 0 else f"call {index - 1}"


def analyse(coefficients: Coefficients, power: Array) -> Analysis:
    """Reports error, stability and cancellation of a plan on Gaussian data.

    Args:
        coefficients: The plan's table, without a row axis.
        power: P of each mode, (modes,).
    """
    P = torch.as_tensor(np.asarray(power, dtype=np.float64))
    M = transfer(coefficients, P)
    mean = coefficients.start.expand(len(P), -1, -1)
    covariance = torch.zeros(len(P), coefficients.width, coefficients.width, dtype=torch.float64)
    inputs, spread = [], []
    for k in range(coefficients.calls + 1):
        inputs.append((coefficients.c[k] @ mean).sum(dim=-1))
        var = (coefficients.c[k] @ mean).square().sum(dim=-1) + coefficients.c[k] @ covariance @ coefficients.c[k]
        spread.append(var)
        if k < coefficients.calls:
            G = coefficients.G[k]
            mean, covariance = M[k] @ mean, M[k] @ covariance @ M[k].mT + G @ G.mT
    alpha, s = scales(coefficients.q)
    true = alpha[:, None] ** 2 * P + s[:, None] ** 2
    ratio = (torch.stack(spread[:-1]) / true).sqrt()
    terms = None
    if coefficients.deterministic and coefficients.start.shape[-1] == 1:
        # Each network input, carried to the end by the exact solution, against the one before.
        carried = torch.stack(inputs[:-1]) * (P / true).sqrt()
        ends = torch.cat([P.sqrt()[None], carried, inputs[-1][None]])
        terms = np.asarray(ends.diff(dim=0).numpy())
    v = variance(coefficients, P)
    return Analysis(
        power=P.numpy(),
        variance=v.numpy(),
        error=(v.sqrt() - P.sqrt()).square().numpy(),
        largest_gain=float(ratio.max()),
        terms=terms,
    )


def _product(M: torch.Tensor) -> torch.Tensor:
    """M[K-1] ... M[0] by halving, so that long plans cost few operations."""
    while M.shape[0] > 1:
        odd = M[-1:] if M.shape[0] % 2 else None
        pairs = M[: M.shape[0] // 2 * 2]
        M = pairs[1::2] @ pairs[::2]
        if odd is not None:
            M = torch.cat([M, odd])
    return M[0]


def _suffixes(M: torch.Tensor) -> torch.Tensor:
    """M[K-1] ... M[k] for k = 0..K, the last being the identity, by doubling."""
    calls = M.shape[0]
    eye = torch.eye(M.shape[-1], dtype=M.dtype).expand(1, *M.shape[1:])
    for shift in (2**i for i in range(math.ceil(math.log2(max(calls, 1))))):
        M = torch.cat([M[shift:] @ M[:-shift], M[-shift:]])
    return torch.cat([M, eye])
