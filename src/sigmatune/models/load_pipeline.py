"""Loads diffusers pipelines as denoisers: from memory or from safetensors files, with prompts, labels and guidance."""

from __future__ import annotations

import inspect
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from sigmatune.models.calling_read import calling_of
from sigmatune.models.capture import Seen, watch
from sigmatune.models.network import pick_device
from sigmatune.models.own_levels import LINSPACE
from sigmatune.models.pipeline import GuidanceRange, PipelineDenoiser
from sigmatune.models.scheduler_config import Process, config_of, read_process
from sigmatune.models.single_file import is_single_file, open_single_file
from sigmatune.support.errors import SigmaTuneError, unknown_name, unloadable
from sigmatune.support.options import recordable


class MissingCondition(SigmaTuneError):
    """A conditional pipeline was loaded without its prompts or labels.

    Args:
        pipeline: The name of its class.
        kind: "prompts" or "labels".
    """

    def __init__(self, pipeline: str, kind: str) -> None:
        super().__init__(f"a {pipeline} needs a list of {kind}=.")
        self.pipeline, self.kind = pipeline, kind


KNOBS = ("true_cfg_scale", "guidance_scale")
"""Names of the scale of guidance; the first that a pipeline has is it."""

PLUS_ONE = ("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline")
"""Pipelines whose scale counts from 0: f_c + w (f_c - f_u)."""

_OF_PLAN = "the plan decides the levels and the noise; leave it out"
_OF_LOOP = "it acts in the pipeline's loop; leave it out, or use it with the plan in the pipeline"
_OF_US = "st.load, st.tune and st.sample have their own"

ELSEWHERE = {
    **dict.fromkeys(("num_inference_steps", "timesteps", "sigmas", "eta", "denoising_start", "denoising_end",
                     "original_inference_steps"), _OF_PLAN),
    "strength": "start from an image with st.partial; pass strength=1 or leave it out",
    **dict.fromkeys(("control_guidance_start", "control_guidance_end", "guess_mode", "callback", "callback_on_step_end",
                     "skip_guidance_layers", "cfg_trunc_ratio", "sag_scale", "adapter_conditioning_factor", "guidance_scale_2",
                     "boundary_ratio", "start_merge_step", "cfg_truncation"), _OF_LOOP),
    "prompt": "pass a list of prompts=",
    "class_labels": "pass a list of labels=",
    **dict.fromkeys(("generator", "latents", "output_type", "return_dict", "num_images_per_prompt",
                     "num_videos_per_prompt", "num_waveforms_per_prompt"), _OF_US),
}  # fmt: skip
"""Arguments of pipelines that a denoiser has no part in, and what to do instead."""


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
    _check_arguments(pipe, takes, call)
    key, given = _conditions(pipe, takes, prompts, labels)
    if not 0 <= interval[0] < interval[1]:
        raise SigmaTuneError(f"need an interval of levels 0 <= a < b, not {interval}.")
    scale, arguments = _with_guidance(pipe, takes, guidance, negative_prompt, call)
    if "strength" in takes:
        arguments["strength"] = 1.0
    _quiet(pipe)
    first = watch(pipe, arguments if key is None else {**arguments, key: given[0]})
    process = _process(pipe, first)
    rescale = float(arguments.get("guidance_rescale") or 0.0)
    calling = calling_of(type(pipe).__name__, first, process.path.levels, scale, rescale)
    if (len(calling.branches) > 1) != (scale != 1) and not (scale != 1 and guidance is None):
        raise SigmaTuneError(f"the guidance of a {type(pipe).__name__} is not supported; pass guidance=1.")
    known = first.turns[0]
    turns = [known, *(watch(pipe, {**arguments, str(key): value}, known).turns[0] for value in given[1:])]
    denoiser = PipelineDenoiser(
        pipe,
        calling,
        turns,
        process,
        [] if key is None else given,
        GuidanceRange(scale, (float(interval[0]), float(interval[1]))),
    )
    denoiser.size = _pixels(pipe, call)
    guided = any(name in takes for name in KNOBS)
    denoiser.loaded_with = recordable(
        prompts=prompts, labels=labels, negative_prompt=negative_prompt, guidance=scale if guided else None,
        interval=interval, **call,
    )  # fmt: skip
    return denoiser


def _check_arguments(pipe: Any, takes: Mapping[str, Any], call: Mapping[str, Any]) -> None:
    """Refuses arguments that the pipeline does not have, and those that would have no effect here."""
    name = type(pipe).__name__
    for key, value in call.items():
        if key not in takes:  # many pipelines silently accept unknown arguments
            raise unknown_name(f"{name} argument", key, takes)
        default = takes[key].default
        if key not in ELSEWHERE or value is default or (isinstance(value, int | float | str) and value == default):
            continue
        if key == "strength" and value == 1:
            continue
        raise SigmaTuneError(f"{key}= of a {name} has no effect on a denoiser: {ELSEWHERE[key]}.")


def _with_guidance(
    pipe: Any, takes: Mapping[str, Any], guidance: float | None, negative: str | None, call: Mapping[str, Any]
) -> tuple[float, dict[str, Any]]:
    """The scale of guidance, and the pipeline's arguments with it.

    Flux-type pipelines have two scales: ``guidance_scale`` is an input of the network, ``true_cfg_scale`` is guidance.
    """
    name, arguments = type(pipe).__name__, dict(call)
    knob = next((known for known in KNOBS if known in takes), None)
    if knob is not None and knob in call:
        if guidance is not None and float(guidance) != float(call[knob]):
            raise SigmaTuneError(
                f"guidance={guidance:g} and {knob}={call[knob]:g} contradict each other; pass one of them."
            )
        guidance = float(call[knob])
    default = 1.0 if knob is None or takes[knob].default is None else takes[knob].default
    apart = knob == "true_cfg_scale"
    scale = float(
        default if guidance is None and not (apart and negative is None) else 1.0 if guidance is None else guidance
    )
    if scale != 1 and knob is None:
        raise SigmaTuneError(f"a {name} has no guidance.")
    if knob is not None:
        arguments[knob] = scale
    if negative is not None or (apart and scale > 1):
        if "negative_prompt" not in takes:
            raise SigmaTuneError(f"a {name} takes no negative prompt.")
        arguments["negative_prompt"] = negative or ""
    return 1.0 if scale < 1 and not apart and name not in PLUS_ONE else scale, arguments


def _process(pipe: Any, seen: Seen) -> Process:
    """The scheduler's process, with the shift that the pipeline computed for this resolution."""
    config = config_of(pipe.scheduler)
    shift = None
    if seen.mu is not None and config.get("use_dynamic_shifting"):
        exponential = config.get("time_shift_type", "exponential") == "exponential"
        shift = math.exp(seen.mu) if exponential else float(seen.mu)
    process = read_process(config, shift=shift)
    if seen.sigmas is None or process.schedule is None:
        return process
    given = [float(sigma) for sigma in seen.sigmas]
    listed = [1 - i / len(given) for i in range(len(given))]
    if any(abs(a - b) > 1e-6 for a, b in zip(given, listed, strict=True)):
        return replace(process, schedule=None, unknown="the pipeline passes a list of its own to its scheduler")
    family, options = process.schedule
    return replace(process, schedule=(family, {**options, "sigmas": LINSPACE})) if family == "diffusers" else process


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
        raise MissingCondition(name, "prompts" if key == "prompt" else "labels")
    if len(set(given)) < len(given):
        twice = next(value for i, value in enumerate(given) if value in given[:i])
        raise SigmaTuneError(f"{twice!r} is given twice; tuning and the final test need different conditions.")
    return key, [value if key == "prompt" else [value] for value in given]


def _pixels(pipe: Any, call: Mapping[str, Any]) -> tuple[int, int]:
    side = getattr(pipe, "default_sample_size", 0) * getattr(pipe, "vae_scale_factor", 1)
    return int(call.get("height") or side), int(call.get("width") or side)


def _quiet(pipe: Any) -> None:
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
