"""The noise path of a native phase-space network: its time t, and sigma_eff(t)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from sigmatune.noise import LEVEL_TOLERANCE, Array, Levels, NoisePath, register
from sigmatune.processes.psld import PSLD
from sigmatune.support.errors import SigmaTuneError


@dataclass(frozen=True, repr=False)
class PhasePath(NoisePath):
    r"""Maps a process's time to :math:`\sigma_{\mathrm{eff}}(t)` and back; positions are linear in t.

    Args:
        process: The process.
        eps: The network's first time, 0 < eps < T.
        levels: How many positions the range is divided into.

    Raises:
        SigmaTuneError: unless 0 < eps < T.
    """

    process: PSLD
    eps: float = 1e-3
    levels: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.eps < self.process.T:
            raise SigmaTuneError(f"eps must lie between 0 and T = {self.process.T:g}, not be {self.eps!r}.")

    @cached_property
    def _ends(self) -> Array:
        return self._sigma(np.array([self.eps, self.process.T]))

    @property
    def sigma_min(self) -> float:
        return float(self._ends[0])

    @property
    def sigma_max(self) -> float:
        return float(self._ends[1])

    def sigma(self, t: Levels) -> Array:
        sigma = self._sigma(t)
        self.check(sigma)
        return sigma

    def _sigma(self, t: Levels) -> Array:
        return np.asarray(self.process.sigma(torch.as_tensor(np.asarray(t, dtype=np.float64))).numpy())

    def time(self, sigma: Levels) -> Array:
        return np.asarray(self.process.time(torch.as_tensor(self.inside(sigma))).numpy())

    def time_tolerance(self, t: Levels) -> Array:
        return LEVEL_TOLERANCE * np.abs(np.asarray(t, dtype=np.float64))  # it is not a count of levels

    def at_position(self, position: Levels) -> Array:
        share = (np.asarray(position, dtype=np.float64) - 1) / (self.levels - 1)
        return self._sigma(self.eps + (self.process.T - self.eps) * share)

    def position(self, sigma: Levels) -> Array:
        share = (self.time(sigma) - self.eps) / (self.process.T - self.eps)
        return np.asarray(1 + (self.levels - 1) * share)

    def spec(self) -> dict[str, Any]:
        return {"kind": "phase", "process": self.process.spec(), "eps": self.eps, "levels": self.levels}


def _read(fields: dict[str, Any]) -> NoisePath:
    return PhasePath(PSLD.from_spec(fields.pop("process")), **fields)


register("phase", _read)
