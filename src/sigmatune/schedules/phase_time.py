r"""Phase time: even steps in a power of the time of a phase-space process, read as noise levels.

.. math:: t_i = \epsilon + (t_0 - \epsilon) \left( 1 - \tfrac{i}{N - 1} \right)^p, \qquad
          \sigma_i = \sigma_{\mathrm{eff}}(t_i), \qquad t_0 = \min(T, \; \sigma_{\mathrm{eff}}^{-1}(\sigma_{\max}))

p = 1 is the uniform and p = 2 the quadratic grid of the phase-space papers, with small steps near the data. The last step, from
epsilon on, is the solver's. Where sigma_eff(epsilon) lies below the model's last level, epsilon moves up to that level.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import positive


def phase_time(  # noqa: PLR0913 (the process's options)
    steps: int,
    path: NoisePath,
    *,
    power: float = 2.0,
    eps: float = 1e-3,
    gamma: float = 0.01,
    nu: float = 4.01,
    kappa: float = 0.04,
    beta_start: float = 8.0,
    beta_end: float = 8.0,
    T: float = 1.0,
) -> Array:
    r"""Spaces levels evenly in a power of phase-space time.

    References:
        | Towards Fast Stochastic Sampling in Diffusion Generative Models (Pandey et al., 2024)
        | https://arxiv.org/abs/2402.07211

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path; sigma_max may be infinite.
        power: p, > 0, a pure number.
        eps: The last time, in the unit of T, 0 < eps < t_0.
        gamma, nu, kappa, beta_start, beta_end, T: The process, see :class:`~sigmatune.processes.PSLD`; the solver's
            should be the same.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: if power is not positive, or eps does not lie before the time of the first level.
    """
    import torch

    from sigmatune.processes import PSLD

    positive(power=power, eps=eps)
    process = PSLD(gamma, nu, kappa, beta_start, beta_end, T)
    if steps == 1:
        return np.array([path.sigma_max])
    ends = np.minimum([path.sigma_min, path.sigma_max], process.largest)
    low, high = process.time(torch.from_numpy(ends)).tolist()
    if eps >= high:
        raise SigmaTuneError(
            f"eps must lie below {high:.4g}, the time of the first level (T is {T:g}), not be {eps:g}."
        )
    last = max(eps, low)
    t = last + (high - last) * np.linspace(1, 0, steps) ** power
    levels = np.minimum(process.sigma(torch.from_numpy(t)).numpy(), path.sigma_max)
    if eps <= low:
        levels[-1] = path.sigma_min
    return np.asarray(levels)


FAMILY = Family(
    "phase-time",
    phase_time,
    "even in a power of the time of a phase-space process; quadratic by default",
    starts=False,
    ends=False,
)
