"""The features of a set of images, in memory or in the files of a run folder."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sigmatune.evaluation.extractors.base import Features
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.reading import unsealed


@dataclass(frozen=True, eq=False)
class Sample:
    """The features of n images.

    Attributes:
        n: How many.
        origin: Their source, JSON-ready; stated with every figure.
        shape: Of one image, (C, H, W).
    """

    n: int
    origin: dict[str, Any]
    shape: tuple[int, ...]
    _parts: dict[str, list[Path | dict[str, Features]]] = field(repr=False)

    def rows(self, extractor: str, space: str) -> Features:
        """The features in one space of one extractor, (n, d)."""
        return np.concatenate([_loaded(part, space) for part in self._parts[extractor]])


def _loaded(part: Path | dict[str, Features], space: str) -> Features:
    if isinstance(part, dict):
        return part[space]
    data = unsealed(part)
    if data is None:
        raise SigmaTuneError(f"{part} changed while it was in use; run the same command again.")
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return np.asarray(stored[space])
