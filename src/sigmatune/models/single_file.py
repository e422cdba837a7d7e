"""Single files of weights, as ComfyUI and AUTOMATIC1111's web UI keep them, through diffusers' ``from_single_file``.

A file holds weights and no configuration. That comes, in this order, from

1. ``config=``: a diffusers folder of the same kind of model, or its hub id; its JSON files suffice;
2. a folder of the same name beside the file, ``model/`` for ``model.safetensors``;
3. the hub, for the kinds that diffusers recognises by the names of their weights; its cache is enough without a network.

Only the header of a file is read before it is accepted. What can run code when it is opened, and what holds rounded weights, is
refused: else the error of few steps could not be separated from that of the weights.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from sigmatune.models.source import HUB_ID, PICKLED, read_json
from sigmatune.support.errors import SigmaTuneError, reason, unloadable
from sigmatune.support.hub_access import unreachable

logger = logging.getLogger(__name__)

SAFE, QUANTISED = ".safetensors", ".gguf"
KINDS = (SAFE, QUANTISED, *PICKLED)
"""Endings of files of weights."""

CONFIGURATION = ["**/*.json", "*.json", "*.txt", "**/*.txt", "**/*.model"]
ROUNDED = re.compile(
    r"scaled_fp8|\.(scale_weight|weight_scale|absmax|quant_map|qweight|qzeros)\b|quant_state|bitsandbytes"
)
ADAPTER = re.compile(r"lora_(up|down|A|B|te|unet)|\.alpha$|hada_w|lokr_")
FLOATS = ("F64", "F32", "F16", "BF16")
"""The dtypes of weights that were not quantised, by their names in a file's header."""


def is_single_file(source: Any) -> bool:
    """Whether a source is a file of weights, by its ending."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in KINDS and not Path(source).is_dir()


def open_single_file(source: str | Path, config: str | Path | None, dtype: torch.dtype) -> Any:
    """Builds the diffusers pipeline of a single file.

    Args:
        source: The file.
        config: A diffusers folder of the same kind of model, or its hub id.
        dtype: Dtype of the networks.

    Raises:
        SigmaTuneError: if the file cannot or must not be opened, or its configuration is not known.
    """
    file = Path(source).expanduser()
    if not file.is_file():
        raise SigmaTuneError(f"there is no file {source}.")
    names = checked_names(file)
    folder = _configuration(file, names, config)
    kind = read_json(folder / "model_index.json").get("_class_name")
    import diffusers

    pipeline: Any = getattr(diffusers, str(kind), None)
    if not hasattr(pipeline, "from_single_file"):
        raise SigmaTuneError(f"{folder} is the configuration of a {kind}, which diffusers does not load from one file.")
    logger.info("%s: a %s, configured by %s", file, kind, folder)
    try:
        pipe = pipeline.from_single_file(str(file), config=str(folder), torch_dtype=dtype, local_files_only=True)
    except Exception as error:  # noqa: BLE001 - diffusers, transformers and safetensors each raise their own kinds
        raise _unfitting(file, folder, error) from None
    for part, module in pipe.components.items():
        if isinstance(module, torch.nn.Module) and any(weight.is_meta for weight in module.parameters()):
            raise SigmaTuneError(
                f"{file} lacks weights of the {part} that {folder} describes; pass the config= of its kind."
            )
    return _with_stated_prediction(pipe, names)


def checked_names(file: Path) -> frozenset[str]:
    """The names of a file's weights, from its header.

    Raises:
        SigmaTuneError: for a pickle, a quantised file, an adapter, or a file that is damaged.
    """
    if file.suffix.lower() in PICKLED:
        raise SigmaTuneError(
            f"{file} is a pickle, which can run code when it is opened, so SigmaTune never does; if you trust it, save its "
            "weights as .safetensors (docs: Single files) and pass that file."
        )
    if file.suffix.lower() == QUANTISED:
        raise _quantised(file, "GGUF")
    from safetensors import safe_open

    try:
        with safe_open(str(file), framework="pt") as header:
            names = frozenset(header.keys())
            kinds = {header.get_slice(name).get_dtype() for name in names}
    except Exception as error:  # noqa: BLE001 - the system and safetensors each raise their own kinds
        raise SigmaTuneError(
            f"{file} cannot be read ({reason(error)}); it is damaged or no .safetensors file, so download it again."
        ) from None
    if low := sorted(kind for kind in kinds if re.match(r"F8|F4|F6", kind)):
        raise _quantised(file, low[0])
    if any(map(ROUNDED.search, names)):
        raise _quantised(file, "scaled")
    weights = [name for name in names if not name.endswith(("position_ids", "num_batches_tracked"))]
    if names and sum(bool(ADAPTER.search(name)) for name in weights) > len(weights) / 2:
        raise SigmaTuneError(
            f"{file} is an adapter (LoRA), not a model; load its base model's pipeline, call pipe.load_lora_weights, and pass "
            "the pipeline."
        )
    return names


def _quantised(file: Path, how: str) -> SigmaTuneError:
    return SigmaTuneError(
        f"{file} holds quantised weights ({how}), whose rounding would be tuned for, too; tune the 16-bit .safetensors of the "
        "same model, its plan also runs the quantised one."
    )


def _configuration(file: Path, names: Iterable[str], config: str | Path | None) -> Path:
    """The folder with the configuration of a file's pipeline.

    Raises:
        SigmaTuneError: if it is nowhere; the message says what to pass.
    """
    beside = file.with_suffix("")
    if config is None and (beside / "model_index.json").is_file():
        return _safe(beside)
    if config is not None and Path(config).expanduser().is_dir():
        if not (Path(config).expanduser() / "model_index.json").is_file():
            raise SigmaTuneError(
                f"config= must be a diffusers pipeline's folder, and {config} holds no model_index.json."
            )
        return _safe(Path(config).expanduser())
    if config is not None and not re.fullmatch(HUB_ID, str(config)):
        raise SigmaTuneError(
            f"config= is a diffusers folder or a hub id (owner/name), and there is no folder {config}."
        )
    hub = str(config) if config is not None else _known_kind(file, names)
    from huggingface_hub import snapshot_download

    why = ""
    for offline in (True, False):
        if not offline and unreachable(hub):
            why = "the hub cannot be reached"
            break
        try:
            snapshot = Path(snapshot_download(hub, allow_patterns=CONFIGURATION, local_files_only=offline))
        except Exception as error:  # noqa: BLE001 - the hub client raises errors of several libraries
            why = reason(error)
            continue
        if (snapshot / "model_index.json").is_file():
            return _safe(snapshot)
        why = "it holds no model_index.json"
    raise SigmaTuneError(
        f"{file.name} holds weights only, without their configuration ({why}); in its folder run hf download {hub} "
        f"--include '*.json' '*.txt' '*.model' --local-dir {beside.name}, or pass config=, a diffusers folder of its kind."
    )


def _known_kind(file: Path, names: Iterable[str]) -> str:
    """The hub id of the configuration of a file, by the names of its weights."""
    from diffusers.loaders import single_file_utils as kinds
    from safetensors.torch import load_file

    table: dict[str, Any] = kinds.DIFFUSERS_DEFAULT_PIPELINE_PATHS
    stable_diffusion = any(name.startswith("cond_stage_model.") for name in names)
    kind = kinds.infer_diffusers_model_type(load_file(str(file)))
    if kind == "v1" and not stable_diffusion:  # also its answer to what it does not know
        raise SigmaTuneError(
            f"{file} is of no kind that diffusers recognises; pass config=, a diffusers folder of the same kind of model."
        )
    return str(table[kind]["pretrained_model_name_or_path"])


def _safe(folder: Path) -> Path:
    """A folder of a configuration, if nothing in it is a pickle, which diffusers would open for what a file lacks."""
    pickled = next((part for part in sorted(folder.rglob("*")) if part.suffix.lower() in PICKLED), None)
    if pickled is not None:
        raise SigmaTuneError(
            f"{folder} holds pickled weights ({pickled.name}); as a configuration leave only its JSON files."
        )
    return folder


def _unfitting(file: Path, folder: Path, error: Exception) -> SigmaTuneError:
    """The error for a file that diffusers does not load with a configuration."""
    text = str(error)
    if "missing in the checkpoint" in text:
        part = text.partition("Failed to load ")[2].partition(".")[0] or "a part"
        return SigmaTuneError(
            f"{file} holds no weights of {part}, as files of the network alone do not; build the pipeline with "
            "diffusers and pass it: st.load(pipe, prompts=[...])."
        )
    if isinstance(error, OSError):
        return unloadable(f"the pipeline in {file}", error)
    return SigmaTuneError(
        f"{file} does not fit the configuration {folder} ({reason(error)}); pass the config= of its kind."
    )


def _with_stated_prediction(pipe: Any, names: Iterable[str]) -> Any:
    """A pipeline whose scheduler follows the marks by which files of v-prediction tell other programs what they are."""
    marks = {"v_pred", "ztsnr"} & set(names)
    if "v_pred" not in marks:
        return pipe
    import diffusers

    config = {**pipe.scheduler.config, "prediction_type": "v_prediction"}
    kind = type(pipe.scheduler)
    if "ztsnr" in marks:
        config["rescale_betas_zero_snr"] = True
        kind = kind if "rescale_betas_zero_snr" in pipe.scheduler.config else diffusers.DDIMScheduler
    pipe.scheduler = kind.from_config(config)
    return pipe
