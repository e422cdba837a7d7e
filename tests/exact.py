"""Exact models for the tests: small, float64, with closed-form solutions."""

from __future__ import annotations

import numpy as np
import torch

from sigmatune.models.analytic import GaussianSpectrum
from sigmatune.noise import VE, VP, Flow, Narrowed, NoisePath, vp

PATHS: dict[str, NoisePath] = {"vp": vp(), "vp-zero-snr": vp(zero_terminal_snr=True), "ve": VE(), "flow": Flow(3.0)}

SD = {"beta_start": 0.00085, "beta_end": 0.012}
ALL_PATHS: dict[str, NoisePath] = {
    "vp linear": vp(),
    "vp scaled": vp("scaled_linear", **SD),
    "vp cosine": vp("cosine"),
    "vp zero snr": vp("scaled_linear", **SD, zero_terminal_snr=True),
    "vp table": VP(1 / (1 + np.geomspace(0.05, 30, 12) ** 2)),
    "ve": VE(),
    "edm": VE(0.01, 50.0, clock="quarter_log"),
    "flow": Flow(),
    "flow shifted": Flow(3.0),
    "flow unshifted": Flow(0.4, levels=100),
    "narrowed vp": Narrowed(vp(), 0.05, 20.0),
    "narrowed ve": Narrowed(VE(), 0.02, 5.0),
    "narrowed flow": Narrowed(Flow(3.0), 0.01, 50.0),
    "narrowed below": Narrowed(Flow(3.0), 0.01, np.inf),
}


ROOTS = 1e-6
"""How far the signal power of a table with square roots (zero terminal SNR) may lie off: MKL's roots differ by some ten
last bits between processors."""


def is_table(path: NoisePath, alphas_cumprod: torch.Tensor) -> bool:
    """Whether a path is that of a table which torch made, whose last bits depend on the processor."""
    met, t = alphas_cumprod.double().numpy(), np.arange(path.levels)
    if np.isinf(path.sigma_max):
        return bool(np.abs(met - 1 / (1 + path.sigma(t) ** 2)).max() <= ROOTS)
    return bool(path.agrees(VP(met).sigma(t), t).all())


def power_law(size: int = 8, exponent: float = 2.2, mean: float = 0.25) -> np.ndarray:
    """P(r) = max(r, 1/2)^-a on the full grid, scaled to a mean."""
    f = np.fft.fftfreq(size) * size
    power = np.maximum(np.hypot(f[:, None], f[None, :]), 0.5) ** -exponent
    return power * mean / power.mean()


def gaussian(path: NoisePath | None = None, size: int = 8) -> GaussianSpectrum:
    """A Gaussian model with a power-law spectrum, (1, size, size)."""
    return GaussianSpectrum(power_law(size), (1, size, size), path or VE())


def unit(model: GaussianSpectrum, sigma: float, n: int = 4, seed: int = 1) -> torch.Tensor:
    """Random unit states at a level, (n, *shape): data plus noise."""
    generator = torch.Generator().manual_seed(seed)
    eps = torch.randn(n, *model.shape, generator=generator, dtype=torch.float64)
    return model.flow(eps, float("inf"), sigma)
