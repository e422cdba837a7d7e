"""The card of a plan on the hub: its purpose, what was measured, and how to run it, all from the plan's file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from sigmatune.core.schedule import Schedule, drawing_of, levels_of
from sigmatune.plan.document import PlanFile
from sigmatune.support import card

SHOWN = ("verdict", "baseline", "error_ratio", "set_ratio", "n", "measure")
"""Fields of the evidence that the card shows first; all of them are in the file."""


def card_of(plan: PlanFile, schedule: Schedule, repository: str, model: str = "") -> str:
    """The text of ``README.md``: metadata for the hub, facts, evidence and code.

    Args:
        plan: The fields of the plan's file.
        schedule: Its levels.
        repository: ``owner/name``.
        model: The hub id of its model, if it has one; the card then appears there.
    """
    from huggingface_hub import ModelCardData  # only here: it takes long to import

    data = ModelCardData(
        library_name="sigmatune", tags=["sigmatune", "diffusion", "sampling"], base_model=model or None
    )
    facts = {
        "steps": plan.steps,
        "network calls": plan.calls,
        "solver": plan.solver,
        "sigma": levels_of(schedule),
        "noise path": json.dumps(plan.noise_path) if plan.noise_path is not None else "not stated",
        "made for": plan.model or "not stated",
        **{f"tuned for: {name}": value for name, value in (plan.tuned_for or {}).items() if _short(value)},
    }
    return "\n".join(
        [
            "---", data.to_yaml(), "---", "",
            f"# {repository.partition('/')[2]}", "",
            f"A sampling plan of {card.count(plan.calls, 'network call')} for a diffusion model, made with SigmaTune.", "",
            "![the noise levels of the plan](levels.svg)", "",
            *_table(facts), "",
            "## Evidence", "", *_evidence(plan.evidence), "",
            "## Use", "",
            "```python", "import sigmatune as st", "", f'plan = st.load_plan("{repository}")',
            "pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)  # a diffusers pipeline of that model",
            f"pipe(..., num_inference_steps={plan.calls})", "```", "",
        ]
    )  # fmt: skip


def drawing(schedule: Schedule) -> str:
    """The levels as an SVG file."""
    text = drawing_of(schedule)
    namespace = 'xmlns="http://www.w3.org/2000/svg"'
    return text if namespace in text else text.replace("<svg", f"<svg {namespace}", 1)


def _evidence(evidence: Mapping[str, Any] | None) -> list[str]:
    """The guard's verdict and its numbers."""
    if not evidence:
        return ["None: this plan was not tuned, or its evidence was removed."]
    first = {name: evidence[name] for name in SHOWN if name in evidence}
    rest = {name: value for name, value in evidence.items() if name not in first}
    facts = {**first, **rest}
    return _table({name: value for name, value in facts.items() if _short(value)})


def _short(value: Any) -> bool:
    return value is not None and len(json.dumps(value, default=str)) <= card.LONGEST


def _table(facts: Mapping[str, Any]) -> list[str]:
    rows = [f"| {_plain(name)} | {_plain(value)} |" for name, value in facts.items()]
    return ["| | |", "|---|---|", *rows]


def _plain(value: Any) -> str:
    """A value as one line of Markdown that stays text: no markup of a file takes effect."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"([\\`*_{}\[\]<>|#!])", r"\\\1", " ".join(text.split()))
