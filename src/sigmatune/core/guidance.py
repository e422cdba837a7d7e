"""Classifier-free guidance: two denoisers of one model, combined inside an interval of noise levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.noise import Array, NoisePath
from sigmatune.support.errors import SigmaTuneError


class Guided(Denoiser):
    r"""Applies classifier-free guidance inside an interval of noise levels.

    .. math:: D_w = D_u + w (D_c - D_u) \text{ for } \sigma \in (a, b], \quad D_c \text{ elsewhere}

    Inside the interval a call costs two network evaluations, and :meth:`calls_at` says so.

    References:
        | Classifier-Free Diffusion Guidance (Ho and Salimans, 2022), https://arxiv.org/abs/2207.12598
        | Applying Guidance in a Limited Interval (Kynkaanniemi et al., 2024), https://arxiv.org/abs/2404.07724

    Args:
        conditional, unconditional: Denoisers of one model, of equal shape and path.
        scale: w; 1 is no guidance.
        interval: (a, b]; all levels by default.

    Raises:
        SigmaTuneError: if the two do not fit together or the interval is empty.
    """

    def __init__(
        self,
        conditional: Denoiser,
        unconditional: Denoiser,
        scale: float,
        interval: tuple[float, float] = (0.0, float("inf")),
    ) -> None:
        if conditional.shape != unconditional.shape or conditional.path.spec() != unconditional.path.spec():
            raise SigmaTuneError("the conditional and the unconditional denoiser must share shape and noise path.")
        if not (np.isfinite(scale) and 0 <= interval[0] < interval[1]):
            raise SigmaTuneError(f"need a finite scale and an interval 0 <= a < b, got {scale} and {interval}.")
        self.conditional, self.unconditional = conditional, unconditional
        self.scale, self.interval = float(scale), (float(interval[0]), float(interval[1]))
        self.shape, self.path = conditional.shape, conditional.path
        self.dtype, self.device = conditional.dtype, conditional.device
        self.network_dtype = conditional.network_dtype
        self.integer_time, self.default_schedule = conditional.integer_time, conditional.default_schedule
        self.value_range = conditional.value_range
        self.concurrent = conditional.concurrent and unconditional.concurrent
        ends = [end if np.isfinite(end) else "inf" for end in self.interval]
        self.guidance = {"scale": self.scale, "interval": ends}

    def _inside(self, sigma: float) -> bool:
        return self.scale != 1 and self.interval[0] < sigma <= self.interval[1]

    def calls_at(self, sigma: float) -> int:
        conditional = self.conditional.calls_at(sigma)
        return conditional + self.unconditional.calls_at(sigma) if self._inside(sigma) else conditional

    def cost_changes(self) -> Sequence[float]:
        return [*self.interval, *self.conditional.cost_changes(), *self.unconditional.cost_changes()]

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        guided = self.conditional(z, sigma)
        inside = torch.tensor([self._inside(level) for level in sigma.tolist()])
        if not inside.any():
            return guided
        # The whole batch, so that the network always sees one size and a row does not depend on its neighbours.
        plain = self.unconditional(z, sigma)
        mask = inside.to(z.device).view(-1, *[1] * (z.ndim - 1))
        return torch.where(mask, plain + self.scale * (guided - plain), guided)

    def rows(self, indices: Sequence[int], padding: int = 0) -> Denoiser:
        return self._around(self.conditional.rows(indices, padding), self.unconditional.rows(indices, padding))

    def conditioned(self, indices: Sequence[int], labels: Sequence[str | None] | None, ends: Array | None) -> Denoiser:
        return self._around(
            self.conditional.conditioned(indices, labels, ends), self.unconditional.conditioned(indices, None, ends)
        )

    def split(self, parts: Mapping[str, range]) -> Denoiser:
        return self._around(self.conditional.split(parts), self.unconditional.split(parts))

    def with_path(self, path: NoisePath) -> Denoiser:
        return self._around(self.conditional.with_path(path), self.unconditional.with_path(path))

    def _around(self, conditional: Denoiser, unconditional: Denoiser) -> Denoiser:
        if conditional is self.conditional and unconditional is self.unconditional:
            return self
        other = Guided(conditional, unconditional, self.scale, self.interval)
        other.loaded_with = self.loaded_with
        return other

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        return self.conditional.pixel_shape

    def conditions(self) -> str:
        sides = [side.conditions() for side in (self.conditional, self.unconditional)]
        return sides[0] if not sides[1] else "/".join(sides)

    def decoder(self) -> str:
        return self.conditional.decoder()

    def parts(self) -> Sequence[Denoiser]:
        return [*self.conditional.parts(), *self.unconditional.parts()]

    def renew(self) -> int:
        return self.conditional.renew() + self.unconditional.renew()

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.conditional.decode(x)

    def remedy(self) -> str:
        return self.conditional.remedy()

    def fingerprint(self) -> str:
        return (
            f"{self.conditional.fingerprint()}|{self.unconditional.fingerprint()}|cfg {self.scale!r} {self.interval!r}"
        )
