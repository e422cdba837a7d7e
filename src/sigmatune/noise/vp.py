"""The variance-preserving path: a table of cumulated alphas, as DDPM made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from sigmatune.errors import SigmaTuneError
from sigmatune.noise.path import Array, Levels, NoisePath


@dataclass(frozen=True, eq=False)
class VP(NoisePath):
    r"""The variance-preserving path of a discrete table :math:`\bar\alpha_0 > \dots > \bar\alpha_{T-1}`.

    .. math:: \sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}

    Between two entries log sigma is linear in t. A table that ends in exactly 0 (zero terminal SNR) ends at
    sigma = inf; on that last interval 1 / sigma is linear in t instead.

    References:
        | Denoising Diffusion Probabilistic Models (Ho et al., 2020)
        | https://arxiv.org/abs/2006.11239

    Args:
        alphas_cumprod: The table, (T,), strictly decreasing inside (0, 1), the last entry may be 0.
        origin: How the table was made, for :meth:`spec`; the table itself when empty.

    Raises:
        SigmaTuneError: if the table is too short or not strictly decreasing inside [0, 1).
    """

    alphas_cumprod: Array
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table = np.array(self.alphas_cumprod, dtype=np.float64)
        if table.ndim != 1 or len(table) < 2:
            raise SigmaTuneError(f"alphas_cumprod must be a list of at least two numbers, not shape {table.shape}.")
        if not (np.all(np.isfinite(table)) and table[0] < 1 and table[-1] >= 0 and np.all(np.diff(table) < 0)):
            raise SigmaTuneError("alphas_cumprod must fall strictly from below 1 to at least 0.")
        table.flags.writeable = False
        object.__setattr__(self, "alphas_cumprod", table)
        if not np.all(np.diff(self._log_sigma) > 0):
            raise SigmaTuneError("two entries of alphas_cumprod are too close to be told apart as noise levels.")

    @property
    def levels(self) -> int:  # type: ignore[override]
        return len(self.alphas_cumprod)

    @cached_property
    def _log_sigma(self) -> Array:
        with np.errstate(divide="ignore"):
            return np.asarray(0.5 * (np.log1p(-self.alphas_cumprod) - np.log(self.alphas_cumprod)))

    @property
    def sigma_min(self) -> float:
        return float(np.exp(self._log_sigma[0]))

    @property
    def sigma_max(self) -> float:
        return float(np.exp(self._log_sigma[-1]))

    @property
    def _finite(self) -> int:
        """The number of table entries with a finite sigma."""
        return self.levels - int(self.alphas_cumprod[-1] == 0)

    def sigma(self, t: Levels) -> Array:
        t = np.asarray(t, dtype=np.float64)
        if np.any((t < 0) | (t > self.levels - 1) | np.isnan(t)):
            raise SigmaTuneError(f"t must lie in [0, {self.levels - 1}].")
        last = self._finite - 1
        sigma = np.exp(np.interp(t, np.arange(self._finite), self._log_sigma[: self._finite]))
        if last == self.levels - 1:
            return np.asarray(sigma)
        with np.errstate(divide="ignore"):
            tail = np.exp(self._log_sigma[last]) / (1 - np.clip(t - last, 0, 1))
        return np.where(t > last, tail, sigma)

    def time(self, sigma: Levels) -> Array:
        self.check(sigma)
        sigma = np.asarray(sigma, dtype=np.float64)
        last = self._finite - 1
        t = np.interp(np.log(sigma), self._log_sigma[: self._finite], np.arange(self._finite))
        if last == self.levels - 1:
            return np.asarray(t)
        top = np.exp(self._log_sigma[last])
        return np.where(sigma > top, last + 1 - top / sigma, t)

    def at_position(self, position: Levels) -> Array:
        return self.sigma(np.asarray(position, dtype=np.float64) - 1)

    def position(self, sigma: Levels) -> Array:
        return self.time(sigma) + 1

    def spec(self) -> dict[str, Any]:
        return {"kind": "vp", **(self.origin or {"alphas_cumprod": self.alphas_cumprod.tolist()})}


def vp(
    betas: Literal["linear", "scaled_linear", "cosine"] = "linear",
    *,
    levels: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    zero_terminal_snr: bool = False,
) -> VP:
    r"""Builds the VP path of one of the usual beta tables, in the float32 arithmetic in which models met it.

    Args:
        betas: ``linear``; ``scaled_linear`` (linear in sqrt(beta), Stable Diffusion); ``cosine`` (Nichol and Dhariwal,
            betas capped at 0.999).
        levels: T.
        beta_start, beta_end: Ends of the two linear tables.
        zero_terminal_snr: Rescale so that the last level has no signal at all (Lin et al., 2023, arXiv 2305.08891).

    Raises:
        SigmaTuneError: for an unknown table or ends outside 0 < beta_start <= beta_end < 1.
    """
    if not 0 < beta_start <= beta_end < 1 or levels < 2:
        raise SigmaTuneError(
            f"need 0 < beta_start <= beta_end < 1 and levels >= 2, got {beta_start}, {beta_end}, {levels}."
        )
    import torch  # float32 rounding differs between libraries by up to 6e-4 in sigma_min; models saw torch's

    if betas == "linear":
        table = torch.linspace(beta_start, beta_end, levels, dtype=torch.float32)
    elif betas == "scaled_linear":
        table = torch.linspace(beta_start**0.5, beta_end**0.5, levels, dtype=torch.float32) ** 2
    elif betas == "cosine":
        bar = np.cos((np.arange(levels + 1) / levels + 0.008) / 1.008 * np.pi / 2) ** 2
        table = torch.from_numpy(np.minimum(1 - bar[1:] / bar[:-1], 0.999)).float()
    else:
        raise SigmaTuneError(f"there is no beta table {betas!r}; choose linear, scaled_linear or cosine.")
    alphas = torch.cumprod(1 - table, dim=0)
    if zero_terminal_snr:
        root = alphas.sqrt()
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        ratios = torch.cat([root[:1] ** 2, root[1:] ** 2 / root[:-1] ** 2])
        alphas = torch.cumprod(1 - (1 - ratios), dim=0)  # the detour over betas is part of the published tables
    origin: dict[str, Any] = {"betas": betas, "levels": levels}
    if betas != "cosine":
        origin |= {"beta_start": beta_start, "beta_end": beta_end}
    if zero_terminal_snr:
        origin["zero_terminal_snr"] = True
    return VP(alphas.double().numpy(), origin)
