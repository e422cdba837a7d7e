"""The pack's example workflows on tiny checkpoints: the same graph, without text encoder and decoder, and with a record."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from comfyui_models import MODELS
from comfyui_server import PACK

Workflow = dict[str, dict[str, Any]]


def example(name: str) -> Workflow:
    """An example of the pack, in the format of ComfyUI's API."""
    return json.loads((PACK / "examples" / f"{name}.json").read_text(encoding="utf-8"))


def tiny(workflow: Workflow, model: str, record: Path, patch: dict[str, Any] | None = None) -> Workflow:
    """An example on a tiny checkpoint at 64 x 64 pixels, without guidance.

    Args:
        workflow: The example.
        model: A name in ``MODELS``.
        record: The file that gets (t, sigma) of every call.
        patch: A node such as ModelSamplingSD3 between the model and all who use it, without its input ``model``.
    """
    graph, sizes = copy.deepcopy(workflow), MODELS[model]
    loader = {"unet_name": f"{model}.safetensors", "weight_dtype": "default"}
    source, extra = ["1", 0], {}
    if patch:
        extra["patch"] = {**patch, "inputs": {**patch["inputs"], "model": source}}
        source = ["patch", 0]
    extra["record"] = {"class_type": "SigmaTuneCheckRecord", "inputs": {"model": source, "file": str(record)}}
    for number, node in list(graph.items()):
        kind, inputs = node["class_type"], node["inputs"]
        if inputs.get("model") == ["1", 0]:
            inputs["model"] = ["record", 0]
        if kind == "CheckpointLoaderSimple":
            graph[number] = {"class_type": "UNETLoader", "inputs": loader}
        elif kind == "CLIPTextEncode":
            zeros = {"tokens": sizes.tokens, "width": sizes.width, "pooled": sizes.pooled}
            graph[number] = {"class_type": "SigmaTuneCheckZeros", "inputs": zeros}
        elif kind == "EmptyLatentImage":
            empty = "EmptyLatentImage" if sizes.shape[0] == 4 else "EmptySD3LatentImage"
            graph[number] = {"class_type": empty, "inputs": {"width": 64, "height": 64, "batch_size": 1}}
        elif kind == "SaveImage":
            saved = graph[inputs["images"][0]]["inputs"]["samples"]
            graph[number] = {"class_type": "SaveLatent", "inputs": {"samples": saved, "filename_prefix": "end"}}
        elif kind == "SamplerCustom":
            inputs["cfg"] = 1.0
    graph = {number: node for number, node in graph.items() if node["class_type"] != "VAEDecode"}
    return {**graph, **extra}


def with_inputs(workflow: Workflow, kind: str, **inputs: Any) -> Workflow:
    """The workflow with other inputs of all nodes of one class."""
    graph = copy.deepcopy(workflow)
    for node in graph.values():
        if node["class_type"] == kind:
            node["inputs"].update(inputs)
    return graph


def sampled_by(workflow: Workflow, extra: Workflow, sigmas: list[Any], sampler: list[Any]) -> Workflow:
    """The workflow with further nodes, and with SIGMAS and SAMPLER of every SamplerCustom from elsewhere."""
    return with_inputs({**workflow, **extra}, "SamplerCustom", sigmas=sigmas, sampler=sampler)
