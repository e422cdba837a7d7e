r"""Low-rank adapters: train a large network through few parameters beside its weights.

.. math:: W' = W + \frac{\alpha}{r} B A, \qquad A \in R^{r \times n}, \quad B \in R^{m \times r}, \quad B = 0 \text{ at first}

W is frozen; the usual :class:`~sigmatune.training.trainer.Trainer` trains A and B of the chosen layers, and its
optimiser, averages and checkpoints hold nothing else. An adapted network starts as the network itself. The adapters are
saved separately (``save_adapter``, in the format of the library ``peft``, which does the work here) or merged into
ordinary weights (``merged``), which plain diffusers opens.

Reference: LoRA: Low-Rank Adaptation of Large Language Models (Hu et al., 2021), https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import copy
import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from sigmatune.core.schedule import whole
from sigmatune.models.conditioning import Conditioned
from sigmatune.support.errors import SigmaTuneError, unknown_name
from sigmatune.support.files import make_folder, write_bytes, write_text

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
"""What peft writes before the name of every layer."""


def adapt(
    network: Conditioned,
    rank: int,
    *,
    alpha: float | None = None,
    targets: Sequence[str] | None = None,
    seed: int = 0,
) -> Conditioned:
    r"""Adds adapters to a network, in place, and freezes everything else, the conditioning included.

    Args:
        network: The network; its outputs do not change.
        rank: r.
        alpha: :math:`\alpha`; r by default, so that the factor is 1.
        targets: Names of layers, or their last parts, such as ``["to_q", "to_k"]``; by default all linear layers and
            (ungrouped) convolutions, attention's projections among them.
        seed: Of A.

    Returns:
        The same network.

    Raises:
        SigmaTuneError: for an unknown layer, an already adapted network, or if peft is not installed.
    """
    peft = _peft()
    names = _layers(network.backbone, targets)
    config = peft.LoraConfig(
        r=whole(rank, "rank"), lora_alpha=rank if alpha is None else float(alpha), target_modules=names
    )
    _inject(network, config, seed)
    return network


def adapted(network: torch.nn.Module) -> bool:
    """Whether there are adapters in a network."""
    return any("lora_A" in name for name, _ in network.named_modules())


def merged(network: Conditioned) -> Conditioned:
    """A copy with the adapters merged into ordinary weights, without gradients; without adapters, a plain copy."""
    plain = copy.deepcopy(network)
    _merge(plain)
    return plain.requires_grad_(False)


def save_adapter(network: Conditioned, folder: str | Path) -> None:
    """Writes the adapters alone: ``adapter_config.json`` and ``adapter_model.safetensors``, in peft's format.

    ``peft.PeftModel.from_pretrained(unet, folder)`` opens them around the same diffusers network.

    Raises:
        SigmaTuneError: for a network without adapters, or a folder that cannot be written to.
    """
    peft, folder = _peft(), Path(folder)
    if not adapted(network):
        raise SigmaTuneError("this network has no adapters; add them with adapt().")
    backbone: Any = network.backbone
    values = peft.get_peft_model_state_dict(backbone)
    tensors = {f"{PREFIX}{name}": value.detach().cpu().contiguous() for name, value in values.items()}
    fields = backbone.peft_config["default"].to_dict()
    write_bytes(make_folder(folder) / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_text(folder / CONFIG, json.dumps(fields, indent=2, sort_keys=True, default=_plain) + "\n")


def _inject(network: Conditioned, config: Any, seed: int) -> None:
    if adapted(network):
        raise SigmaTuneError("this network already has adapters; merge them first with merged().")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _peft().inject_adapter_in_model(config, network.backbone)
    for name, value in network.named_parameters():
        value.requires_grad_(".lora_" in name)


def _merge(network: Conditioned) -> None:
    """Restores the ordinary layers, in place, with the adapters merged."""
    for name, layer in list(network.named_modules()):
        if hasattr(layer, "lora_A"):
            adapter: Any = layer
            adapter.merge(safe_merge=True)
            place, _, last = name.rpartition(".")
            setattr(network.get_submodule(place), last, adapter.get_base_layer())
    if hasattr(network.backbone, "peft_config"):
        del network.backbone.peft_config


def _layers(backbone: torch.nn.Module, targets: Sequence[str] | None) -> list[str]:
    """Full names of the layers that are adapted."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    layers = [(name, layer) for name, layer in backbone.named_modules() if isinstance(layer, kinds)]
    known = [
        name for name, layer in layers if getattr(layer, "groups", 1) == 1
    ]  # peft cannot merge into grouped convolutions
    if targets is None:
        return known
    parts, chosen = {name.rpartition(".")[2] for name in known}, list[str]()
    for target in targets:
        fitting = [name for name in known if f".{name}".endswith(f".{target}")]
        if not fitting:
            raise unknown_name("linear layer or convolution", target, {last for last in parts if not last.isdigit()})
        chosen.extend(name for name in fitting if name not in chosen)
    if not chosen:
        raise SigmaTuneError("name at least one layer to adapt, or leave targets out for all of them.")
    return chosen


def _plain(value: Any) -> Any:
    """Converts sets and enumeration members to JSON types."""
    return value.value if isinstance(value, enum.Enum) else sorted(value)


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise SigmaTuneError("adapters need peft; install the extra: pip install 'sigmatune[lora]'.") from None
    return peft
