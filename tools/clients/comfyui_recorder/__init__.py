# ComfyUI calls these methods with whatever a workflow connects.
# ruff: noqa: ANN001, ANN201, ANN202, ANN206
"""Nodes for checks inside ComfyUI: conditioning of zeros, so that no text encoder is needed, and a record of every call.

``tools/clients/comfyui.py`` puts this folder beside the pack. A record is a line of JSON per network call: the t that the
network receives, and the sampler's sigma.
"""

import json
from pathlib import Path

import torch


class Zeros:
    """Conditioning that holds zeros."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "make", "sigmatune/checks"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "tokens": ("INT", {"default": 8, "min": 1}),
                "width": ("INT", {"default": 768, "min": 1}),
                "pooled": ("INT", {"default": 768, "min": 1}),
            }
        }

    def make(self, tokens, width, pooled):
        return ([[torch.zeros(1, tokens, width), {"pooled_output": torch.zeros(1, pooled)}]],)


class Record:
    """The model, which writes (t, sigma) of every network call into a file."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "wrap", "sigmatune/checks"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "file": ("STRING", {"default": ""})}}

    def wrap(self, model, file):
        model = model.clone()
        network = model.model.diffusion_model

        def recorded(apply_model, args):
            def seen(_, inputs):
                row = {"t": float(inputs[1].reshape(-1)[0]), "sigma": float(args["timestep"].reshape(-1)[0])}
                with Path(file).open("a", encoding="utf-8") as out:
                    out.write(json.dumps(row) + "\n")

            hook = network.register_forward_pre_hook(seen)
            try:
                return apply_model(args["input"], args["timestep"], **args["c"])
            finally:
                hook.remove()

        model.set_model_unet_function_wrapper(recorded)
        return (model,)


NODE_CLASS_MAPPINGS = {"SigmaTuneCheckZeros": Zeros, "SigmaTuneCheckRecord": Record}
