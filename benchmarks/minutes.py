"""How long tuning of large models is expected to take on a stated card: ``python benchmarks/minutes.py``.

No such card was at hand, so nothing here is timed. The network evaluations are counted as ``sigmatune tune --dry-run`` does.
The seconds of one on an A100 are published for SDXL: 3.31 s for 30 steps under guidance in bfloat16, text encoders and
autoencoder included, which makes it an upper bound.

References:
    | Accelerating Generative AI Part III: Diffusion, Fast (Paul and von Platen, 2024)
    | https://pytorch.org/blog/accelerating-generative-ai-3/

The seconds of other networks follow from their floating-point operations, which are counted on networks without memory (the
"meta" device) of the published configurations. Writes ``benchmarks/results/minutes.json``.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from guard import HERE, machine
from torch.utils.flop_counter import FlopCounterMode

from sigmatune.models.imagined import Imagined
from sigmatune.noise import Flow, NoisePath, vp
from sigmatune.support.files import write_text
from sigmatune.tuning.budget import Budget
from sigmatune.tuning.effort import EFFORTS
from sigmatune.tuning.estimates import TuningJob

CARD = {
    "name": "NVIDIA A100, 80 GB",
    "arithmetic": "bfloat16",
    "model": "SDXL",
    "seconds": 3.31,
    "steps": 30,
    "source": "https://pytorch.org/blog/accelerating-generative-ai-3/",
}
STEPS, SOLVER = 8, "dpmpp2m"


def sd15() -> float:
    """Floating-point operations of Stable Diffusion 1.5's network at 512 x 512."""
    net = diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    return operations(net, torch.empty(1, 4, 64, 64), torch.empty(1), torch.empty(1, 77, 768))


def sdxl() -> float:
    """The same of SDXL at 1024 x 1024."""
    net = diffusers.UNet2DConditionModel(
        sample_size=128, cross_attention_dim=2048, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
    return operations(
        net, torch.empty(1, 4, 128, 128), torch.empty(1), torch.empty(1, 77, 2048), added_cond_kwargs=added
    )


def flux() -> float:
    """The same of FLUX.1-dev at 1024 x 1024, with 512 tokens of text."""
    net = diffusers.FluxTransformer2DModel(guidance_embeds=True)
    return operations(
        net, torch.empty(1, 4096, 64), encoder_hidden_states=torch.empty(1, 512, 4096),
        pooled_projections=torch.empty(1, 768), timestep=torch.empty(1), img_ids=torch.empty(4096, 3),
        txt_ids=torch.empty(512, 3), guidance=torch.empty(1),
    )  # fmt: skip


def operations(net: torch.nn.Module, *inputs: torch.Tensor, **named: Any) -> float:
    """Counts the floating-point operations of one call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*inputs, **named)
    return float(counter.get_total_flops())


@dataclass(frozen=True)
class Large:
    """A model that is not here: how to count its operations, the shape of its latents, its path, and what a step costs."""

    name: str
    count: Callable[[], float]
    shape: tuple[int, ...]
    path: NoisePath
    per_step: int


MODELS = (
    Large("SD 1.5, 512 x 512", sd15, (4, 64, 64), vp("scaled_linear"), 2),
    Large("SDXL, 1024 x 1024", sdxl, (4, 128, 128), vp("scaled_linear"), 2),
    Large("FLUX.1-dev, 1024 x 1024", flux, (4096, 64), Flow(3.16), 1),
)


def row(model: Large, operations_of_one: float, each: float) -> dict[str, Any]:
    """One model: evaluations and minutes by effort."""
    efforts = {}
    for name in ("low", "normal"):
        effort, calls = EFFORTS[name], STEPS * model.per_step
        job = TuningJob([calls], SOLVER, budget=Budget.of(int(effort.search)))
        imagined = Imagined(model.shape, model.path, per_call=model.per_step)
        estimate = job.estimate(imagined, effort.settings, each)
        efforts[name] = {"evaluations": estimate.total, "minutes": estimate.seconds / 60}
    return {
        "model": model.name, "steps": STEPS, "calls": STEPS * model.per_step, "operations": operations_of_one,
        "seconds_per_evaluation": each, "efforts": efforts,
    }  # fmt: skip


def main() -> None:
    """Counts and writes."""
    with torch.device("meta"):
        counted = {model.name: model.count() for model in MODELS}
    known = next(count for name, count in counted.items() if name.startswith(CARD["model"]))
    one = CARD["seconds"] / (2 * CARD["steps"])
    rows = [row(model, counted[model.name], one * counted[model.name] / known) for model in MODELS]
    for found in rows:
        print(
            found["model"], f"{found['operations'] / 1e12:.2f} TFLOP", found["seconds_per_evaluation"], found["efforts"]
        )
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    result = {"benchmark": "benchmarks/minutes.py", "date": date, "machine": machine(), "card": CARD, "rows": rows}
    write_text(HERE / "results" / "minutes.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
