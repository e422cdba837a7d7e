"""Any unconditional diffusers UNet2DModel, with whatever process it was trained on, is a denoiser."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sigmatune.errors import SigmaTuneError
from sigmatune.models.network import NetworkDenoiser, pick_device, process_of
from sigmatune.models.predictions import Prediction
from sigmatune.models.scheduler_config import read_process
from sigmatune.models.source import layout, locate, read_json, weights_variant
from sigmatune.noise import NoisePath

if TYPE_CHECKING:
    from diffusers import UNet2DModel


class DiffusersDenoiser(NetworkDenoiser):
    r"""Wraps a UNet2DModel in memory; :func:`load_diffusers` does so from files.

    The network gets t as it was trained on it: the index into the beta table for VP, sigma for score models (whose
    output diffusers already divides by sigma), log(sigma) / 4 for EDM, :math:`1000 \tau` for flow. A network of twice as
    many output as input channels predicts a variance too, of which nothing is used.

    Args:
        unet: The network; left as it is, except for where it lives.
        path: The model's noise path.
        prediction: What the network predicts.
        sample_size: Height and width, or one number for both; the network's own by default.
        device: Where to move the network.

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
    ) -> None:
        network: Any = unet  # diffusers sets the configuration's attributes at run time
        config = network.config
        size = sample_size or config.sample_size
        if size is None:
            raise SigmaTuneError("the network's config names no sample_size; pass sample_size=.")
        height, width = (size, size) if isinstance(size, int) else size
        channels = config.in_channels
        if config.class_embed_type is not None or config.num_class_embeds is not None:
            raise SigmaTuneError("the network expects class labels; only unconditional ones are supported.")
        if config.out_channels not in (channels, 2 * channels):
            raise SigmaTuneError(
                f"a denoiser has as many output as input channels, or twice as many, not {config.out_channels} and {channels}."
            )
        where = pick_device(device)
        if where.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            network = network.to(memory_format=torch.channels_last)  # what its convolutions want
        super().__init__(
            network.to(where), (channels, height, width), path, prediction, dtype=network.dtype, device=where
        )
        self._check_clock(config)

    def _check_clock(self, config: Any) -> None:
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
        return sorted(public.items()), self.shape


def load_diffusers(
    source: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    path: NoisePath | None = None,
    prediction: str | Prediction | None = None,
    sample_size: int | tuple[int, int] | None = None,
    revision: str | None = None,
) -> DiffusersDenoiser:
    """Loads an unconditional diffusers model from safetensors files.

    The network is in eval mode, its parameters require no gradient, and it computes in float32 whatever the files hold.
    What the scheduler's configuration says about clipping (``clip_sample``, ``thresholding``) is not applied.

    Args:
        source: A folder (a pipeline; the flat layout of 2022; a bare UNet with ``path`` and ``prediction``) or a hub id.
        device: Where to run: None for the CPU, "auto" for an accelerator if there is one.
        dtype: Dtype of the network's arithmetic.
        path: The noise path, instead of the scheduler configuration's.
        prediction: What the network predicts, instead of the scheduler configuration's.
        sample_size: Height and width in pixels, or one number for both; the network's own by default.
        revision: Branch, tag or commit on the hub.

    Raises:
        SigmaTuneError: if there is no such model, it is not in safetensors files, or is not supported; one sentence says
            which and what to pass instead.
    """
    folder = locate(source, revision)
    unet_folder, scheduler = layout(folder)
    unet = _load_unet(unet_folder, dtype)
    if path is not None and prediction is not None:
        return DiffusersDenoiser(unet, path, prediction, sample_size=sample_size, device=device)
    if scheduler is None:
        raise SigmaTuneError(
            f"{folder} holds no scheduler_config.json; pass path= and prediction=, or the whole pipeline's folder."
        )
    process = read_process(scheduler)
    model = DiffusersDenoiser(
        unet, path or process.path, prediction or process.prediction, sample_size=sample_size, device=device
    )
    model.default_schedule, model.value_range = process.schedule, process.value_range
    return model


def _load_unet(folder: Path, dtype: torch.dtype) -> UNet2DModel:
    """Loads a network in eval mode, without gradients.

    Raises:
        SigmaTuneError: if it is another class of network, or its weights are incomplete or broken.
    """
    kind = read_json(folder / "config.json").get("_class_name")
    if kind != "UNet2DModel":
        raise SigmaTuneError(
            f"{folder} holds a {kind or 'configuration without _class_name'}; only UNet2DModel is supported."
        )
    variant = weights_variant(folder)
    from diffusers import UNet2DModel

    loader: Any = UNet2DModel.from_pretrained
    try:
        unet, report = loader(
            str(folder),
            variant=variant,
            torch_dtype=dtype,
            use_safetensors=True,
            low_cpu_mem_usage=find_spec("accelerate") is not None,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # noqa: BLE001 - diffusers, safetensors and torch each raise their own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise SigmaTuneError(f"the UNet2DModel in {folder} cannot be loaded: {reason}.") from None
    missing = report["missing_keys"] or report["mismatched_keys"]
    if missing:
        raise SigmaTuneError(f"the weights in {folder} are incomplete: {missing[0]} is missing or of another shape.")
    network: UNet2DModel = unet.eval().requires_grad_(False)
    return network
