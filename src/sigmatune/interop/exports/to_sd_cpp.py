"""stable-diffusion.cpp: the arguments for its command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sigmatune import solvers
from sigmatune.interop.exports.target import Samplers, decimals, listed, numbers_in
from sigmatune.support.errors import SigmaTuneError

SAMPLERS = Samplers(
    {
        "euler": "euler",
        "heun": "heun",
        "dpmpp2m": "dpm++2m",
        "ancestral": "euler_a",
        "dpmpp2s-ancestral": "dpm++2s_a",
        "sde-dpmpp2m": "dpm++2m_sde",
        "res-multistep": "res_multistep",
        "res-multistep-ancestral": "res_multistep",
        "res2s": "res_2s",
        "er-sde": "er_sde",
        "gradient-estimation": "euler_ge",
        "lcm": "lcm",
    },
    flow={"euler": "euler", "er-sde": "er_sde", "lcm": "lcm"},
    eta=("ancestral", "dpmpp2s-ancestral", "sde-dpmpp2m", "res-multistep-ancestral"),
    options={"er-sde": {"points": 200}},
)


def _layout(header: str, stated: dict[str, Any], sigmas: Sequence[float]) -> str:
    eta = ""
    if stated["solver"] in SAMPLERS.eta:  # always: the program's own depends on the sampler and has changed
        eta = f" --eta {stated['solver_options'].get('eta', solvers.solver(stated['solver']).defaults['eta'])!r}"
    levels = ",".join(decimals(sigmas))
    return f'# {header}\n--sampling-method {stated["sampler"]}{eta} --steps {stated["steps"]} --sigmas "{levels}"\n'


def _numbers(text: str) -> list[float]:
    match = re.search(r'--sigmas "(.*?)"', text)
    if match is None:
        raise SigmaTuneError('these arguments hold no --sigmas "...".')
    return numbers_in(match[1])


TARGET = listed(
    "sd.cpp", SAMPLERS, _layout, _numbers, "arguments --sampling-method, --eta, --steps and --sigmas, with the final 0"
)
