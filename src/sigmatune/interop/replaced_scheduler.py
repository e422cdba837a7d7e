"""What pipelines and people still expect of the scheduler that a plan replaced."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import diffusers
import torch

from sigmatune import noise
from sigmatune.interop.carried_config import STOCK
from sigmatune.models.network import process_of
from sigmatune.noise import VP, NoisePath
from sigmatune.support.errors import SigmaTuneError

Tensor = torch.Tensor

_REPLACED = {"vp": "EulerDiscreteScheduler", "flow": "FlowMatchEulerDiscreteScheduler", "ve": "EDMEulerScheduler"}
"""By kind of path, for configurations that do not say what they replace."""


class ReplacedScheduler:
    """The tables, the compatible classes and the saving of a scheduler that stands in another's place."""

    _compatibles: ClassVar[list[str]] = list(STOCK)
    lost_by = ""
    config: Any
    _path: NoisePath

    @property
    def compatibles(self) -> list[type]:
        """The schedulers of diffusers that take this configuration: those of the scheduler that the plan replaces."""
        replaced = getattr(diffusers, self.config.replaces or _REPLACED[process_of(self._path)["kind"]])
        kinds: list[type] = replaced._get_compatibles()
        return kinds

    @property
    def alphas_cumprod(self) -> Tensor:
        """The table of a variance-preserving model, (T,), float32; other models have none."""
        path = noise.from_spec(process_of(self._path))
        if not isinstance(path, VP):
            raise AttributeError(
                "only variance-preserving models have alphas_cumprod and betas"
            )  # so that hasattr says no
        return torch.from_numpy(path.alphas_cumprod.copy()).float()

    @property
    def alphas(self) -> Tensor:
        """Ratios of successive entries of that table, (T,), float32."""
        bar = self.alphas_cumprod.double()
        return torch.cat([bar[:1], bar[1:] / bar[:-1]]).float()

    @property
    def betas(self) -> Tensor:
        """Variance that each of its steps adds, (T,), float32."""
        return 1 - self.alphas

    @property
    def final_alpha_cumprod(self) -> Tensor:
        """The signal after the last step, 1, of a variance-preserving model."""
        return torch.ones_like(self.alphas_cumprod[0])

    def save_config(
        self,
        save_directory: str | os.PathLike[str],
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Writes the configuration; see :meth:`diffusers.ConfigMixin.save_config`.

        Raises:
            SigmaTuneError: if the pipeline would lose the plan when it is loaded.
        """
        if self.lost_by:
            raise SigmaTuneError(
                f"a {self.lost_by} puts a scheduler of its own in place of the saved one when it is loaded, so the plan would "
                "be lost; save the plan with plan.save and put it in again after loading."
            )
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)  # type: ignore[misc]
