"""AUTOMATIC1111's web UI and Forge: an extension script that adds the plan to their list of schedulers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sigmatune.interop.exports.target import Samplers, listed, numbers_in
from sigmatune.support.errors import SigmaTuneError

SAMPLERS = Samplers(
    {
        "euler": "Euler",
        "heun": "Heun",
        "dpmpp2m": "DPM++ 2M",
        "ancestral": "Euler a",
        "sde-dpmpp2m": "DPM++ 2M SDE",
    }
)

SCRIPT = '''# {header}
"""Put this file into extensions/sigmatune/scripts/ and restart; sampler {sampler}, schedule type {label!r}, {steps} steps.

The levels are sigmas of the {kind} kind, shift: {shift}, final 0 included; they make {calls} network calls.
"""

import torch
from modules import sd_schedulers

SIGMAS = [{sigmas}]


def sigmatune(n, sigma_min=None, sigma_max=None, inner_model=None, device="cpu"):
    if n != len(SIGMAS) - 1:
        raise ValueError(f"this plan has {{len(SIGMAS) - 1}} steps, not {{n}}; set the sampling steps to that.")
    return torch.tensor(SIGMAS, device=device)


LABEL = {label!r}
known = [s for s in sd_schedulers.schedulers if s.name != "sigmatune"]
known.append(sd_schedulers.Scheduler("sigmatune", LABEL, sigmatune, need_inner_model=True))
sd_schedulers.schedulers[:] = known
sd_schedulers.schedulers_map.update({{"sigmatune": known[-1], LABEL: known[-1]}})
'''


def _layout(header: str, stated: dict[str, Any], sigmas: Sequence[float]) -> str:
    label = f"SigmaTune {stated['steps']} steps"
    kind = "x0 + sigma eps" if stated["sigma_kind"] == "ve" else "flow"
    names = {name: stated[name] for name in ("sampler", "steps", "shift", "calls")}
    return SCRIPT.format(header=header, label=label, kind=kind, sigmas=", ".join(map(repr, sigmas)), **names)


def _numbers(text: str) -> list[float]:
    match = re.search(r"^SIGMAS = \[(.*?)\]", text, flags=re.DOTALL | re.MULTILINE)
    if match is None:
        raise SigmaTuneError("this script holds no line SIGMAS = [...].")
    return numbers_in(match[1])


TARGET = listed("a1111", SAMPLERS, _layout, _numbers, "an extension script for AUTOMATIC1111's web UI and Forge")
