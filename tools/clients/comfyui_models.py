"""Tiny checkpoints that ComfyUI recognises as SD 1.5, SD3 and Flux, and ComfyUI's own network and formulas as a denoiser.

Each is ComfyUI's own network class with one block and seeded weights, in a file for the node ``UNETLoader``. They draw
nothing; what matters is that ComfyUI loads, wraps and samples them as it does the large ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigmatune.models.analytic import Analytic
from sigmatune.noise import NoisePath


@dataclass(frozen=True)
class Tiny:
    """A tiny checkpoint.

    Attributes:
        build: Makes the network of ComfyUI's class.
        shape: Shape of the latents at 64 x 64 pixels.
        tokens, width, pooled: Sizes of the text conditioning.
    """

    build: Callable[[], torch.nn.Module]
    shape: tuple[int, int, int]
    tokens: int
    width: int
    pooled: int


def sd15() -> torch.nn.Module:
    """SD 1.5: a UNet of 320 channels and a context of 768, by which ComfyUI knows it."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    return UNetModel(
        image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1], channel_mult=[1],
        transformer_depth=[1], transformer_depth_output=[1, 1], transformer_depth_middle=-2, context_dim=768,
        num_heads=8, use_spatial_transformer=True, legacy=False, dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip


def sd3() -> torch.nn.Module:
    """SD3: a multimodal transformer of one block and width 64."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    return MMDiT(
        input_size=None, patch_size=2, in_channels=16, out_channels=16, depth=1, num_patches=36864,
        pos_embed_max_size=192, adm_in_channels=2048, dtype=torch.float32, device="cpu",
        context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64}},
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip


def flux() -> torch.nn.Module:
    """Flux: one double and one single block of width 128."""
    import comfy.ops
    from comfy.ldm.flux.model import Flux

    return Flux(
        image_model="flux", in_channels=16, out_channels=16, patch_size=2, vec_in_dim=768, context_in_dim=4096,
        hidden_size=128, mlp_ratio=4.0, num_heads=1, depth=1, depth_single_blocks=1, axes_dim=[16, 56, 56],
        theta=10000, qkv_bias=True, guidance_embed=True, txt_ids_dims=[], dtype=torch.float32, device="cpu",
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip


MODELS = {
    "sd15": Tiny(sd15, (4, 8, 8), 8, 768, 768),
    "sd3": Tiny(sd3, (16, 8, 8), 8, 4096, 2048),
    "flux": Tiny(flux, (16, 8, 8), 8, 4096, 768),
}


def use(checkout: Path) -> None:
    """Makes ComfyUI's modules importable, on the CPU."""
    sys.path.insert(0, str(checkout))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True


def write(folder: Path) -> None:
    """Writes the checkpoints into a folder for ``diffusion_models``."""
    from safetensors.torch import save_file

    for name, tiny in MODELS.items():
        generator = torch.Generator().manual_seed(0)
        state = tiny.build().state_dict()
        for key, value in state.items():
            fan = value[0].numel() if value.ndim > 1 else 4
            drawn = torch.randn(value.shape, generator=generator) / fan**0.5
            state[key] = 1 + 0.1 * drawn if value.ndim == 1 and key.endswith(("weight", "scale")) else drawn
        save_file({k: v.contiguous() for k, v in state.items()}, folder / f"{name}.safetensors")


class Network(Analytic):
    """ComfyUI's network and its model_sampling's formulas, asked at exactly the t of a noise path.

    Args:
        model: ComfyUI's model, such as ``UNETLoader`` returns it.
        tiny: Its sizes.
        path: Maps sigma to t.
        times: From the path's t to the network's; ComfyUI counts Flux's t from 0 to 1.
    """

    dtype = torch.float32

    def __init__(self, model: Any, tiny: Tiny, path: NoisePath, times: float = 1.0) -> None:
        self.inner, self.sampling = model.model, model.get_model_object("model_sampling")
        self.shape, self.path, self.times, self.arrays = tiny.shape, path, times, (torch.ones(1),)
        self.zeros, self.pooled = torch.zeros(1, tiny.tokens, tiny.width), torch.zeros(1, tiny.pooled)

    @torch.no_grad()
    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        level = float(sigma[0])
        flow = float(self.sampling.sigma_max) <= 1
        shown = 1 / (1 + 1 / level) if flow else min(level, 1e8)
        scale = float(self.path.state_scale(level)) if flow else float(np.hypot(1, shown))
        x, s = z.float() * scale, torch.full((len(z),), shown)
        t = torch.full((len(z),), float(self.path.time(level)) * self.times)
        network = self.inner.diffusion_model
        extra = {"guidance": torch.full((len(z),), 3.5)} if hasattr(network, "guidance_in") else {}
        if getattr(network, "num_classes", "none") is not None:  # SD 1.5 takes no pooled text
            extra["y"] = self.pooled.expand(len(z), -1)
        context = self.zeros.expand(len(z), -1, -1)
        inputs = self.sampling.calculate_input(s, x)
        out = network(inputs, t.float(), context=context, control=None, transformer_options={}, **extra)
        return self.sampling.calculate_denoised(s, out.float(), x).to(z)
