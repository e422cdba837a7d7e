"""A model for programs that round t: every level lies on a whole timestep of its table, from the start of a search on.

ComfyUI and Forge round t to whole timesteps on models of a table of steps. An export moves a plan's levels there, after its
evidence was measured; a plan that was tuned there runs in these programs as it was measured.
"""

from __future__ import annotations

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.wrappers import Wrapper
from sigmatune.noise.vp import VP
from sigmatune.support.errors import SigmaTuneError


class WholeTimesteps(Wrapper):
    """The same network, called at whole timesteps only; it computes what it computed there before."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner)
        self.integer_time = True
        self.loaded_with = {**inner.loaded_with, "integer_time": True}

    def conditions(self) -> str:
        """Measurements at whole timesteps are stored apart from those of the same network between them."""
        return "|".join(text for text in (self.inner.conditions(), "whole timesteps") if text)


def on_whole_timesteps(model: Denoiser) -> Denoiser:
    """Restricts a model to the whole timesteps of its table; one that knows no others comes back as it is.

    Args:
        model: A model with a table of steps, which is what diffusers calls ``num_train_timesteps``.

    Raises:
        SigmaTuneError: for a model whose time is continuous, such as flow matching.
    """
    if not isinstance(model.path, VP):
        raise SigmaTuneError(
            f"whole timesteps are those of a table of steps (DDPM, Stable Diffusion); this model's noise path is "
            f"{type(model.path).__name__}, so leave out integer_time (--integer-time)."
        )
    return model if model.integer_time else WholeTimesteps(model)
