"""The task of a fine-tuning: source, data, folder and settings, and the models and plans that all its parts need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.models import load
from sigmatune.plan import Plan, load_plan
from sigmatune.plan.file import dumps
from sigmatune.support.files import write_text
from sigmatune.support.progress import Progress
from sigmatune.training.data import Pictures
from sigmatune.training.run_log import Report
from sigmatune.tuning import Workbench, tune_on
from sigmatune.tuning.measure_choice import MeasureChoice
from sigmatune.workflows.finetune_settings import KEEP, FinetuneSettings
from sigmatune.workflows.judge import ReferenceData


@dataclass(frozen=True)
class FinetuneJob:
    """A fine-tuning, but for the plan that it starts from.

    Attributes:
        source: The model: a bundled name, a folder, a hub id. Its files are only read.
        images: The training images.
        folder: The folder of all results: ``round-1/``, ..., and at the end ``model/``, ``plan.json``,
            ``evidence.json``. A stopped run resumes.
        data: The data to compare images with.
        settings: Rounds, images, rate and so on.
        labels: A conditional model's classes, of which row i takes entry i; all classes by default.
        device: "auto", or "cpu" to force the CPU.
        progress: Receives the current action.
        log: Sees every line of the training's log.
    """

    source: str | Path
    images: Pictures
    folder: Path
    data: ReferenceData
    settings: FinetuneSettings = field(default_factory=FinetuneSettings)
    labels: Sequence[str] | None = None
    device: str = "auto"
    progress: Progress | None = None
    log: Callable[[Report], None] | None = None

    def conditioned(self, folder: Path) -> Denoiser:
        """The model for sampling; a conditional model cycles through its classes."""
        model: Any = self._loaded(folder)
        classes = self.labels or getattr(model, "classes", ())
        return model.given(list(classes)) if classes else model  # type: ignore[no-any-return]

    def teacher(self) -> Denoiser:
        """The old model, whose callers set its classes."""
        return self._loaded(self.source)

    def _loaded(self, source: str | Path) -> Denoiser:
        device = None if self.device == "cpu" else self.device
        return load(str(source), dtype=getattr(torch, self.settings.dtype), device=device)

    def tuned(self, model: Denoiser, calls: int, solver: str, store: Path, *, like: Plan | None = None) -> Plan:
        """The tuner's plan, by the measure that was asked for, or else by that of an earlier plan."""
        asked: dict[str, Any] = {"name": self.settings.measure, "options": self.settings.measure_options}
        known = MeasureChoice.of_plan(like, model.shape) if like is not None and asked["name"] is None else None
        chosen = asked if known is None else known.to_dict()
        bench = Workbench(
            model, self.settings.noises, store=store, progress=self.progress, measure=chosen["name"],
            measure_options=chosen["options"], engine=self.data.engine,
        )  # fmt: skip
        method = "auto" if self.settings.method == KEEP else self.settings.method
        return tune_on(bench, calls, solver=solver, method=method, budget=self.settings.budget)

    def kept(self, name: str, build: Callable[[], Plan]) -> Plan:
        """Reads a plan from a file, or builds and writes it."""
        file = self.folder / name
        if not file.is_file():
            write_text(file, dumps(build()))
        return load_plan(file)


def paid(file: Path) -> int:
    """The network evaluations of the tuning behind a plan file; 0 without tuning."""
    cost: Any = load_plan(file).cost if file.is_file() else None
    return int(cost["network_evaluations"]["total"]) if cost else 0
