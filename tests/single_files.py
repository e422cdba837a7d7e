"""A tiny pipeline's weights under the names of Stable Diffusion's own files, as ComfyUI keeps them."""

from __future__ import annotations

import re

import torch

UNET = [
    ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"), ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"), ("conv_out", "out.2"), ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.0", "middle_block.0"), ("mid_block.resnets.1", "middle_block.2"),
]  # fmt: skip
RESNET = [("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"),
          ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection")]  # fmt: skip
ATTENTION = [("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")]


def renamed(name: str, table) -> str:
    for ours, theirs in table:
        name = re.sub(rf"(^|\.){re.escape(ours)}\.", rf"\g<1>{theirs}.", name)
    return name


def of_unet(name: str) -> str:
    """A name of a UNet with one layer per block."""
    found = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
    if found is None:
        name = renamed(name, UNET)
        return renamed(name, RESNET) if "middle_block" in name and "middle_block.1" not in name else name
    kind, part, rest = found[1], found[3], found[5]
    i, j = int(found[2]), int(found[4])
    if part == "downsamplers":
        return f"input_blocks.{2 * (i + 1)}.0.op.{rest.removeprefix('conv.')}"
    if part == "upsamplers":
        return f"output_blocks.{2 * i + 1}.{1 + i}.{rest}"
    place = f"input_blocks.{2 * i + j + 1}" if kind == "down" else f"output_blocks.{2 * i + j}"
    return f"{place}.{int(part == 'attentions')}.{rest if part == 'attentions' else renamed(rest, RESNET)}"


def of_vae(name: str, blocks: int = 2) -> str:
    name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{blocks - 1 - int(m[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample.", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions" in name:
        name = renamed(name.replace("mid_block.attentions.0", "mid.attn_1"), ATTENTION)
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


def single_file(pipe) -> dict:
    """The state dict of a file of Stable Diffusion 1."""
    weights = {f"model.diffusion_model.{of_unet(name)}": w for name, w in pipe.unet.state_dict().items()}
    for name, w in pipe.vae.state_dict().items():
        conv = "mid_block.attentions" in name and name.endswith("weight") and w.ndim == 2
        weights[f"first_stage_model.{of_vae(name)}"] = w[..., None, None] if conv else w
    for name, w in pipe.text_encoder.state_dict().items():
        inner = name if name.startswith("text_model.") else f"text_model.{name}"
        weights[f"cond_stage_model.transformer.{inner}"] = w
    return {name: w.clone().contiguous() for name, w in weights.items()}


def of_open_clip(weights: dict) -> dict:
    """A text encoder's weights under OpenCLIP's names, queries, keys and values stacked."""
    table = [("text_model.embeddings.position_embedding.weight", "positional_embedding"),
             ("text_model.embeddings.token_embedding", "token_embedding"), ("text_model.final_layer_norm", "ln_final"),
             ("text_model.encoder.layers", "transformer.resblocks"), ("layer_norm", "ln_"), ("mlp.fc1", "mlp.c_fc"),
             ("mlp.fc2", "mlp.c_proj"), ("self_attn", "attn")]  # fmt: skip
    named, stacks = {}, {}
    for name, w in weights.items():
        inner = name if name.startswith("text_") else f"text_model.{name}"
        for ours, theirs in table:
            inner = inner.replace(ours, theirs)
        if found := re.match(r"(.*\.attn\.)([qkv])_proj\.(weight|bias)", inner):
            stacks.setdefault(f"{found[1]}in_proj_{found[3]}", {})[found[2]] = w
        elif inner == "text_projection.weight":
            named["text_projection"] = w.T
        else:
            named[inner] = w
    return named | {name: torch.cat([parts[kind] for kind in "qkv"]) for name, parts in stacks.items()}


def single_file_xl(pipe) -> dict:
    """The state dict of a file of Stable Diffusion XL."""
    old = single_file(pipe)
    of_text, of_unet = "cond_stage_model.transformer.", "model.diffusion_model.add_embedding.linear_"
    weights = {name.replace(of_text, "conditioner.embedders.0.transformer."): w for name, w in old.items()}
    for i in (1, 2):
        for part in ("weight", "bias"):
            place = f"model.diffusion_model.label_emb.0.{2 * (i - 1)}.{part}"
            weights[place] = weights.pop(f"{of_unet}{i}.{part}")
    for name, w in of_open_clip(pipe.text_encoder_2.state_dict()).items():
        weights[f"conditioner.embedders.1.model.{name}"] = w.clone().contiguous()
    return weights
