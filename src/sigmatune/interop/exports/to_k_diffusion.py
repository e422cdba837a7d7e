"""k-diffusion, and programs that take its lists: a Python line with the tensor, and the sampler to call with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sigmatune.interop.exports.target import Samplers, listed, numbers_in
from sigmatune.support.errors import SigmaTuneError

SAMPLERS = Samplers(
    {
        "euler": "sample_euler",
        "heun": "sample_heun",
        "dpmpp2m": "sample_dpmpp_2m",
        "ancestral": "sample_euler_ancestral",
        "sde-dpmpp2m": "sample_dpmpp_2m_sde",
        "sde-dpmpp3m": "sample_dpmpp_3m_sde",
        "dpmpp-sde": "sample_dpmpp_sde",
        "dpmpp2s-ancestral": "sample_dpmpp_2s_ancestral",
    },
    eta=("ancestral", "sde-dpmpp2m", "sde-dpmpp3m", "dpmpp-sde", "dpmpp2s-ancestral"),
)


def _layout(header: str, stated: dict[str, Any], sigmas: Sequence[float]) -> str:
    kind = "sigma of x0 + sigma eps" if stated["sigma_kind"] == "ve" else "tau of (1 - tau) x0 + tau eps"
    eta = stated["solver_options"].get("eta")
    extra = "" if eta is None else f", eta={eta!r}"
    levels = ", ".join(map(repr, sigmas))
    return (
        f"# {header}\n# {kind}, shift: {stated['shift']}, final 0 included; {stated['steps']} steps, {stated['calls']} calls: "
        f"k_diffusion.sampling.{stated['sampler']}(model, x, sigmas{extra})\nsigmas = torch.tensor([{levels}])\n"
    )


def _numbers(text: str) -> list[float]:
    match = re.search(r"sigmas = torch\.tensor\(\[(.*?)\]\)", text, flags=re.DOTALL)
    if match is None:
        raise SigmaTuneError("this text holds no line sigmas = torch.tensor([...]).")
    return numbers_in(match[1])


TARGET = listed(
    "k-diffusion",
    SAMPLERS,
    _layout,
    _numbers,
    "a torch tensor with the final 0, for k_diffusion.sampling",
)
