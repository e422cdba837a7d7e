"""The models that the page holds in memory, each with its queue and what was measured on it for every visitor."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.models import load
from sigmatune.models.load_pipeline import MissingCondition
from sigmatune.models.pipeline import PipelineDenoiser
from sigmatune.models.source import fetch
from sigmatune.noise import Array
from sigmatune.plan import Plan, sample
from sigmatune.plan.reference import reference_plan
from sigmatune.report.inline_images import drawable
from sigmatune.spectra import rapsd
from sigmatune.studio.turns import TaskTurn, Turns
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.own_spectrum import own_modes

MOST_MODELS, MOST_SETS = 3, 6
"""Models in memory, and sets of end points of each; the least recently used leave first."""

REFERENCE_STEPS = 48
"""Steps of the converged solution, as in the first reference of a tuning of high effort."""


@dataclass(eq=False)
class HeldModel:
    """A model in memory.

    Attributes:
        source: What it was loaded from.
        model: The denoiser.
        turns: Its queue.
    """

    source: str
    model: Denoiser
    turns: Turns
    _sets: OrderedDict[tuple[Any, ...], torch.Tensor] = field(default_factory=OrderedDict)
    _spectrum: Array | None = None

    def ends(self, plan: Plan, seed: int, noises: int, turn: TaskTurn, what: str) -> torch.Tensor:
        """The end points of a plan on the noises 0 to ``noises`` - 1 of a seed, (noises, *shape), on the CPU."""
        key = (plan.coefficients.digits(), seed, noises)
        if key not in self._sets:
            x = sample(
                self.model, plan, noises, seed=seed, micro_batch=noises, progress=lambda *done: turn.report(what, *done)
            )
            self._sets[key] = x.cpu()
            while len(self._sets) > MOST_SETS:
                self._sets.popitem(last=False)
        self._sets.move_to_end(key)
        return self._sets[key]

    def converged(self, seed: int, noises: int, turn: TaskTurn) -> torch.Tensor:
        """The end points of the model's own equation, solved in :data:`REFERENCE_STEPS` steps."""
        return self.ends(reference_plan(self.model, REFERENCE_STEPS), seed, noises, turn, "converged solution")

    def spectrum(self) -> Array | None:
        """The power of the data per ring of spatial frequency, (K,), the first the mean colour's, if it is known.

        It is that of the training images where it lies beside the weights, else that of the last converged images.
        """
        if self._spectrum is None and is_image(self.model):
            try:
                self._spectrum = own_modes(self.source).power
            except SigmaTuneError:
                return self._of_samples()
        return self._spectrum

    def _of_samples(self) -> Array | None:
        plan = reference_plan(self.model, REFERENCE_STEPS).coefficients.digits()
        sets = [x for (digits, *_), x in self._sets.items() if digits == plan]
        if not sets:
            return None
        return np.asarray(rapsd(sets[-1].double()).mean(dim=0).numpy())


def is_image(model: Denoiser) -> bool:
    """Whether samples lie on a grid (C, H, W) of more than one pixel a side."""
    return len(model.shape) == 3 and min(model.shape[1:]) > 1


def shows(model: Denoiser) -> bool:
    """Whether decoded samples can be shown as images."""
    return drawable(tuple(model.pixel_shape))


class HeldModels:
    """Loads models on request and holds the latest ones."""

    def __init__(self, device: str = "auto") -> None:
        self.device = device
        self._held: OrderedDict[str, HeldModel] = OrderedDict()
        self._turns: dict[str, Turns] = {}
        self._lock = threading.Lock()
        self._building = threading.Lock()
        """One model is built at a time: diffusers and transformers change torch's modules meanwhile, for all threads."""

    def get(self, source: str, condition: Mapping[str, Any]) -> HeldModel:
        """The model of a source under a condition.

        Raises:
            SigmaTuneError: if it cannot be loaded, or takes no such condition.
        """
        key = json.dumps([source, condition], sort_keys=True)
        held = self._known(key)
        if held is None:
            fetch(source)  # which may take long and delays no other model
            with self._building:
                held = self._known(key) or self._built(key, source, condition)
        return held

    def _known(self, key: str) -> HeldModel | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def _built(self, key: str, source: str, condition: Mapping[str, Any]) -> HeldModel:
        with self._lock:
            turns = self._turns.setdefault(source, Turns())
        held = HeldModel(source, self._with(source, condition, turns), turns)
        with self._lock:
            self._held[key] = held
            while len(self._held) > MOST_MODELS:
                self._held.popitem(last=False)
        return held

    def _with(self, source: str, condition: Mapping[str, Any], turns: Turns) -> Denoiser:
        """Loads a model, or gives the pipeline that is in memory another condition, on its turn because that runs its parts."""
        with self._lock:
            others = [held.model for held in self._held.values() if held.source == source]
        other = next((model for model in others if isinstance(model, PipelineDenoiser)), None)
        if other is None or other.origin is None:
            return self._load(source, condition)
        with turns.turn():
            model = self._load(other.pipe, condition, name=source)
        model.origin = replace(other.origin, options={"device": self.device, **condition})
        return model

    def _load(self, source: Any, condition: Mapping[str, Any], name: str = "") -> Denoiser:
        where: dict[str, Any] = {} if name else {"device": self.device}
        name = name or source
        try:
            return load(source, **where, **condition)
        except MissingCondition as missing:
            kind, such = missing.kind, "a red fox" if missing.kind == "prompts" else "0 1 2 3"
            raise SigmaTuneError(
                f"{name} draws what you ask for: open 'Class, prompt and guidance' and fill in {kind}, such as {such}."
            ) from None
        except TypeError:
            if not condition:
                raise
            names = ", ".join(key.replace("_", " ") for key in condition)
            raise SigmaTuneError(f"{name} is an unconditional model; leave {names} empty.") from None
