"""Any diffusers UNet2DModel, whatever its training process, is a denoiser; so is a model saved by our trainer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.models.predictions import Prediction
from sigmatune.models.psld_network import SCHEDULER, from_unet
from sigmatune.models.scheduler_config import read_process
from sigmatune.models.source import layout, locate, read_json, weights_variant
from sigmatune.noise import NoisePath
from sigmatune.support.errors import SigmaTuneError, unloadable

if TYPE_CHECKING:
    from diffusers import UNet2DModel

from sigmatune.models.diffusers_denoiser import DiffusersDenoiser

NETWORKS = ("UNet2DModel", "SD3Transformer2DModel")
"""Supported network classes; the transformer only as our trainer saves it, with a vector condition and no text."""


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
    conditional = (folder / "conditioning" / "config.json").is_file()
    if not conditional and getattr(config, "num_class_embeds", None) is None:
        if not hasattr(config, "time_embedding_type"):
            raise SigmaTuneError(f"{folder} holds a transformer without its conditioning/; pass the complete folder.")
        return DiffusersDenoiser(unet, path, prediction, **where)
    from sigmatune.models.conditional import ConditionalDenoiser
    from sigmatune.models.conditioning import Conditioning

    conditioning = Conditioning.load(folder / "conditioning", dtype) if conditional else None
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
        raise unloadable(f"the {kind} in {folder}", error) from None
    missing = report["missing_keys"] or report["mismatched_keys"]
    if missing:
        raise SigmaTuneError(f"the weights in {folder} are incomplete: {missing[0]} is missing or of another shape.")
    network: UNet2DModel = unet.eval().requires_grad_(False)
    return network
