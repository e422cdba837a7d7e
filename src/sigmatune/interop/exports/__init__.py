"""Exports: a plan as text for another program, with its meaning stated, and back. One file per target."""

from __future__ import annotations

from typing import Any

from sigmatune.interop.exports import to_a1111 as a1111
from sigmatune.interop.exports import to_comfyui as comfyui
from sigmatune.interop.exports import to_diffusers as diffusers
from sigmatune.interop.exports import to_files as files
from sigmatune.interop.exports import to_k_diffusion as k_diffusion
from sigmatune.interop.exports import to_sd_cpp as sd_cpp
from sigmatune.interop.exports.target import HEADER, ExportTarget, read_statement
from sigmatune.plan import Plan
from sigmatune.support.registry import Registry

_ALL = (
    files.TARGET,
    diffusers.TARGET,
    diffusers.STOCK,
    k_diffusion.TARGET,
    comfyui.TARGET,
    a1111.TARGET,
    sd_cpp.TARGET,
)

TARGETS: Registry[ExportTarget] = Registry(
    "export target",
    {target.name: target for target in _ALL},
    aliases={"forge": "a1111", "stable-diffusion.cpp": "sd.cpp", "plan": "json"},
)


def export(plan: Plan, target: str, **options: Any) -> str:
    """Writes a plan in a target's format.

    Args:
        plan: The plan.
        target: A name in ``TARGETS``.
        options: The target's own options.

    Raises:
        SigmaTuneError: if the target cannot express the plan; one sentence says why.
    """
    return TARGETS[target].write(plan, **options)


def remark(plan: Plan, target: str, **options: Any) -> str:
    """What a user has to know beside the text of :func:`export`: a sampler to select, levels that moved; or nothing.

    Args:
        plan: The plan.
        target: A name in ``TARGETS``.
        options: The target's own options.
    """
    return TARGETS[target].remark(plan, **options)


def load(text: str, target: str | None = None) -> Plan:
    """Reads what :func:`export` wrote; the levels are those of the plan, bit for bit.

    Args:
        text: The text.
        target: Its target; detected when absent.

    Raises:
        SigmaTuneError: if it is not an export, or was edited so that it contradicts itself.
    """
    return TARGETS[target or _found(text)].read(text)


def _found(text: str) -> str:
    if not text.lstrip().startswith("{"):
        return str(read_statement(text).get("target"))
    if f'"{HEADER.strip()}"' in text:
        return diffusers.STOCK.name
    return "diffusers" if '"SigmaTuneScheduler"' in text else "json"


__all__ = ["TARGETS", "Target", "export", "load", "read_statement", "remark"]
