"""SigmaTune makes diffusion models good in few steps.

::

    import sigmatune as st

    model = st.load("cifar10")
    plan = st.tune(model, calls=8, solver="dpmpp2m")
    images = st.sample(model, plan, n=64, seed=0)

Names are imported when they are first used, so that ``import sigmatune`` and ``sigmatune --help`` stay fast.
"""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigmatune.support.lazy_module import announce
from sigmatune.support.moved import forward_modules

__version__ = "0.1.0"

forward_modules()
# Diffusers loads a saved pipeline's scheduler from this module only if it is in sys.modules.
announce("sigmatune.interop.diffusers", Path(__file__).parent / "interop" / "diffusers.py")
logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless a program adds a handler

_HOME = {
    "load": "sigmatune.models",
    "build_schedule": "sigmatune.schedules:build",
    "compile_plan": "sigmatune.plan",
    "load_plan": "sigmatune.plan",
    "load_rule": "sigmatune.rules",
    "partial": "sigmatune.plan",
    "interop": "sigmatune.interop:",
    "sample": "sigmatune.plan",
    "train": "sigmatune.training",
    "tune": "sigmatune.tuning",
    "Denoiser": "sigmatune.core.denoiser",
    "Guided": "sigmatune.core.guidance",
    "Schedule": "sigmatune.core.schedule",
    "Plan": "sigmatune.plan",
    "Recipe": "sigmatune.training",
    "SpectralRule": "sigmatune.rules",
    "PlanMismatch": "sigmatune.support.errors",
    "SigmaTuneError": "sigmatune.support.errors",
}

if TYPE_CHECKING:
    from sigmatune import interop as interop
    from sigmatune.core.denoiser import Denoiser as Denoiser
    from sigmatune.core.guidance import Guided as Guided
    from sigmatune.core.schedule import Schedule as Schedule
    from sigmatune.models import load as load
    from sigmatune.plan import Plan as Plan
    from sigmatune.plan import compile_plan as compile_plan
    from sigmatune.plan import load_plan as load_plan
    from sigmatune.plan import partial as partial
    from sigmatune.plan import sample as sample
    from sigmatune.rules import SpectralRule as SpectralRule
    from sigmatune.rules import load_rule as load_rule
    from sigmatune.schedules import build as build_schedule
    from sigmatune.support.errors import PlanMismatch as PlanMismatch
    from sigmatune.support.errors import SigmaTuneError as SigmaTuneError
    from sigmatune.training import Recipe as Recipe
    from sigmatune.training import train as train
    from sigmatune.tuning import tune as tune


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sigmatune' has no attribute {name!r}")
    module, colon, attribute = _HOME[name].partition(":")
    home = import_module(module)
    return home if colon and not attribute else getattr(home, attribute or name)


def __dir__() -> list[str]:
    return [*_HOME, "__version__"]


__all__ = [
    "Denoiser",
    "Guided",
    "Plan",
    "PlanMismatch",
    "Recipe",
    "Schedule",
    "SigmaTuneError",
    "SpectralRule",
    "build_schedule",
    "compile_plan",
    "load",
    "load_plan",
    "load_rule",
    "partial",
    "sample",
    "train",
    "tune",
]
