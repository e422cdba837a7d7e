"""Tiny random pipelines of each family, built from configurations in code: the real diffusers classes, no hub, no files.

``FAMILIES`` maps a name to a :class:`Family`: how to build the pipeline, how to call it, and how the same model becomes a
denoiser. Everything is seeded; networks have a few thousand weights and react to t, to their input and to the condition.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PROMPT = "a red cat"


def lively(module: torch.nn.Module, seed: int = 0, gain: float = 1.0) -> Any:
    """Redraws every weight so that the output depends on all inputs; the default initialisation hardly reacts to t."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 100
        scale = gain / fan**0.5 if parameter.ndim > 1 else 0.1
        drawn = scale * torch.randn(parameter.shape, generator=generator)
        if "norm" in name and name.endswith("weight") and parameter.ndim == 1:
            drawn = 1 + drawn
        parameter.data.copy_(drawn)
    return module.eval().requires_grad_(False)


def clip_tokenizer() -> CLIPTokenizer:
    letters = list(string.ascii_lowercase + string.digits)
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=16)


def clip(projection: int | None = None, seed: int = 1, width: int = 16) -> Any:
    config = CLIPTextConfig(
        vocab_size=74, hidden_size=width, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=projection or 16, bos_token_id=72, eos_token_id=73, pad_token_id=73,
    )  # fmt: skip
    return lively((CLIPTextModel if projection is None else CLIPTextModelWithProjection)(config), seed)


def t5_tokenizer() -> T5Tokenizer:
    pieces = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase]
    return T5Tokenizer(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0, model_max_length=16)


def t5(seed: int = 2) -> Any:
    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    return lively(T5EncoderModel(config), seed)


def vae(latents: int = 4, seed: int = 3) -> Any:
    return lively(
        diffusers.AutoencoderKL(
            block_out_channels=(4, 4), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=latents, norm_num_groups=2, sample_size=16, layers_per_block=1,
            shift_factor=0.1 if latents > 4 else None,
        ),
        seed,
    )  # fmt: skip


def unet(seed: int = 4, **options: Any) -> Any:
    return lively(
        diffusers.UNet2DConditionModel(
            **{
                "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 16), "layers_per_block": 1,
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 16, "attention_head_dim": 4,
                "norm_num_groups": 4, **options,
            }
        ),
        seed,
    )  # fmt: skip


def plain_unet() -> Any:
    return lively(
        diffusers.UNet2DModel(
            sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False,
        )
    )  # fmt: skip


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ddim() -> Any:
    return quiet(diffusers.DDIMPipeline(plain_unet(), diffusers.DDIMScheduler(clip_sample=False)))


def ldm() -> Any:
    net = lively(
        diffusers.UNet2DModel(
            sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
    )  # fmt: skip
    coder = lively(
        diffusers.VQModel(
            block_out_channels=(4, 4), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=3, num_vq_embeddings=16, norm_num_groups=2, sample_size=16,
        )
    )  # fmt: skip
    return quiet(diffusers.LDMPipeline(coder, net, diffusers.DDIMScheduler(**SD_BETAS, clip_sample=False)))


def _sd_parts(scheduler: Any, **options: Any) -> dict[str, Any]:
    return {
        "vae": vae(), "text_encoder": clip(), "tokenizer": clip_tokenizer(), "unet": unet(**options), "scheduler": scheduler,
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip


def sd15_scheduler() -> Any:
    return diffusers.PNDMScheduler(**SD_BETAS, skip_prk_steps=True, steps_offset=1)


def sd15() -> Any:
    return quiet(diffusers.StableDiffusionPipeline(**_sd_parts(sd15_scheduler())))


def sd2_v() -> Any:
    scheduler = diffusers.DDIMScheduler(
        **SD_BETAS, prediction_type="v_prediction", clip_sample=False, steps_offset=1, rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )  # fmt: skip
    return quiet(diffusers.StableDiffusionPipeline(**_sd_parts(scheduler)))


def sd_img2img() -> Any:
    return quiet(diffusers.StableDiffusionImg2ImgPipeline(**_sd_parts(sd15_scheduler())))


def sd_inpaint() -> Any:
    return quiet(diffusers.StableDiffusionInpaintPipeline(**_sd_parts(sd15_scheduler())))


def sd_controlnet() -> Any:
    net = lively(
        diffusers.ControlNetModel(
            in_channels=4, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=16, attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), norm_num_groups=4,
            conditioning_embedding_out_channels=(4, 8),
        ),
        5,
    )  # fmt: skip
    return quiet(diffusers.StableDiffusionControlNetPipeline(controlnet=net, **_sd_parts(sd15_scheduler())))


def sd_adapter() -> Any:
    """Its network empties the list of residuals that it is given."""
    net = diffusers.T2IAdapter(
        in_channels=3, channels=[8, 16], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter"
    )
    return quiet(diffusers.StableDiffusionAdapterPipeline(adapter=lively(net, 6), **_sd_parts(sd15_scheduler())))


def sdxl(width: int = 16) -> Any:
    """SDXL, with a second text encoder of some width; diffusers tells the encoders of a single file apart by their widths."""
    net = unet(
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 16,
        cross_attention_dim=16 + width, transformer_layers_per_block=1,
    )  # fmt: skip
    scheduler = diffusers.EulerDiscreteScheduler(**SD_BETAS, steps_offset=1, timestep_spacing="leading")
    return quiet(
        diffusers.StableDiffusionXLPipeline(
            vae(), clip(), clip(16, 6, width), clip_tokenizer(), clip_tokenizer(), net, scheduler,
            force_zeros_for_empty_prompt=True, add_watermarker=False,
        )
    )  # fmt: skip


def dit() -> Any:
    net = lively(
        diffusers.DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
            patch_size=2, num_embeds_ada_norm=1000, norm_type="ada_norm_zero", norm_elementwise_affine=False,
            activation_fn="gelu-approximate",
        )
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    return quiet(diffusers.DiTPipeline(net, vae(), scheduler, id2label={0: "cat", 1: "dog", 2: "bird"}))


def pixart() -> Any:
    net = lively(
        diffusers.PixArtTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
            patch_size=2, caption_channels=16, cross_attention_dim=16, norm_type="ada_norm_single",
            norm_elementwise_affine=False, activation_fn="gelu-approximate", use_additional_conditions=False,
        )
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler()
    return quiet(diffusers.PixArtAlphaPipeline(t5_tokenizer(), t5(), vae(), net, scheduler))


def _sd3_parts() -> dict[str, Any]:
    net = lively(
        diffusers.SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=8, out_channels=8, num_layers=1, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32,
            pos_embed_max_size=8,
        )
    )  # fmt: skip
    return {
        "transformer": net, "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), "vae": vae(8),
        "text_encoder": clip(16), "tokenizer": clip_tokenizer(), "text_encoder_2": clip(16, seed=6),
        "tokenizer_2": clip_tokenizer(), "text_encoder_3": None, "tokenizer_3": None,
    }  # fmt: skip


def sd3() -> Any:
    return quiet(diffusers.StableDiffusion3Pipeline(**_sd3_parts()))


def sd3_img2img() -> Any:
    return quiet(diffusers.StableDiffusion3Img2ImgPipeline(**_sd3_parts()))


def _flux_parts() -> dict[str, Any]:
    net = lively(
        diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=32, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(2, 2, 4), guidance_embeds=True,
        )
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
        shift=3.0,
    )
    return {
        "scheduler": scheduler, "vae": vae(8), "text_encoder": clip(), "tokenizer": clip_tokenizer(), "text_encoder_2": t5(),
        "tokenizer_2": t5_tokenizer(), "transformer": net,
    }  # fmt: skip


def flux() -> Any:
    return quiet(diffusers.FluxPipeline(**_flux_parts()))


def flux_img2img() -> Any:
    return quiet(diffusers.FluxImg2ImgPipeline(**_flux_parts()))


def picture(seed: int = 0, size: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def mask(size: int = 16) -> Image.Image:
    array = np.zeros((size, size), dtype=np.uint8)
    array[:, : size // 2] = 255
    return Image.fromarray(array)


@dataclass(frozen=True)
class Family:
    """How one kind of pipeline is built and called.

    Attributes:
        build: Makes the pipeline; cached by :meth:`pipe`, and its scheduler put back.
        call: Arguments of the pipeline besides the steps and latents.
        load: Arguments of :func:`sigmatune.load` besides the pipeline.
        latents: Whether the pipeline takes ``latents=``; else start noise comes from its generator.
        image: The run starts from an image.
    """

    build: Callable[[], Any]
    call: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)
    latents: bool = True
    image: bool = False

    def pipe(self) -> Any:
        pipe, scheduler = _built(self.build)
        pipe.scheduler = type(scheduler).from_config(scheduler.config)
        return pipe


@cache
def _built(build: Callable[[], Any]) -> tuple[Any, Any]:
    pipe = build()
    return pipe, pipe.scheduler


TEXT = {"prompt": PROMPT, "negative_prompt": "blur", "guidance_scale": 3.0, "output_type": "latent"}
PROMPTS = {"prompts": [PROMPT], "negative_prompt": "blur", "guidance": 3.0}
SIZE = {"height": 16, "width": 16}
PIX = {"use_resolution_binning": False, "clean_caption": False}
FLUX = {"prompt": PROMPT, "guidance_scale": 3.5, "output_type": "latent", "max_sequence_length": 16, **SIZE}
FLUX_LOAD = {"prompts": [PROMPT], "guidance_scale": 3.5, "max_sequence_length": 16, **SIZE}

FAMILIES: dict[str, Family] = {
    "ddim": Family(ddim, {"output_type": "np"}, {}, latents=False),
    "ldm": Family(ldm, {"output_type": "np"}, {}, latents=False),
    "sd15": Family(sd15, TEXT, PROMPTS),
    "sd2-v": Family(sd2_v, TEXT, PROMPTS),
    "sd-img2img": Family(sd_img2img, TEXT, PROMPTS, latents=False, image=True),
    "sd-inpaint": Family(sd_inpaint, {**TEXT, **SIZE}, PROMPTS),
    "sd-controlnet": Family(sd_controlnet, {**TEXT, "image": picture(1), **SIZE}, {**PROMPTS, "image": picture(1), **SIZE}),
    "sdxl": Family(sdxl, {**TEXT, **SIZE}, {**PROMPTS, **SIZE}),
    "dit": Family(dit, {"class_labels": [1], "guidance_scale": 3.0}, {"labels": [1], "guidance": 3.0}, latents=False),
    "pixart": Family(pixart, {**TEXT, **SIZE, **PIX}, {**PROMPTS, **SIZE, **PIX}),
    "sd3": Family(sd3, {**TEXT, **SIZE}, {**PROMPTS, **SIZE}),
    "sd3-img2img": Family(sd3_img2img, {**TEXT, **SIZE}, {**PROMPTS, **SIZE}, latents=False, image=True),
    "flux": Family(flux, FLUX, FLUX_LOAD),
    "flux-img2img": Family(flux_img2img, FLUX, FLUX_LOAD, latents=False, image=True),
}  # fmt: skip
