r"""Lifting: every position-space denoiser is an exact score model of phase space.

.. math::
    g = a^T \Sigma^{-1} a, \quad y = a^T \Sigma^{-1} u / g, \quad \sigma_{\mathrm{eff}} = g^{-1/2}, \qquad
    \nabla \log p(u) = \Sigma^{-1} \left( a \, D(y; \sigma_{\mathrm{eff}}) - u \right)

because (x, m) = u carries no more information about x0 than the scalar statistic y per component, which is x0 plus
noise of standard deviation sigma_eff. Nothing is trained, and guidance, conditions and latent spaces inside the
denoiser keep working.

Derived for this project; the process is that of :mod:`sigmatune.processes.psld`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.processes import PSLD
from sigmatune.processes.parametrisation import mixed
from sigmatune.processes.psld import GaussianLaw

Tensor = torch.Tensor


@dataclass(frozen=True)
class LiftedScore:
    """The score of (x, m) under a process, computed from a denoiser.

    Args:
        denoiser: The position-space model.
        process: The process.
    """

    denoiser: Denoiser
    process: PSLD

    def __call__(self, u: Tensor, t: Tensor) -> Tensor:
        """Evaluates the score.

        Args:
            u: (x, m) side by side in the channels, (B, 2 C, ...).
            t: A time for each row, (B,), float64, inside :attr:`times`.

        Returns:
            The score, shaped like u.

        Raises:
            SigmaTuneError: if the noise level of a time lies outside the denoiser's range.
        """
        sigma = self.process.sigma(t)
        self.denoiser.path.check(sigma.numpy(force=True))
        law = self.process.law(t)
        D = self.denoiser(mixed(unit_row(law), u).to(self.denoiser.dtype), sigma).to(u)
        return mixed(law.precision @ law.a[..., None], D) - mixed(law.precision, u)

    @property
    def times(self) -> tuple[float, float]:
        """The first and the last time whose noise level lies in the denoiser's range, inside (0, T]."""
        low, high = self.denoiser.path.sigma_min, self.denoiser.path.sigma_max
        ends = self.process.time(torch.tensor([low, min(high, self.process.largest)], dtype=torch.float64))
        return float(ends[0]), float(ends[1])


def lift(denoiser: Denoiser, process: PSLD | None = None) -> LiftedScore:
    """Makes the phase-space score of a denoiser; see :class:`LiftedScore`."""
    return LiftedScore(denoiser, process or PSLD())


def unit_row(law: GaussianLaw) -> Tensor:
    """The row that maps (x, m) to the denoiser's unit state, y / sqrt(1 + sigma_eff^2); (..., 1, 2)."""
    return law.estimator * torch.rsqrt(1 + 1 / law.information)[..., None, None]


def prior_mismatch(process: PSLD, t: float, power: Tensor, *, start: str = "noise") -> float:
    r"""Says how far the start is from the true law of (x, m) at time t, in nats, for Gaussian data.

    .. math:: \mathrm{KL} = \tfrac{1}{2} \sum_k \left[ \kappa_k - \log(1 + \kappa_k) \right], \quad
        \kappa_k = P_k / \sigma_{\mathrm{eff}}^2

    for the start N(0, Sigma(t)) of the samplers ("noise"): the loss equals that in position space at the same noise
    level. For the stationary law N(0, 1) x N(0, M) ("prior") the divergence of 2 x 2 Gaussians, summed over the modes.

    Args:
        process: The process.
        t: The time of the start.
        power: P of every mode, (modes,), in the units of the data squared.
        start: "noise" or "prior".
    """
    at = torch.tensor(t, dtype=torch.float64)
    kappa = power.double() * process.information(at)
    if start == "noise":
        return float((kappa - torch.log1p(kappa)).sum() / 2)
    a, cov = process.mean(at), process.covariance(at)
    true = cov + power.double()[:, None, None] * torch.outer(a, a)
    ratio = torch.linalg.solve(process.prior(), true)
    trace = ratio.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    logdet = torch.log(process.law(at).determinant) + torch.log1p(kappa) - math.log(process.mass)
    return float((trace - 2 - logdet).sum() / 2)
