"""ComfyUI without a node pack: the text for its ManualSigmas node, and the sampler to select."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sigmatune.interop.exports.target import Samplers, listed, numbers_in

SAMPLERS = Samplers(
    {
        "euler": "euler",
        "heun": "heun",
        "dpmpp2m": "dpmpp_2m",
        "ancestral": "euler_ancestral",
        "sde-dpmpp2m": "dpmpp_2m_sde",
    }
)


def _layout(header: str, stated: dict[str, Any], sigmas: Sequence[float]) -> str:
    return (
        f"# {header}\n# ManualSigmas -> SamplerCustom, sampler {stated['sampler']}, {stated['calls']} calls; shift: "
        f"{stated['shift']} (leave out ModelSampling nodes that would shift again)\n{', '.join(map(repr, sigmas))}\n"
    )


def _numbers(text: str) -> list[float]:
    return numbers_in(" ".join(line for line in text.splitlines() if not line.startswith("#")))


TARGET = listed("comfyui", SAMPLERS, _layout, _numbers, "text for the ManualSigmas node, with the final 0")
