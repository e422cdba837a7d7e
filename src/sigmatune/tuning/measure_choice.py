"""The measure of a workbench: chosen before anything is measured, fitted once, to the tuning noises' converged end points."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sigmatune import measures
from sigmatune.core.denoiser import Denoiser
from sigmatune.measures import MEASURES, Fitted, default_measure
from sigmatune.plan import Plan
from sigmatune.support.errors import SigmaTuneError

SMALLEST = 1e-15
"""End points of no larger numbers count as 0: their powers, and the shares of these, leave float32."""


@dataclass(frozen=True)
class MeasureRequest:
    """A measure as a caller asks for it, unchecked.

    Attributes:
        name: A name in :data:`sigmatune.measures.MEASURES`; None for the default of the samples' shape.
        options: Some of its options; None for its defaults.
    """

    name: str | None = None
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class MeasureChoice:
    """A measure by name, with all its options.

    Attributes:
        name: A name in :data:`sigmatune.measures.MEASURES`.
        options: All options of that measure.
    """

    name: str
    options: Mapping[str, Any]

    @classmethod
    def of(cls, shape: tuple[int, ...], name: str | None, options: Mapping[str, Any] | None) -> MeasureChoice:
        """Checks a choice for samples of a shape; None for the shape's default, and for default options.

        Raises:
            SigmaTuneError: for an unknown measure, samples that it does not suit, or options that it does not take.
        """
        measure = MEASURES[default_measure(shape) if name is None else name]
        if (why := measure.suits(tuple(shape))) is not None:
            raise SigmaTuneError(why)
        return cls(measure.name, measure.complete(options or {}))

    @classmethod
    def of_plan(cls, plan: Plan, shape: tuple[int, ...]) -> MeasureChoice | None:
        """The measure that a plan says it was tuned with, for samples of a shape; None if it says none.

        Raises:
            SigmaTuneError: if what it says is no measure.
        """
        stated = (plan.tuned_for or {}).get("measure")
        if stated is None:
            return None
        name, options = (stated.get("name"), stated.get("options")) if isinstance(stated, Mapping) else (None, None)
        if not isinstance(name, str) or not isinstance(options, Mapping):
            raise SigmaTuneError("the plan's tuned_for.measure is no name with options; tune the plan again.")
        return cls.of(shape, name, options)

    @property
    def linear(self) -> bool:
        """Whether its map is linear."""
        return MEASURES[self.name].linear

    def __str__(self) -> str:
        return ":".join([self.name, *(f"{name}={value}" for name, value in self.options.items())])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as a plan's ``tuned_for`` has it."""
        return {"name": self.name, "options": dict(self.options)}

    def fitted(self, exact: torch.Tensor, model: Denoiser) -> np.ndarray[Any, Any]:
        """The measure, fitted to converged end points, as the bytes of its JSON: what a store keeps.

        A measure that comes from the store has the same bits on every processor, as the end points there have.
        """
        fitted = measures.fit(self.name, measurable(exact), model, **self.options)
        return np.frombuffer(json.dumps(fitted.to_dict()).encode(), dtype=np.uint8)


def measurable(exact: torch.Tensor) -> torch.Tensor:
    """End points that a measure can be fitted to: these, or ones where they are 0, or so small that their squares would be.

    All plans of a model that always ends at 0 are exact, and any unit of their errors says so.
    """
    return exact if float(exact.abs().max()) > SMALLEST else torch.ones_like(exact)


def opened(kept: np.ndarray[Any, Any], model: Denoiser) -> Fitted:
    """The measure that :meth:`MeasureChoice.fitted` made, for a model's samples."""
    return measures.from_dict(json.loads(kept.tobytes())).bound(model)


def of_evidence(evidence: Mapping[str, Any] | None, model: Denoiser) -> Fitted | None:
    """The measure that a plan was tuned and guarded with; None for plans from before there were measures, which is rms.

    Args:
        evidence: The plan's.
        model: The model whose samples it measures.

    Raises:
        SigmaTuneError: if the plan's measure is none, or is one of samples of another shape.
    """
    stated = (evidence or {}).get("measure")
    if stated is None:
        return None
    fitted = measures.from_dict(stated)
    if fitted.shape != tuple(model.shape):
        raise SigmaTuneError(
            f"the plan's measure is of samples {fitted.shape}, and the model's are {tuple(model.shape)}; tune the plan again."
        )
    return fitted.bound(model)


def precision(model: Denoiser) -> float:
    r"""The error that rounding alone can make, as a share of the samples' root mean square.

    .. math:: \max(512 \, \epsilon_{states}, \; \epsilon_{network})

    With D(x) = x every plan is exact and every error is rounding, which solvers of high order make larger, because they weigh
    old outputs with large numbers of both signs; it stays below this. A half-precision network rounds its output to its own
    :math:`\epsilon`. For half-precision states, which none of our loaders creates, 512 :math:`\epsilon` would exceed every
    plan's error; they get 8.
    """
    states = torch.finfo(model.dtype)
    return float(
        max(states.eps * (512 if states.bits > 16 else 8), torch.finfo(model.network_dtype or model.dtype).eps)
    )
