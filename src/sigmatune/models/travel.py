"""How models travel to other processes: by what they were loaded from, never as pickled networks.

A worker loads the model by its :class:`~sigmatune.core.origin.Origin`, repeats what was done to it since, and compares
fingerprints and conditions, so a model whose weights were changed after it was loaded is refused there.
"""

from __future__ import annotations

import hashlib

from sigmatune.core import identity
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.origin import Origin, derived
from sigmatune.models import load
from sigmatune.support.engine import Held, Loader
from sigmatune.support.errors import SigmaTuneError


def held(model: Denoiser) -> Held:
    """A model as what the pieces of a job need."""
    return Held(model, lambda: _loader(model))


def device_of(model: Denoiser) -> str:
    """The device on which a model is asked to run, wherever that is: "auto" is the best one of each process."""
    asked = None if model.origin is None else (model.origin.options or {}).get("device")
    return str(model.device if asked is None else asked)


def _loader(model: Denoiser) -> Loader:
    origin = model.origin or Origin(None, f"a {type(model).__name__}")
    if origin.source is None:
        raise SigmaTuneError(
            f"{origin.about} in memory cannot travel to other processes; load the model by its folder, its hub id, its name, "
            "or a function at the top of a module as 'package.module:function'."
        )
    text = f"{origin.source}|{origin.options}|{[name for name, _ in origin.steps]}|{identity.name(model)}"
    return Loader(
        hashlib.sha256(text.encode()).hexdigest(), load_again, (origin, model.fingerprint(), model.conditions()),
        accelerated=device_of(model) != "cpu",
    )  # fmt: skip


def load_again(origin: Origin, fingerprint: str, conditions: str) -> Denoiser:
    """The model of an origin in another process.

    Raises:
        SigmaTuneError: if it cannot be loaded there, or is another model there.
    """
    model = load(origin.source, **dict(origin.options or {}))
    for method, arguments in origin.steps:
        model = derived(model, method, *arguments)
    if not model.is_model_of(fingerprint) or model.conditions() != conditions:
        raise SigmaTuneError(
            f"{origin.source} is another model there than here; copy the same files to every machine, or, if its weights were "
            "changed after it was loaded, save it and load the folder."
        )
    return model
