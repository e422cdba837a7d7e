"""Any diffusers UNet2DModel, whatever its training process, is a denoiser; so is a model saved by our trainer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError, reason
from sigmatune.models.network import NetworkDenoiser, pick_device, placed, process_of
from sigmatune.models.phase_space import SCHEDULER, from_unet
from sigmatune.models.predictions import Prediction
from sigmatune.models.scheduler_config import read_process
from sigmatune.models.source import layout, locate, read_json, weights_variant
from sigmatune.noise import NoisePath

if TYPE_CHECKING:
    from diffusers import UNet2DModel

NETWORKS = ("UNet2DModel", "SD3Transformer2DModel")
"""Supported network classes; the transformer only as our trainer saves it, with a vector condition and no text."""


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
        told: bool = False,
    ) -> None:
        network: Any = unet  # diffusers sets the configuration's attributes at run time
        config = network.config
        size = sample_size or config.sample_size
        if size is None:
            raise SigmaTuneError("the network's config names no sample_size; pass sample_size=.")
        height, width = (size, size) if isinstance(size, int) else size
        channels = config.in_channels if config.out_channels >= config.in_channels else config.out_channels
        if not told and (config.class_embed_type is not None or config.num_class_embeds is not None):
            raise SigmaTuneError("the network expects class labels; open it with st.load and choose one with label=.")
        if not told and config.out_channels not in (config.in_channels, 2 * config.in_channels):
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
    **condition: Any,
) -> Denoiser:
    """Loads a diffusers model, or a native phase-space network, from safetensors files.

    The network is in eval mode, its parameters require no gradient, and it computes in float32 whatever the files hold.
    Clipping in the scheduler's configuration (``clip_sample``, ``thresholding``) is not applied.

    Args:
        source: A folder (a pipeline; the flat layout of 2022; a bare UNet with ``path`` and ``prediction``) or a hub id.
        device: Where to run: None for the CPU, "auto" for an accelerator if there is one.
        dtype: Dtype of the network's arithmetic.
        path: The noise path, instead of the scheduler configuration's.
        prediction: The prediction type, instead of the scheduler configuration's.
        sample_size: Height and width in pixels, or one number for both; the network's own by default.
        revision: Branch, tag or commit on the hub.
        condition: For a network conditioned on a class, the ends of its schedule or an image, the options of
            :func:`sigmatune.models.conditional.conditional`: label, labels, guidance, interval.

    Raises:
        SigmaTuneError: if there is no such model, it is not in safetensors files, or is not supported; one sentence
            names the problem and the cure.
    """
    folder = locate(source, revision)
    unet_folder, scheduler = layout(folder)
    unet = _load_network(unet_folder, dtype)
    if scheduler is not None and scheduler.get("_class_name") == SCHEDULER:
        return _unconditional(from_unet(unet, scheduler, device), condition)
    if scheduler is None and (path is None or prediction is None):
        raise SigmaTuneError(
            f"{folder} holds no scheduler_config.json; pass path= and prediction=, or the whole pipeline's folder."
        )
    given = path is not None and prediction is not None
    process = None if given or scheduler is None else read_process(scheduler)
    if process is not None:
        path, prediction = path or process.path, prediction or process.prediction
    assert path is not None
    assert prediction is not None
    model = _denoiser(folder, unet, path, prediction, dtype, {"sample_size": sample_size, "device": device})
    if process is not None:
        model.default_schedule, model.value_range = process.schedule, process.value_range
    if not hasattr(model, "given"):
        return _unconditional(model, condition)
    from sigmatune.models.conditional import conditional

    return conditional(model, **condition)


def _unconditional(model: Denoiser, condition: Mapping[str, Any]) -> Denoiser:
    """The model itself; any condition is an unexpected argument."""
    if condition:
        raise TypeError(f"an unconditional model takes no {next(iter(condition))}=")
    return model


def _denoiser(
    folder: Path,
    unet: UNet2DModel,
    path: NoisePath,
    prediction: str | Prediction,
    dtype: torch.dtype,
    where: Mapping[str, Any],
) -> Any:
    """The network as a denoiser; a conditional one if the folder or the network's configuration says so."""
    config: Any = unet.config
    own = (folder / "conditioning" / "config.json").is_file()
    if not own and getattr(config, "num_class_embeds", None) is None:
        if not hasattr(config, "time_embedding_type"):
            raise SigmaTuneError(f"{folder} holds a transformer without its conditioning/; pass the complete folder.")
        return DiffusersDenoiser(unet, path, prediction, **where)
    from sigmatune.models.conditional import ConditionalDenoiser
    from sigmatune.models.conditioning import Conditioning

    conditioning = Conditioning.load(folder / "conditioning", dtype) if own else None
    return ConditionalDenoiser(unet, path, prediction, conditioning, **where)


def _load_network(folder: Path, dtype: torch.dtype) -> UNet2DModel:
    """Loads a network in eval mode, without gradients.

    Raises:
        SigmaTuneError: if it is another class of network, or its weights are incomplete or broken.
    """
    kind = read_json(folder / "config.json").get("_class_name")
    if kind not in NETWORKS:
        raise SigmaTuneError(
            f"{folder} holds a {kind or 'configuration without _class_name'}; only {' and '.join(NETWORKS)} are supported."
        )
    variant = weights_variant(folder)
    import diffusers
    from diffusers.utils import is_accelerate_available

    loader: Any = getattr(diffusers, kind).from_pretrained
    try:
        unet, report = loader(
            str(folder),
            variant=variant,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=is_accelerate_available(),  # diffusers does so by itself, after a warning where it cannot
            output_loading_info=True,
        )
    except Exception as error:  # noqa: BLE001 - diffusers, safetensors and torch each raise their own kinds
        raise SigmaTuneError(f"the {kind} in {folder} cannot be loaded: {reason(error)}.") from None
    missing = report["missing_keys"] or report["mismatched_keys"]
    if missing:
        raise SigmaTuneError(f"the weights in {folder} are incomplete: {missing[0]} is missing or of another shape.")
    network: UNet2DModel = unet.eval().requires_grad_(False)
    return network
