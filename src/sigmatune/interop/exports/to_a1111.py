"""AUTOMATIC1111's web UI and Forge: an extension script that adds the plan to their list of schedulers.

Forge rounds t to whole timesteps, so the levels are moved there first; the web UI interpolates, and gives the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import partial

from sigmatune.interop.exports.target import (
    HEADER,
    ExportTarget,
    Samplers,
    Timesteps,
    levels_shown,
    numbers_in,
    on_timesteps,
    read_listed,
    read_statement,
    remark_on,
    statement,
)
from sigmatune.plan import Plan
from sigmatune.support.errors import SigmaTuneError

NAME = "a1111"

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


NAME, LABEL = {name!r}, {label!r}
known = [s for s in sd_schedulers.schedulers if s.name != NAME]
known.append(sd_schedulers.Scheduler(NAME, LABEL, sigmatune, need_inner_model=True))
sd_schedulers.schedulers[:] = known
sd_schedulers.schedulers_map.update({{NAME: known[-1], LABEL: known[-1]}})
'''


def write(plan: Plan, *, timesteps: Timesteps = "whole") -> str:
    """Writes the script. Its scheduler has a name of the plan's own, so that several plans stand in the menu.

    Args:
        plan: A plan of a solver that these programs have.
        timesteps: "whole" moves the levels of a table of steps to whole timesteps, as Forge would; "exact" leaves them.

    Raises:
        SigmaTuneError: if their samplers cannot run the plan.
    """
    schedule, _ = on_timesteps(plan, timesteps)
    stated = {**statement(plan, NAME, SAMPLERS), "timesteps": timesteps}
    levels = ", ".join(map(repr, levels_shown(schedule, stated)))
    digest = hashlib.sha256(f"{stated['sampler']} {levels}".encode()).hexdigest()[:6]
    return SCRIPT.format(
        header=HEADER + json.dumps(stated),
        name=f"sigmatune_{digest}",
        label=f"SigmaTune {stated['steps']} steps {digest}",
        kind="x0 + sigma eps" if stated["sigma_kind"] == "ve" else "flow",
        sigmas=levels,
        **{name: stated[name] for name in ("sampler", "steps", "shift", "calls")},
    )


def remark(plan: Plan, *, timesteps: Timesteps = "whole") -> str:
    """What was moved."""
    return remark_on(on_timesteps(plan, timesteps)[1])


def read(text: str) -> Plan:
    """Reads the plan; scripts of releases up to 0.1 hold the plan's own levels."""
    timesteps = read_statement(text).get("timesteps", "exact")
    return read_listed(NAME, partial(write, timesteps=timesteps), _numbers, text)


def _numbers(text: str) -> list[float]:
    match = re.search(r"^SIGMAS = \[(.*?)\]", text, flags=re.DOTALL | re.MULTILINE)
    if match is None:
        raise SigmaTuneError("this script holds no line SIGMAS = [...].")
    return numbers_in(match[1])


TARGET = ExportTarget(NAME, write, read, "an extension script for AUTOMATIC1111's web UI and Forge", remark)
