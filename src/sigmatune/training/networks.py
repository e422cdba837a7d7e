"""The trainable networks and their processes, all in diffusers' own classes.

Sizes come from a recipe; everything else is diffusers' own: UNet2DModel, with features that are scaled and shifted by
the embedding (FiLM), and SD3Transformer2DModel, whose layer norms are (AdaLN-Zero). Their conditions beyond state and
time come from :class:`sigmatune.models.conditioning.Conditioning`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sigmatune.models.conditioning import Conditioned, Conditioning
from sigmatune.models.scheduler_config import Process, read_process
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.recipe import Network, ProcessSection


def scheduler_of(process: ProcessSection, sigma_data: float) -> Any:
    """The diffusers scheduler whose configuration states the process.

    Args:
        process: The recipe's.
        sigma_data: Standard deviation of the data, if the recipe names none.

    Raises:
        SigmaTuneError: if the range is empty.
    """
    import diffusers

    if process.kind == "edm":
        if not process.sigma_min < process.sigma_max:
            raise SigmaTuneError(
                f"process: sigma_min must be below sigma_max, not {process.sigma_min} and {process.sigma_max}."
            )
        ends = {"sigma_min": process.sigma_min, "sigma_max": process.sigma_max}
        return diffusers.EDMEulerScheduler(sigma_data=process.sigma_data or sigma_data, **ends)
    if process.kind == "flow":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=process.shift)
    return diffusers.DDPMScheduler(
        beta_schedule=process.table, prediction_type=process.prediction, clip_sample=False, timestep_spacing="trailing"
    )


def process_of(scheduler: Any) -> Process:
    """The process as read back from the saved scheduler: path and prediction type of the opened model."""
    return read_process(dict(scheduler.config) | {"_class_name": type(scheduler).__name__})


def build(
    model: Network,
    shape: Sequence[int],
    *,
    classes: Sequence[str] = (),
    images: int = 0,
    default_ends: tuple[float, float] | None = None,
    curve: Mapping[str, Any] | None = None,
) -> Conditioned:
    """Builds a network with fresh weights.

    Args:
        model: The recipe's sizes.
        shape: Of one sample, (C, H, W).
        classes: Names of the network's classes; none for an unconditional network.
        images: Channels of an image condition.
        default_ends, curve: The noise law's data that the conditioning records.

    Raises:
        SigmaTuneError: if the sizes do not fit the images.
    """
    conditional = bool(classes) or model.ends or images > 0
    if model.kind == "unet":
        backbone, width = _unet(model, shape, images=images, conditional=conditional)
    else:
        backbone, width = _transformer(model, shape, images=images)
    conditioning = None
    if conditional or model.kind == "transformer":
        conditioning = Conditioning(
            width, classes=tuple(classes), ends=model.ends, images=images, default_ends=default_ends, curve=curve
        )
    return Conditioned(backbone, conditioning)


def _unet(model: Network, shape: Sequence[int], *, images: int, conditional: bool) -> tuple[torch.nn.Module, int]:
    from diffusers import UNet2DModel

    channels, height, width = shape
    levels = len(model.channels)
    if min(height, width) % 2 ** (levels - 1) or max(height, width) % 2 ** (levels - 1):
        raise SigmaTuneError(
            f"images of {width} x {height} pixels cannot be halved {levels - 1} times; give model.channels fewer entries."
        )
    if any(count % model.groups for count in model.channels):
        raise SigmaTuneError(f"every entry of model.channels must be a multiple of model.groups, {model.groups}.")
    attention = [i == levels - 1 for i in range(levels)] if model.attention is None else model.attention
    if len(attention) != levels:
        raise SigmaTuneError(f"model.attention needs one entry for each of the {levels} entries of model.channels.")
    if any(here and count % model.head for here, count in zip(attention, model.channels, strict=True)):
        raise SigmaTuneError(f"entries of model.channels with attention must be multiples of model.head, {model.head}.")
    network = UNet2DModel(
        sample_size=height if height == width else (height, width),
        in_channels=channels + images,
        out_channels=channels,
        block_out_channels=tuple(model.channels),
        layers_per_block=model.layers,
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attention),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attention)),
        attention_head_dim=model.head,
        norm_num_groups=model.groups,
        dropout=model.dropout,
        resnet_time_scale_shift="scale_shift",
        add_attention=any(attention),
        class_embed_type="identity" if conditional else None,
    )
    return network, 4 * model.channels[0]


def _transformer(model: Network, shape: Sequence[int], *, images: int) -> tuple[torch.nn.Module, int]:
    from diffusers import SD3Transformer2DModel

    channels, height, width = shape
    if height != width or height % model.patch:
        raise SigmaTuneError(
            f"the transformer takes square images whose side is a multiple of model.patch, {model.patch}, not "
            f"{width} x {height} pixels."
        )
    inner = model.heads * model.head
    network = SD3Transformer2DModel(
        sample_size=height,
        patch_size=model.patch,
        in_channels=channels + images,
        out_channels=channels,
        num_layers=model.layers,
        attention_head_dim=model.head,
        num_attention_heads=model.heads,
        joint_attention_dim=inner,
        caption_projection_dim=inner,
        pooled_projection_dim=inner,
        pos_embed_max_size=max(height // model.patch, 2),
        qk_norm="rms_norm",
    )
    return network, inner


def parameters(network: torch.nn.Module) -> int:
    """How many numbers are trained."""
    return sum(value.numel() for value in network.parameters())
