"""The UNet2DModel of a diffusers folder as a denoiser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sigmatune.models.network import NetworkDenoiser, pick_device, placed, process_of
from sigmatune.models.predictions import Prediction
from sigmatune.noise import NoisePath
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import plain

if TYPE_CHECKING:
    from diffusers import UNet2DModel


class DiffusersDenoiser(NetworkDenoiser):
    r"""Wraps a UNet2DModel in memory; :func:`load_diffusers` does so from files.

    The network gets t as in training: the index into the beta table for VP, sigma for score models (whose output
    diffusers already divides by sigma), log(sigma) / 4 for EDM, :math:`1000 \tau` for flow. A network with twice as
    many output as input channels also predicts a variance, which is not used.

    Args:
        unet: The network; unchanged, except for its device.
        path: The model's noise path.
        prediction: What the network predicts.
        sample_size: Height and width, or one number for both; the network's own by default.
        device: Where to move the network.
        told: Whether the network takes conditions; :mod:`sigmatune.models.conditional` supplies them.

    Raises:
        SigmaTuneError: if the network is conditional, of unknown size, or does not fit the path.
    """

    concurrent = True

    def __init__(
        self,
        unet: UNet2DModel,
        path: NoisePath,
        prediction: str | Prediction,
        *,
        sample_size: int | tuple[int, int] | None = None,
        device: torch.device | str | None = None,
        conditional: bool = False,
    ) -> None:
        network: Any = unet  # diffusers sets the configuration's attributes at run time
        config = network.config
        size = sample_size or config.sample_size
        if size is None:
            raise SigmaTuneError("the network's config names no sample_size; pass sample_size=.")
        height, width = (size, size) if isinstance(size, int) else size
        channels = config.in_channels if config.out_channels >= config.in_channels else config.out_channels
        if not conditional and (config.class_embed_type is not None or config.num_class_embeds is not None):
            raise SigmaTuneError("the network expects class labels; open it with st.load and choose one with label=.")
        if not conditional and config.out_channels not in (config.in_channels, 2 * config.in_channels):
            raise SigmaTuneError(
                "a denoiser has as many output as input channels, or twice as many, not "
                f"{config.out_channels} and {config.in_channels}."
            )
        where = pick_device(device)
        network = placed(network, where)
        super().__init__(network, (channels, height, width), path, prediction, dtype=network.dtype, device=where)
        self._check_clock(config)

    def _check_clock(self, config: Any) -> None:
        if not hasattr(config, "time_embedding_type"):  # a transformer, which embeds any number
            return
        kind, path = config.time_embedding_type, process_of(self.path)
        if kind == "fourier" and (path["kind"], path.get("clock")) != ("ve", "sigma"):
            raise SigmaTuneError(
                "a network of time_embedding_type 'fourier' takes sigma as its time, so it needs a VE path."
            )
        if kind == "learned" and (path["kind"] != "vp" or (config.num_train_timesteps or 0) < self.path.levels):
            raise SigmaTuneError(
                "a network of time_embedding_type 'learned' needs a VP path of at most as many levels as it has "
                f"embeddings ({config.num_train_timesteps})."
            )
        self.integer_time = kind == "learned"

    def evaluate(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        unet: Any = self.network
        output: torch.Tensor = unet(x_t, t, return_dict=False)[0]
        return output[:, : self.shape[0]]

    def identity(self) -> object:
        public = {key: value for key, value in getattr(self.network, "config", {}).items() if not key.startswith("_")}
        return sorted(plain(public).items()), self.shape  # a saved configuration has lists for tuples
