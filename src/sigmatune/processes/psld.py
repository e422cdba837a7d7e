r"""Phase-space Langevin diffusion (PSLD): data x0 noised together with a momentum m, in closed form.

.. math::
    dx = \tfrac{\beta}{2} (m / M - \Gamma x) \, dt + \sqrt{\beta \Gamma} \, dw, \qquad
    dm = \tfrac{\beta}{2} (-\nu m - x) \, dt + \sqrt{\beta M \nu} \, dw', \qquad m_0 \sim N(0, \kappa M)

at critical damping, :math:`1 / M = (\Gamma - \nu)^2 / 4`, whose stationary law is :math:`N(0, 1) \times N(0, M)`. In
the clock :math:`\tau(t) = \int_0^t \beta / 2` the drift matrix is :math:`-c I + N` with :math:`c = (\Gamma + \nu) / 2`
and

.. math:: N = \begin{pmatrix} \delta & \delta^2 \\ -1 & -\delta \end{pmatrix}, \quad \delta = (\nu - \Gamma) / 2, \quad N^2 = 0,
          \qquad e^{(N - c) \tau} = e^{-c \tau} (I + N \tau),

so (x, m) given x0 is Gaussian with mean :math:`a(t) x_0` and a 2 x 2 covariance :math:`\Sigma(t)` of few terms, written with

.. math:: R(w) = 1 - e^{-w} (1 + w + w^2 / 2), \qquad w = 2 \delta \tau,

the remainder of an exponential, so that nothing cancels near t = 0. The information of (x, m) about x0 is one number
per component,

.. math:: y = a^T \Sigma^{-1} (x, m) / g = x_0 + N(0, 1 / g), \qquad g = a^T \Sigma^{-1} a, \qquad
          \sigma_{\mathrm{eff}} = g^{-1/2}.

Gamma = 0 is critically-damped Langevin diffusion (CLD). All functions take and return float64 tensors and are differentiable.

References:
    | Generative Diffusions in Augmented Spaces: A Complete Recipe (Pandey & Mandt, 2023), https://arxiv.org/abs/2303.01748
    | Score-Based Generative Modeling with Critically-Damped Langevin Diffusion (Dockhorn et al., 2021)
    | https://arxiv.org/abs/2112.07068
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import torch

from sigmatune.noise import LEVEL_TOLERANCE
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import number

Tensor = torch.Tensor
Matching = Literal["hsm", "dsm"]

SMALL = 0.5
"""Below this absolute value of w a series replaces R(w), whose terms would cancel."""

POINTS, REFINEMENTS = 2048, 3
"""Points of the table of sigma_eff, and refinements of its result, each of which divides the error by about POINTS."""

EARLIEST = 1e-12
"""The first time, as a share of T, of the table by which sigma_eff is inverted."""


@dataclass(frozen=True)
class GaussianLaw:
    """The Gaussian law of (x, m) given x0, and derived quantities.

    Attributes:
        a: Mean of (x, m) for x0 = 1, (..., 2).
        covariance, determinant, precision: Sigma, its determinant and its inverse.
        information: g = a' Sigma^-1 a, (...).
    """

    a: Tensor
    covariance: Tensor
    determinant: Tensor
    precision: Tensor
    information: Tensor

    @property
    def estimator(self) -> Tensor:
        """The row a' Sigma^-1 / g that makes y out of (x, m), (..., 1, 2)."""
        return (self.precision @ self.a[..., None]).mT / self.information[..., None, None]


@dataclass(frozen=True)
class PSLD:
    r"""The process and its closed forms.

    Args:
        gamma: Gamma, friction and noise of the position, >= 0, a pure number; 0 is CLD.
        nu: nu, friction and noise of the momentum, >= 0, a pure number other than gamma.
        kappa: kappa, variance of the initial momentum in units of M, > 0.
        beta_start, beta_end: beta at t = 0 and at t = T, linear in between, 1 / unit of time; equal ones are a constant.
        T: The last time, > 0.

    Raises:
        SigmaTuneError: for values out of range; gamma = nu, both 0 included, has no critical damping.
    """

    gamma: float = 0.01
    nu: float = 4.01
    kappa: float = 0.04
    beta_start: float = 8.0
    beta_end: float = 8.0
    T: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            object.__setattr__(self, name, number(value, name))
        if self.gamma < 0 or self.nu < 0 or self.gamma == self.nu:
            raise SigmaTuneError(
                f"gamma and nu must be at least 0 and differ, or 1 / M = (gamma - nu)^2 / 4 is none; got {self.gamma:g} "
                f"and {self.nu:g}."
            )
        for name in ("kappa", "beta_start", "beta_end", "T"):
            if getattr(self, name) <= 0:
                raise SigmaTuneError(f"{name} must be positive, not {getattr(self, name):g}.")

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> PSLD:
        """Rebuilds a process from :meth:`spec`.

        Raises:
            SigmaTuneError: for unknown fields.
        """
        try:
            return cls(**spec)
        except TypeError as error:
            raise SigmaTuneError(f"the process {dict(spec)!r} cannot be read: {error}.") from None

    def spec(self) -> dict[str, float]:
        """A JSON-ready description."""
        return asdict(self)

    @property
    def delta(self) -> float:
        """(nu - gamma) / 2."""
        return (self.nu - self.gamma) / 2

    @property
    def mass(self) -> float:
        """M = 1 / delta^2."""
        return 1 / self.delta**2

    def tau(self, t: Tensor) -> Tensor:
        r"""The clock, :math:`\int_0^t \beta / 2`."""
        return t * (self.beta_start + (self.beta_end - self.beta_start) * t / (2 * self.T)) / 2

    def time_of_tau(self, tau: Tensor) -> Tensor:
        """The time at which the clock stands at tau: the inverse of :meth:`tau`."""
        slope = (self.beta_end - self.beta_start) / (2 * self.T)
        return 4 * tau / (self.beta_start + torch.sqrt(self.beta_start**2 + 8 * slope * tau))

    def prior(self) -> Tensor:
        """The stationary covariance diag(1, M), (2, 2)."""
        return torch.diag(torch.tensor([1.0, self.mass], dtype=torch.float64))

    def transition(self, t: Tensor, s: Tensor | float = 0.0) -> Tensor:
        """The mean map of (x, m) from time s to time t, (..., 2, 2); s may be larger than t."""
        return flow(self, self.tau(t) - self.tau(torch.as_tensor(s, dtype=torch.float64)))

    def mean(self, t: Tensor) -> Tensor:
        """a(t), the mean of (x, m) for x0 = 1 and a momentum of mean 0, (..., 2)."""
        return self.transition(t)[..., 0]

    def covariance(self, t: Tensor, matching: Matching = "hsm") -> Tensor:
        """Sigma(t), the covariance of (x, m) given x0, (..., 2, 2).

        Args:
            t: Times in [0, T], (...).
            matching: "hsm": the initial momentum, N(0, kappa M), is marginalised (hybrid score matching); "dsm": it is
                given (denoising score matching).
        """
        fresh = noise(self, self.tau(t))
        if matching == "dsm":
            return fresh
        v = self.transition(t)[..., 1]
        return fresh + self.kappa * self.mass * v[..., :, None] * v[..., None, :]

    def law(self, t: Tensor) -> GaussianLaw:
        """The joint law of (x, m) and x0 at time t, averaged over the initial momentum."""
        transition, fresh = self.transition(t), self.covariance(t, "dsm")
        a, v, first = transition[..., 0], transition[..., 1], self.kappa * self.mass
        covariance = fresh + first * v[..., :, None] * v[..., None, :]
        determinant = det(fresh) + first * _form(adjugate(fresh), v)  # a lemma in which nothing cancels
        precision = adjugate(covariance) / determinant[..., None, None]
        return GaussianLaw(a, covariance, determinant, precision, _form(adjugate(covariance), a) / determinant)

    def information(self, t: Tensor) -> Tensor:
        """g(t) = a' Sigma^-1 a, the information of (x, m) about x0, 1 / variance; (...)."""
        return self.law(t).information

    def sigma(self, t: Tensor) -> Tensor:
        """sigma_eff(t) = g^-1/2, the noise level at which a position-space model is called; rises with t. (...)."""
        return self.information(t).rsqrt()

    def time(self, sigma: Tensor) -> Tensor:
        """The time of a noise level: the inverse of :meth:`sigma`; differentiable.

        Args:
            sigma: Levels, float64, (...).

        Raises:
            SigmaTuneError: for a level above that at T.
        """
        logs, known, slopes = _table(self)
        wanted = torch.log(sigma)
        if bool((wanted.detach() > known[-1] + LEVEL_TOLERANCE).any()):
            raise SigmaTuneError(
                f"sigma {float(sigma.detach().max()):.6g} lies beyond this process's last, {float(known[-1].exp()):.6g} at "
                f"T = {self.T:g}; start at a finite level below it (sigma_max=80 or the like), or raise beta."
            )
        with torch.no_grad():
            place = torch.searchsorted(known, wanted.contiguous()).clamp(1, len(known) - 1)
            slope = slopes[place - 1]
            u = logs[place - 1] + (wanted - known[place - 1]) / slope
            for _ in range(REFINEMENTS):
                u = (u - (torch.log(self.sigma(u.exp())) - wanted) / slope).clamp(max=float(logs[-1]))
        if not sigma.requires_grad:
            return u.exp()
        value, slope = self._log_sigma(u)  # one more step, which carries the derivative
        time: Tensor = (u - (value - wanted) / slope).exp()
        return time

    @property
    def largest(self) -> float:
        """The noise level at T."""
        return float(_table(self)[1][-1].exp())

    def _log_sigma(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """log sigma_eff and its derivative at log t, both without a gradient."""
        with torch.enable_grad():
            u = u.clone().requires_grad_()
            value = torch.log(self.sigma(u.exp()))
            (slope,) = torch.autograd.grad(value.sum(), u)
        return value.detach(), slope


@lru_cache(maxsize=64)
def _table(process: PSLD) -> tuple[Tensor, Tensor, Tensor]:
    """log t and log sigma_eff on a fine grid, both rising, and the slopes between the points."""
    with torch.no_grad():
        t = torch.logspace(math.log10(EARLIEST), 0, POINTS, dtype=torch.float64) * process.T
        u, known = torch.log(t), torch.log(process.sigma(t))
        return u, known, known.diff() / u.diff()


def R(w: Tensor) -> Tensor:
    r""":math:`1 - e^{-w} (1 + w + w^2 / 2)` for w of either sign, to full relative precision."""
    near, far = w.clamp(-SMALL, SMALL), torch.where(w.abs() < SMALL, torch.full_like(w, SMALL), w)
    series, minus = torch.zeros_like(near), -near
    for weight in SERIES:
        series = series * minus + weight  # weight - series * near takes twice as long
    return torch.where(w.abs() < SMALL, near**3 / 2 * series, 1 - torch.exp(-far) * (1 + far + far**2 / 2))


SERIES = [1 / (math.factorial(k) * (k + 3)) for k in range(13, -1, -1)]
"""Of R(w) / (w^3 / 2) in powers of -w, the highest first."""


def flow(process: PSLD, tau: Tensor) -> Tensor:
    """The mean map over an interval of the clock, which may be negative; (..., 2, 2)."""
    d, fade = process.delta, torch.exp(-(process.gamma + process.nu) / 2 * tau)
    rows = [torch.stack([1 + d * tau, d**2 * tau], dim=-1), torch.stack([-tau, 1 - d * tau], dim=-1)]
    return fade[..., None, None] * torch.stack(rows, dim=-2)


def noise(process: PSLD, tau: Tensor) -> Tensor:
    """The covariance of the noise over an interval of the clock, tau >= 0; (..., 2, 2)."""
    gamma, nu, d = process.gamma, process.nu, process.delta
    w = 2 * d * tau
    xx = -torch.expm1(-2 * gamma * tau) + torch.exp(-2 * gamma * tau) * R(w)
    mm = process.mass * (-torch.expm1(-2 * nu * tau) + torch.exp(-2 * nu * tau) * R(-w))
    xm = 2 * d * tau**2 * torch.exp(-(gamma + nu) * tau)
    return torch.stack([torch.stack([xx, xm], dim=-1), torch.stack([xm, mm], dim=-1)], dim=-2)


def adjugate(matrix: Tensor) -> Tensor:
    """The adjugate of symmetric 2 x 2 matrices, (..., 2, 2): the inverse times the determinant."""
    (xx, xm), mm = (matrix[..., 0, 0], matrix[..., 0, 1]), matrix[..., 1, 1]
    return torch.stack([torch.stack([mm, -xm], dim=-1), torch.stack([-xm, xx], dim=-1)], dim=-2)


def det(matrix: Tensor) -> Tensor:
    """The determinant of 2 x 2 matrices, (...)."""
    return matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]


def cholesky(matrix: Tensor, *, upper: bool = False) -> Tensor:
    """L with L L' = the matrix, lower or upper triangular, of symmetric 2 x 2 matrices that may be singular; (..., 2, 2)."""
    first, last = (1, 0) if upper else (0, 1)
    head, cross, tail = matrix[..., first, first], matrix[..., 0, 1], matrix[..., last, last]
    a = _root(head)
    b = torch.where(a > 0, cross / torch.where(a > 0, a, torch.ones_like(a)), torch.zeros_like(a))
    c = _root(tail - b**2)
    zero = torch.zeros_like(a)
    rows = [[c, b], [zero, a]] if upper else [[a, zero], [b, c]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _root(value: Tensor) -> Tensor:
    """The square root, 0 with derivative 0 for arguments that are not positive."""
    there = value > 0
    return torch.where(there, torch.where(there, value, torch.ones_like(value)).sqrt(), torch.zeros_like(value))


def _form(matrix: Tensor, v: Tensor) -> Tensor:
    return (v * (matrix @ v[..., None])[..., 0]).sum(dim=-1)
