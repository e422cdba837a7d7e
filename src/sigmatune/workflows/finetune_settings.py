"""The settings of a fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sigmatune.core.schedule import whole
from sigmatune.measures import MEASURES
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.recipe import AverageOf, Training
from sigmatune.tuning import TuningSettings as Noises
from sigmatune.tuning.budget import Budget
from sigmatune.tuning.stage_choice import stages_of

KEEP = "keep"
"""The method that keeps the plan."""

TRAINING = Training(images=32_000, batch=64, rate=2e-4, warmup=20, weight_decay=0.0)
NOISES = Noises(tuning=16, validation=24, held_out=32, evaluations=30)


@dataclass(frozen=True)
class FinetuneSettings:
    """The settings of a fine-tuning.

    Attributes:
        rounds: How often to train and then choose the levels again.
        training: Images of one round, batch, rate, precision, seed.
        elsewhere: Share of the images trained off the levels, in [0, 1).
        flip: Mirror images at random.
        average: The average of the weights to keep.
        method: How to choose the plan again: "auto", a tuning stage by name, or "keep".
        budget: The budget of one choice of the plan, as for :func:`sigmatune.tuning.tune`.
        noises: The tuner's noises.
        measure, measure_options: What the tuner minimises, as for :func:`sigmatune.tuning.tune`; None for the measure of the
            plan that was given, or for the default of the model's shape.
        distil: Network calls of the teacher, which is the old model; 0 to learn from the images.
        lora: Rank of the adapters to train instead of the weights; 0 for the weights.
        dtype: Arithmetic of the network for sampling and tuning, "float32" or "bfloat16".
        save: Steps between checkpoints.
    """

    rounds: int = 2
    training: Training = field(default_factory=TRAINING.model_copy)
    elsewhere: float = 0.1
    flip: bool = False
    average: AverageOf = field(default_factory=AverageOf)
    method: str = "auto"
    budget: int | str | None = 20_000
    noises: Noises = NOISES
    measure: str | None = None
    measure_options: Mapping[str, Any] | None = None
    distil: int = 0
    lora: int = 0
    dtype: str = "float32"
    save: int = 50

    def __post_init__(self) -> None:
        if whole(self.rounds, "rounds") < 1:
            raise SigmaTuneError("fine-tuning takes at least one round.")
        for name in ("distil", "lora"):
            if getattr(self, name) != 0:
                whole(getattr(self, name), name)
        if not 0 <= self.elsewhere < 1:
            raise SigmaTuneError(f"the share off the levels must lie in [0, 1), not {self.elsewhere!r}.")
        if self.method != KEEP:
            stages_of(self.method, coefficients=False)
        Budget.of(self.budget)
        if self.measure is not None:
            MEASURES[self.measure].complete(self.measure_options or {})

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return asdict(self) | {
            "training": self.training.model_dump(mode="json"),
            "average": self.average.model_dump(mode="json"),
        }
