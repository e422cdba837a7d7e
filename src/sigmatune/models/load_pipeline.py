"""Loads diffusers pipelines as denoisers: from memory or from safetensors files, with prompts, labels and guidance."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from sigmatune.models.capture import capture
from sigmatune.models.network import pick_device
from sigmatune.models.pipeline import LABEL_FIRST, TEXT_LAST, PipelineDenoiser
from sigmatune.models.single_file import is_single_file, open_single_file
from sigmatune.support.errors import SigmaTuneError, unknown_name, unloadable
from sigmatune.support.options import recordable


def from_pipeline(
    pipe: Any,
    *,
    prompts: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    negative_prompt: str | None = None,
    guidance: float | None = None,
    interval: tuple[float, float] = (0.0, float("inf")),
    **call: Any,
) -> PipelineDenoiser:
    """Turns a diffusers pipeline into a denoiser.

    Args:
        pipe: The pipeline; its networks are put into eval mode and are not copied.
        prompts: For a pipeline with text: one condition each, all different. Each is encoded once.
        labels: For a pipeline with class labels: one condition each.
        negative_prompt: Prompt that guidance steers away from.
        guidance: Scale w of classifier-free guidance, 1 for none; the pipeline's own default when absent. Flux-type models,
            whose guidance is an input of the network (``guidance_scale=``), have none by default.
        interval: (a, b], the levels sigma at which guidance is on; it costs two network evaluations there, one elsewhere.
        call: The pipeline's other arguments, such as height=, width=, image=.

    Raises:
        SigmaTuneError: if the pipeline does not run with these arguments or is not supported.
    """
    takes = inspect.signature(type(pipe).__call__).parameters
    for name in call:
        if name not in takes:  # many pipelines silently accept unknown arguments
            raise unknown_name(f"{type(pipe).__name__} argument", name, takes)
    key, given = _conditions(pipe, takes, prompts, labels)
    if not 0 <= interval[0] < interval[1]:
        raise SigmaTuneError(f"need an interval of levels 0 <= a < b, not {interval}.")
    apart = "true_cfg_scale" in takes
    knob = "true_cfg_scale" if apart else "guidance_scale"
    scale = float(takes[knob].default if guidance is None and knob in takes else 1.0 if guidance is None else guidance)
    if scale != 1 and knob not in takes:
        raise SigmaTuneError(f"a {type(pipe).__name__} has no guidance.")
    scale = 1.0 if scale < 1 else scale  # as in pipelines: no guidance at 1 and below
    arguments = dict(call)
    if not apart and knob in takes:
        arguments["guidance_scale"] = scale
    if negative_prompt is not None and not apart:
        if "negative_prompt" not in takes:
            raise SigmaTuneError(f"a {type(pipe).__name__} takes no negative prompt.")
        arguments["negative_prompt"] = negative_prompt
    _quiet(pipe)
    sent = [capture(pipe, arguments if key is None else {**arguments, key: value}) for value in given]
    unconditional = None
    if apart and scale != 1:
        unconditional = capture(pipe, {**arguments, "prompt": negative_prompt or ""})
    guided = len(sent[0].state[1]) == 2 or unconditional is not None
    if guided != (scale != 1) or (len(sent[0].state[1]) == 2 and not _known_order(pipe)):
        raise SigmaTuneError(f"the guidance of a {type(pipe).__name__} is not supported; pass guidance=1.")
    denoiser = PipelineDenoiser(
        pipe,
        sent,
        unconditional,
        [] if key is None else given,
        scale=scale,
        interval=(float(interval[0]), float(interval[1])),
    )
    denoiser.size = _pixels(pipe, call)
    denoiser.loaded_with = recordable(
        prompts=prompts, labels=labels, negative_prompt=negative_prompt, guidance=scale if knob in takes else None,
        interval=interval, **call,
    )  # fmt: skip
    return denoiser


def load_pipeline(
    source: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    config: str | os.PathLike[str] | None = None,
    **options: Any,
) -> PipelineDenoiser:
    """Loads a diffusers pipeline from safetensors files as a denoiser.

    Args:
        source: A folder that ``save_pretrained`` wrote, a hub id, or a single .safetensors file.
        device: Where to run: None for the CPU, "auto" for an accelerator if there is one.
        dtype: Dtype of the networks.
        revision: Branch, tag or commit on the hub.
        config: For a single file: the folder or hub id of its configuration (:mod:`sigmatune.models.single_file`).
        options: Those of :func:`from_pipeline`.

    Raises:
        SigmaTuneError: if there is no such pipeline, its weights are not in safetensors files, or it is not supported.
    """
    from diffusers import DiffusionPipeline

    where, place = pick_device(device), str(Path(source).expanduser())
    if is_single_file(place):
        with _silence():
            pipe = open_single_file(place, None if config is None else os.fspath(config), dtype)
        return from_pipeline(pipe.to(where), **options)
    if config is not None:
        raise SigmaTuneError("config= belongs to a single .safetensors file; a folder has its own configuration.")
    how = {"use_safetensors": True, "revision": revision, "low_cpu_mem_usage": find_spec("accelerate") is not None}
    try:
        with _silence():
            pipe = DiffusionPipeline.from_pretrained(place, torch_dtype=dtype, **how)
    except Exception as error:  # noqa: BLE001 - diffusers, transformers and the hub each raise their own kinds
        raise unloadable(f"the pipeline {source}", error) from None
    return from_pipeline(pipe.to(where), **options)


@contextmanager
def _silence() -> Iterator[None]:
    """Silences progress bars and remarks of diffusers and transformers that do not concern the user of a denoiser."""
    from diffusers.utils import logging

    libraries: list[Any] = [logging]
    if find_spec("transformers") is not None:
        libraries.append(import_module("transformers.utils.logging"))
    before = [(one.get_verbosity(), _shows_bars(one)) for one in libraries]
    for one in libraries:
        one.set_verbosity_error()
        one.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for one, (verbosity, shown) in zip(libraries, before, strict=True):
            one.set_verbosity(verbosity)
            if shown:
                one.enable_progress_bar()


def _shows_bars(library: Any) -> bool:
    return bool(library.is_progress_bar_enabled()) if hasattr(library, "is_progress_bar_enabled") else True


def _conditions(
    pipe: Any, takes: Mapping[str, Any], prompts: Sequence[str] | None, labels: Sequence[int] | None
) -> tuple[str | None, list[Any]]:
    """The name of the pipeline's argument for its condition, and the values of it."""
    name = type(pipe).__name__
    key = "prompt" if "prompt" in takes else "class_labels" if "class_labels" in takes else None
    wrong = {"prompt": labels, "class_labels": prompts, None: prompts if prompts is not None else labels}[key]
    if wrong is not None:
        raise SigmaTuneError(
            f"a {name} takes {'no condition' if key is None else 'prompts' if key == 'prompt' else 'labels'}."
        )
    given = prompts if key == "prompt" else labels
    if key is None:
        return None, [None]
    if given is None or isinstance(given, str) or len(given) == 0:
        raise SigmaTuneError(f"a {name} needs a list of {'prompts=' if key == 'prompt' else 'labels='}.")
    if len(set(given)) < len(given):
        twice = next(value for i, value in enumerate(given) if value in given[:i])
        raise SigmaTuneError(f"{twice!r} is given twice; tuning and the final test need different conditions.")
    return key, [value if key == "prompt" else [value] for value in given]


def _known_order(pipe: Any) -> bool:
    source = inspect.getsource(type(pipe))
    return TEXT_LAST in source or LABEL_FIRST in source


def _pixels(pipe: Any, call: Mapping[str, Any]) -> tuple[int, int]:
    side = getattr(pipe, "default_sample_size", 0) * getattr(pipe, "vae_scale_factor", 1)
    return int(call.get("height") or side), int(call.get("width") or side)


def _quiet(pipe: Any) -> None:
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
