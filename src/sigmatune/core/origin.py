"""Where a model came from, so that another process can load the same: models travel by this, never as pickled networks.

:func:`sigmatune.load` notes the source and the options, :func:`derived` what was done to the denoiser since. A worker repeats
both and compares fingerprints, so a model whose weights were changed after it was loaded is refused there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sigmatune.core import identity
from sigmatune.support.engine import Held, Recipe
from sigmatune.support.errors import SigmaTuneError

LOADER = "sigmatune.models:load_again"


@dataclass(frozen=True)
class Origin:
    """How a denoiser came to be.

    Attributes:
        source: What :func:`sigmatune.load` took; None for a thing in memory, which no other process has.
        about: What that thing is, for messages.
        options: The options of :func:`sigmatune.load`.
        steps: The methods of the denoiser that were called since, with their arguments.
    """

    source: str | None
    about: str = ""
    options: Mapping[str, Any] | None = None
    steps: tuple[tuple[str, tuple[Any, ...]], ...] = ()


def derived(model: Any, method: str, *arguments: Any) -> Any:
    """Calls a method that returns another denoiser (``split``, ``conditioned``), and notes it in that one's origin."""
    other = getattr(model, method)(*arguments)
    if other is not model and model.origin is not None:
        other.origin = replace(model.origin, steps=(*model.origin.steps, (method, arguments)))
    return other


def device_of(model: Any) -> str:
    """The device on which a model is asked to run, wherever that is: "auto" is the best one of each process."""
    asked = None if model.origin is None else (model.origin.options or {}).get("device")
    return str(model.device if asked is None else asked)


def held(model: Any) -> Held:
    """A model as what the pieces of a job need."""
    return Held(model, lambda: _recipe(model))


def _recipe(model: Any) -> Recipe:
    origin = model.origin or Origin(None, f"a {type(model).__name__}")
    if origin.source is None:
        raise SigmaTuneError(
            f"{origin.about} in memory cannot travel to other processes; load the model by its folder, its hub id, its name, "
            "or a function at the top of a module as 'package.module:function'."
        )
    text = f"{origin.source}|{origin.options}|{[name for name, _ in origin.steps]}|{identity.name(model)}"
    return Recipe(
        hashlib.sha256(text.encode()).hexdigest(), LOADER, (origin, model.fingerprint(), model.conditions()),
        accelerated=device_of(model) != "cpu",
    )  # fmt: skip
