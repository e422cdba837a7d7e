r"""ComfyUI without a node pack: the numbers for its ManualSigmas node.

The node takes every number that it finds in its field, in comments, too, and reads no exponents: it collects what matches
``[-+]?(?:\d*\.*\d+)``. So the text is one line of plain decimals, and what to select beside it is a remark. Texts of
releases up to 0.1, whose first line states the plan, are still read.

ComfyUI rounds t to whole timesteps on models of a table of steps, so levels are moved there first.
"""

from __future__ import annotations

from functools import partial

from sigmatune.interop.exports.target import (
    ExportTarget,
    Samplers,
    Timesteps,
    decimals,
    levels_shown,
    numbers_in,
    on_timesteps,
    read_listed,
    remark_on,
    statement,
)
from sigmatune.plan import Plan
from sigmatune.plan.purpose import guidance_of

NAME = "comfyui"

SAMPLERS = Samplers(
    {
        "euler": "euler",
        "heun": "heun",
        "dpmpp2m": "dpmpp_2m",
        "ancestral": "euler_ancestral",
        "sde-dpmpp2m": "dpmpp_2m_sde",
        "sde-dpmpp3m": "dpmpp_3m_sde",
        "res-multistep": "res_multistep",
        "res-multistep-ancestral": "res_multistep_ancestral",
        "er-sde": "er_sde",
        "gradient-estimation": "gradient_estimation",
        "ipndm4": "ipndm",
        "unipc-bh1": "uni_pc",
        "unipc-bh2": "uni_pc_bh2",
        "lcm": "lcm",
    },
    # On a flow, dpmpp_2m steps in -log tau, and dpmpp_2m_sde in half the log SNR, as our solvers do.
    flow={
        "euler": "euler",
        "dpmpp2m": "SamplerDPMPP_2M_SDE with midpoint and eta 0",
        "sde-dpmpp2m": "dpmpp_2m_sde",
        "sde-dpmpp3m": "dpmpp_3m_sde",
        "er-sde": "er_sde",
        "seeds2": "seeds_2",
        "seeds3": "seeds_3",
        "lcm": "lcm",
    },
    options={"er-sde": {"points": 200}},
)
"""Samplers that also ask between the levels are left out where ComfyUI would round these levels to whole timesteps, too."""


def write(plan: Plan, *, timesteps: Timesteps = "whole") -> str:
    """Writes the line of numbers, with the final 0.

    Args:
        plan: A plan of a solver that ComfyUI has.
        timesteps: "whole" moves the levels of a table of steps to whole timesteps, as ComfyUI would; "exact" leaves them,
            for models behind the node that turns its rounding off.

    Raises:
        SigmaTuneError: if ComfyUI's samplers cannot run the plan.
    """
    schedule, _ = on_timesteps(plan, timesteps)
    return ", ".join(decimals(levels_shown(schedule, statement(plan, NAME, SAMPLERS)))) + "\n"


def remark(plan: Plan, *, timesteps: Timesteps = "whole") -> str:
    """What to select beside the numbers, and what was moved."""
    stated = statement(plan, NAME, SAMPLERS)
    shift = "" if stated["shift"] == "none" else f"; the shift is {stated['shift']}, leave out nodes that shift again"
    chosen = f"paste the line into ManualSigmas; sampler {stated['sampler']}, {stated['calls']} calls{shift}"
    node = stated["sampler"].partition(" ")[0] if stated["sampler"].startswith("Sampler") else "KSamplerSelect"
    wires = f"in SamplerCustom, ManualSigmas goes to sigmas and {node} to sampler{_cfg(plan)}"
    said = (chosen, wires, remark_on(on_timesteps(plan, timesteps)[1]), _pixels(plan))
    return "; ".join(text for text in said if text)


def _cfg(plan: Plan) -> str:
    """The guidance that a tuned plan needs; "" for a plan that was not tuned."""
    if plan.tuned_for is None or "guidance" not in plan.tuned_for:
        return ""
    scale, low, high = guidance_of(plan.tuned_for) or (1.0, 0.0, float("inf"))
    where = f" for sigma above {low:g} and up to {high:g}, else 1" if (low, high) != (0.0, float("inf")) else ""
    return f", cfg {scale:g}{where}, as tuned"


def _pixels(plan: Plan) -> str:
    """A word about samples that no latents of ComfyUI's are: those with the channels of pixels, and those that are no image."""
    shape = (plan.tuned_for or {}).get("shape")
    if isinstance(shape, list) and len(shape) < 3:
        return (
            f"the plan is for samples of shape {' x '.join(map(str, shape))}, and ComfyUI draws images, video and sound"
        )
    if not isinstance(shape, list) or len(shape) != 3 or shape[0] not in (1, 3):
        return ""
    return f"the plan is for pixels, {' x '.join(map(str, shape))}, and ComfyUI's loaders are for models of latents"


def _old_numbers(text: str) -> list[float]:
    return numbers_in(" ".join(line for line in text.splitlines() if not line.startswith("#")))


TARGET = ExportTarget(
    NAME,
    write,
    partial(read_listed, NAME, partial(write, timesteps="exact"), _old_numbers),
    "one line of numbers for the ManualSigmas node, with the final 0",
    remark,
)
