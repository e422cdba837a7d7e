"""Finds a model's files: a local folder, or a repository on the Hugging Face hub. Nothing pickled is ever opened."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from sigmatune.models.exact_names import is_exact
from sigmatune.support import reading
from sigmatune.support.errors import SigmaTuneError, reason, shown
from sigmatune.support.folders import recover
from sigmatune.support.hub_access import UNREACHABLE, unreachable

logger = logging.getLogger(__name__)

WEIGHTS = "diffusion_pytorch_model"
PATTERNS = ["model_index.json", "config.json", "scheduler_config.json", "scheduler/*.json", f"{WEIGHTS}*.safetensors*",
            *(f"{part}/*.{kind}" for part in ("unet", "transformer", "conditioning") for kind in ("json", "safetensors")),
            "spectra.json"]  # fmt: skip
HUB_ID = r"[\w-][\w.-]*/[\w-][\w.-]*"
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def locate(source: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Returns a local folder, after downloading json and safetensors files if the source is a hub id.

    Args:
        source: A folder, or ``owner/name`` on the hub.
        revision: Branch, tag or commit on the hub.

    Raises:
        SigmaTuneError: if there is no such folder and the hub does not provide it.
    """
    folder = Path(source).expanduser()
    recover(folder)  # finish what a killed process was replacing
    if folder.is_dir():
        return folder
    if folder.exists():
        raise SigmaTuneError(
            f"{source} is a file; pass the folder of a diffusers model, or a single .safetensors file."
        )
    if is_exact(str(source)):
        raise SigmaTuneError(f"{source} is exact and has no network files; pass a trained model.")
    if not re.fullmatch(HUB_ID, str(source)):
        raise SigmaTuneError(f"there is no folder {source}, and it is not a hub id (owner/name) either.")
    from huggingface_hub import snapshot_download

    logger.info("fetching %s from the hub", source)
    away = unreachable(str(source))
    try:
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=PATTERNS, local_files_only=away))
    except Exception as error:  # noqa: BLE001 - the hub client raises errors of several libraries
        if away:
            raise SigmaTuneError(f"there is no folder {source}, and {UNREACHABLE}.") from None
        raise SigmaTuneError(f"there is no folder {source} and the hub does not provide it: {reason(error)}.") from None


def fetch(source: str) -> None:
    """Downloads the files of a hub id that :func:`sigmatune.load` opens; other sources are left alone.

    Raises:
        SigmaTuneError: if the hub does not provide a model of that name.
    """
    if not re.fullmatch(HUB_ID, source) or Path(source).expanduser().exists():
        return
    if not needs_pipeline(source):
        locate(source)
        return
    from diffusers import DiffusionPipeline

    with suppress(Exception):  # loading it reports the problem
        DiffusionPipeline.download(source, use_safetensors=True, local_files_only=unreachable(source))


def needs_pipeline(source: str | os.PathLike[str]) -> bool:
    """Whether a model is more than a network and a scheduler: it has an autoencoder, a text encoder or labels.

    For a hub id, only the pipeline's index is read.
    """
    folder = Path(source).expanduser()
    index = folder / "model_index.json"
    if not folder.exists() and re.fullmatch(HUB_ID, str(source)):
        from huggingface_hub import hf_hub_download

        try:
            index = Path(hf_hub_download(str(source), "model_index.json", local_files_only=unreachable(str(source))))
        except Exception:  # noqa: BLE001 - loading the model itself reports the problem
            return False
    if not index.is_file():
        return False
    parts = {key for key, value in read_json(index).items() if isinstance(value, list) and _part(index, key, value)}
    return bool(parts - {"unet", "transformer", "scheduler"})


def _part(index: Path, key: str, value: list[Any]) -> bool:
    """Whether an entry of a pipeline's index names a part, [library, class], rather than none, [null, null]."""
    if len(value) != 2 or not all(name is None or isinstance(name, str) for name in value):
        raise SigmaTuneError(
            f'{index}: {shown(key)} must be ["library", "class"], not {value if not value else shown(value)}.'
        )
    return value[0] is not None


def layout(folder: Path) -> tuple[Path, dict[str, Any] | None]:
    """Returns the folder of the network and the scheduler's configuration, if there is one.

    Known layouts: a pipeline (``unet/`` or ``transformer/config.json``, ``scheduler/scheduler_config.json``), the flat one of
    2022 (``config.json``, ``scheduler_config.json``), a bare UNet (``config.json``).

    Raises:
        SigmaTuneError: if the folder is none of these, or a file is not a JSON object.
    """
    parts = (folder / "unet", folder / "transformer", folder)
    unet = next((place for place in parts if (place / "config.json").is_file()), None)
    if unet is None:
        raise SigmaTuneError(
            f"{folder} is not a diffusers model: it holds no config.json, nor unet/config.json or "
            f"transformer/config.json{_images_words(folder)}."
        )
    places = (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
    scheduler = next((place for place in places if place.is_file()), None)
    return unet, None if scheduler is None else read_json(scheduler)


def _images_words(folder: Path) -> str:
    """What images in a folder, or in the folders in it, are for; "" if there are none."""
    files = (*folder.glob("*.*"), *folder.glob("*/*.*"))
    return (
        "; its images are for `sigmatune train --data`" if any(file.suffix.lower() in IMAGES for file in files) else ""
    )


def weights_variant(unet: Path) -> str | None:
    """Returns the variant of the safetensors weights in a UNet's folder: None for the plain file, else such as "fp16".

    Raises:
        SigmaTuneError: if there are none, pickled ones only, or several variants and no plain file.
    """
    names = [file.name for file in unet.glob("*.safetensors")]
    if not names:
        pickled = sorted(file.name for file in unet.iterdir() if file.suffix.lower() in PICKLED)
        if pickled:
            raise SigmaTuneError(
                f"{unet} holds pickled weights only ({pickled[0]}), which can run code when they are opened; if you trust "
                "them, convert them with save_pretrained(..., safe_serialization=True) and pass that folder."
            )
        raise SigmaTuneError(f"{unet} holds no weights: {WEIGHTS}.safetensors is missing.")
    # The variant of a shard stands before its number or, in files of newer versions of diffusers, after it.
    pattern = rf"{WEIGHTS}(?:\.(?P<before>[\w-]+?))?(?:-\d+-of-\d+)?(?:\.(?P<after>[\w-]+))?\.safetensors"
    matches = [match for name in names if (match := re.fullmatch(pattern, name))]
    variants = {match["before"] or match["after"] for match in matches}
    if None in variants:
        return None
    if len(variants) != 1:
        raise SigmaTuneError(f"{unet} must hold {WEIGHTS}.safetensors, not {', '.join(sorted(names))}.")
    return str(variants.pop())


def read_json(file: Path, *, finite: bool = True) -> dict[str, Any]:
    """Reads a JSON object; ``finite=False`` takes Infinity, which files of our own may hold.

    Raises:
        SigmaTuneError: if the file cannot be read or holds something else.
    """
    try:
        content = reading.json_of(file, kind="JSON", finite=finite)
    except SigmaTuneError as error:
        raise SigmaTuneError(f"{file} cannot be read: {str(error).removeprefix(f'{file}: ')}") from None
    if not isinstance(content, dict):
        raise SigmaTuneError(f"{file} must hold a JSON object, not {shown(content)}.")
    return content
