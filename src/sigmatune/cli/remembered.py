"""Models loaded as a plan remembers them: its prompts or labels, guidance and size, unless the command line says otherwise."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sigmatune.cli.common import load_model
from sigmatune.support.errors import SigmaTuneError

if TYPE_CHECKING:
    from sigmatune.core.denoiser import Denoiser
    from sigmatune.plan import Plan
    from sigmatune.rules import SpectralRule


def load_for(
    plan: Plan | SpectralRule | None, source: str, device: str, given: dict[str, Any] | None = None
) -> Denoiser:
    """Loads the model that is to run a plan.

    Args:
        plan: The plan; a rule remembers nothing.
        source: The model's name.
        device: Where to run it.
        given: The options of the command line, which come first (:func:`sigmatune.cli.common.conditions`).

    Raises:
        SigmaTuneError: if there is no such model, or it does not take the given options.
    """
    from sigmatune.plan import Plan

    given = given or {}
    kept = plan.load_options if isinstance(plan, Plan) else {}
    also = {name: value for name, value in kept.items() if name not in given and not _replaced(name, given)}
    if not also:
        return load_model(source, device, given)
    try:
        model = load_model(source, device, {**also, **given})
    except (SigmaTuneError, TypeError):  # a plan of another kind of model; only what was given counts
        return load_model(source, device, given)
    print(f"as the plan was tuned: {_said(also)}", file=sys.stderr)
    return model


def _replaced(name: str, given: dict[str, Any]) -> bool:
    """Whether an option of the command line takes the place of a remembered one of another name."""
    return name == "label" and "labels" in given


def _said(options: dict[str, Any]) -> str:
    parts = []
    for name, value in options.items():
        several = isinstance(value, list) and len(value) > 1
        parts.append(f"{len(value)} {name}" if several else f"{name.replace('_', ' ')} {value}")
    return ", ".join(parts)
