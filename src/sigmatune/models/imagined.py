"""A model that is not here: what is needed to count network evaluations, and nothing that could be evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from sigmatune.core.denoiser import Denoiser
from sigmatune.noise import NoisePath, vp
from sigmatune.support.errors import SigmaTuneError

SHAPE = (4, 64, 64)
"""Of the latents of Stable Diffusion 1.5."""


class Imagined(Denoiser):
    """Stands for a model in estimates: its shape, its noise path, and what its calls cost.

    Args:
        shape: Of one sample.
        path: Its noise path; that of Stable Diffusion by default.
        per_call: Network evaluations per call, 2 under guidance.
    """

    integer_time = False

    def __init__(self, shape: tuple[int, ...] = SHAPE, path: NoisePath | None = None, *, per_call: int = 1) -> None:
        self._calls_at: Callable[[float], int] = lambda sigma: per_call
        self.shape, self.path, self.per_call = shape, path or vp("scaled_linear"), per_call

    def denoise(self, z: Any, sigma: Any) -> NoReturn:
        """Refuses.

        Raises:
            SigmaTuneError: always.
        """
        raise SigmaTuneError("this model is not here; it can only be counted with.")

    def fingerprint(self) -> str:
        return f"imagined: {self.shape}, {self.path.spec()}, {self.per_call}"

    def calls_at(self, sigma: float) -> int:
        return self._calls_at(sigma)

    @classmethod
    def of(cls, model: Denoiser) -> Imagined:
        """One that counts as a model does, which it does not keep busy."""
        twin = cls(tuple(model.shape), model.path)
        twin.integer_time, twin.default_schedule, twin.dtype = model.integer_time, model.default_schedule, model.dtype
        twin.cost_changes, twin._calls_at = model.cost_changes, model.calls_at  # type: ignore[method-assign]
        return twin
