"""A copy of a model's folder with new weights: the old dtype, scheduler, conditioning and spectra."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from sigmatune.models.conditioning import Conditioned
from sigmatune.models.source import WEIGHTS, layout
from sigmatune.support.folders import copy as copy_folder
from sigmatune.support.folders import whole_folder
from sigmatune.training.export import fitting


def save(network: Conditioned, like: Path, target: Path) -> None:
    """Writes a copy of a model folder with new weights in the old dtype, whole or not at all.

    Args:
        network: The new weights.
        like: The folder that is copied.
        target: The new folder.

    Raises:
        SigmaTuneError: if it cannot be written.
    """
    with whole_folder(target) as new:
        fill(new, network, like)


def fill(new: Path, network: Conditioned, like: Path) -> None:
    """Writes the files of :func:`save` into an empty folder.

    Raises:
        SigmaTuneError: if a weight does not fit the old dtype, or a file cannot be copied.
    """
    copy_folder(like, new, ignore=_unneeded)
    place, source = layout(new)[0], layout(like)[0]
    dtype = _dtype(source)
    fitting(network, dtype, f"store the model of {like} in float32 first; the checkpoint is kept")
    backbone: Any = copy.deepcopy(network.backbone)
    torch.nn.Module.to(backbone, dtype)  # diffusers' own warns about modules that this network lacks
    backbone.save_pretrained(str(place), safe_serialization=True)
    shutil.copyfile(source / "config.json", place / "config.json")  # diffusers would write the source folder
    if network.conditioning is not None:
        copy.deepcopy(network.conditioning).to(dtype).save(new / "conditioning")


def _unneeded(_: str, names: Sequence[str]) -> set[str]:
    """Weights, which are rewritten, and pickled files, which are never opened."""
    return {
        name for name in names if name.startswith(WEIGHTS) or name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))
    }


def _dtype(network: Path) -> torch.dtype:
    """The dtype that a network's weights are stored in."""
    with safe_open(sorted(network.glob(f"{WEIGHTS}*.safetensors"))[0], framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - the file is not a mapping
            dtype: torch.dtype = file.get_tensor(name).dtype
            if dtype.is_floating_point:
                return dtype
    return torch.float32
