"""Denoisers around another denoiser: what counts its calls, and what watches its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.noise import Array, NoisePath


class Wrapper(Denoiser):
    """A denoiser around another; everything that is not overridden comes from the inner one."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner = inner
        self.shape, self.path, self.dtype, self.device = inner.shape, inner.path, inner.dtype, inner.device
        self.integer_time, self.default_schedule = inner.integer_time, inner.default_schedule
        self.value_range, self.guidance = inner.value_range, inner.guidance
        self.network_dtype, self.conditioning = inner.network_dtype, inner.conditioning
        self.ports, self.solver_options, self.loaded_with = inner.ports, inner.solver_options, inner.loaded_with

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.inner(z, sigma)

    def rows(self, indices: Sequence[int], padding: int = 0) -> Denoiser:
        inner = self.inner.rows(indices, padding)
        return self if inner is self.inner else self._around(inner)

    def conditioned(self, indices: Sequence[int], labels: Sequence[str | None] | None, ends: Array | None) -> Denoiser:
        inner = self.inner.conditioned(indices, labels, ends)
        return self if inner is self.inner else self._around(inner)

    def split(self, parts: Mapping[str, range]) -> Denoiser:
        inner = self.inner.split(parts)
        return self if inner is self.inner else self._around(inner)

    def with_path(self, path: NoisePath) -> Denoiser:
        other = self._around(self.inner.with_path(path))
        other.path = path
        return other

    def parts(self) -> Sequence[Denoiser]:
        return [self if part is self.inner else self._around(part) for part in self.inner.parts()]

    def subject(self) -> object:
        return self.inner.subject()

    def modules(self) -> Sequence[torch.nn.Module]:
        return self.inner.modules()

    def renew(self) -> int:
        return self.inner.renew()

    def is_model_of(self, fingerprint: str) -> bool:
        return self.inner.is_model_of(fingerprint)

    def _around(self, inner: Denoiser) -> Denoiser:
        """This wrapper around another denoiser, with shared records."""
        other = copy(self)
        other.inner = inner
        return other

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        return self.inner.pixel_shape

    def conditions(self) -> str:
        return self.inner.conditions()

    def decoder(self) -> str:
        return self.inner.decoder()

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner.decode(x)

    def remedy(self) -> str:
        return self.inner.remedy()

    def fingerprint(self) -> str:
        return self.inner.fingerprint()

    def calls_at(self, sigma: float) -> int:
        return self.inner.calls_at(sigma)

    def cost_changes(self) -> Sequence[float]:
        return self.inner.cost_changes()


class Counted(Wrapper):
    """Counts the network evaluations.

    Attributes:
        calls: Batches seen, each times the network evaluations that its level costs per row.
        images: Network evaluations of single rows, padding rows included.
    """

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner)
        self._count = {"calls": 0, "images": 0}  # shared with the wrappers of single rows

    @property
    def calls(self) -> int:
        return self._count["calls"]

    @property
    def images(self) -> int:
        return self._count["images"]

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        cost = [self.calls_at(level) for level in sigma.tolist()]
        self._count["calls"] += max(cost)
        self._count["images"] += sum(cost)
        return self.inner(z, sigma)


class Observed(Wrapper):
    """Passes every (z, sigma, x0) to a function."""

    def __init__(self, inner: Denoiser, watch: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__(inner)
        self._watch = watch

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        x0 = self.inner(z, sigma)
        self._watch(z, sigma, x0)
        return x0
