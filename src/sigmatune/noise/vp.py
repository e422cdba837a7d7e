"""The variance-preserving path: a table of cumulative alphas, as in DDPM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from sigmatune.noise import beta_tables as tables
from sigmatune.noise.path import Array, Levels, NoisePath
from sigmatune.support.errors import SigmaTuneError


@dataclass(frozen=True, eq=False, repr=False)
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
        origin: The construction of the table, for :meth:`spec`; the table itself when empty.

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
            raise SigmaTuneError("two entries of alphas_cumprod are too close to give different noise levels.")

    @property
    def levels(self) -> int:  # type: ignore[override]
        return len(self.alphas_cumprod)

    @cached_property
    def _sigma(self) -> Array:
        """The levels of the whole timesteps, computed with operations that every machine rounds identically."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.sqrt((1 - self.alphas_cumprod) / self.alphas_cumprod))

    @cached_property
    def _log_sigma(self) -> Array:
        return np.log(self._sigma)

    @property
    def sigma_min(self) -> float:
        return float(self._sigma[0])

    @property
    def sigma_max(self) -> float:
        return float(self._sigma[-1])

    @property
    def _finite(self) -> int:
        """The number of table entries with a finite sigma."""
        return self.levels - int(self.alphas_cumprod[-1] == 0)

    def sigma(self, t: Levels) -> Array:
        t = np.asarray(t, dtype=np.float64)
        if np.any((t < 0) | (t > self.levels - 1) | np.isnan(t)):
            raise SigmaTuneError(f"t must lie in [0, {self.levels - 1}].")
        last, nearest = self._finite - 1, np.rint(t).astype(np.int64)
        sigma = np.exp(np.interp(t, np.arange(self._finite), self._log_sigma[: self._finite]))
        if last < self.levels - 1:
            with np.errstate(divide="ignore"):
                sigma = np.where(t > last, self._sigma[last] / (1 - np.clip(t - last, 0, 1)), sigma)
        return np.where(t == nearest, self._sigma[nearest], sigma)

    def time(self, sigma: Levels) -> Array:
        sigma, last = self.inside(sigma), self._finite - 1
        t = np.interp(np.log(sigma), self._log_sigma[: self._finite], np.arange(self._finite))
        top = self._sigma[last]
        return np.asarray(t) if last == self.levels - 1 else np.where(sigma > top, last + 1 - top / sigma, t)

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
    r"""Builds the VP path of one of the usual beta tables, in the float32 arithmetic of training.

    The bits are the same on every machine: see :mod:`sigmatune.noise.beta_tables`.

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
    if betas == "linear":
        table = tables.linear(beta_start, beta_end, levels)
    elif betas == "scaled_linear":
        table = tables.scaled_linear(beta_start, beta_end, levels)
    elif betas == "cosine":
        table = tables.cosine(levels)
    else:
        raise SigmaTuneError(f"there is no beta table {betas!r}; choose linear, scaled_linear or cosine.")
    origin: dict[str, Any] = {"betas": betas, "levels": levels}
    if betas != "cosine":
        origin |= {"beta_start": beta_start, "beta_end": beta_end}
    if zero_terminal_snr:
        origin["zero_terminal_snr"] = True
    return VP(tables.alphas_cumprod(table, zero_terminal_snr=zero_terminal_snr), origin)
