"""stable-diffusion.cpp: the arguments for its command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sigmatune.interop.exports.target import Samplers, decimals, listed, numbers_in
from sigmatune.support.errors import SigmaTuneError

SAMPLERS = Samplers({"euler": "euler", "heun": "heun", "dpmpp2m": "dpm++2m", "ancestral": "euler_a"})


def _layout(header: str, stated: dict[str, Any], sigmas: Sequence[float]) -> str:
    levels = ",".join(decimals(sigmas))
    return f'# {header}\n--sampling-method {stated["sampler"]} --steps {stated["steps"]} --sigmas "{levels}"\n'


def _numbers(text: str) -> list[float]:
    match = re.search(r'--sigmas "(.*?)"', text)
    if match is None:
        raise SigmaTuneError('these arguments hold no --sigmas "...".')
    return numbers_in(match[1])


TARGET = listed(
    "sd.cpp", SAMPLERS, _layout, _numbers, "arguments --sampling-method, --steps and --sigmas, with the final 0"
)
