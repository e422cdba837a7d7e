"""Classes of the exact denoisers: one for all rows, or one for each row by its index in the noise."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser, Guided
from sigmatune.models.analytic import Analytic
from sigmatune.models.pipeline import shares
from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError, unknown_name


@dataclass(frozen=True)
class Told:
    """The class of every row.

    Attributes:
        labels: Numbers of classes, of which row i takes entry i, repeating; None means no class.
        parts: Ranges of rows, each with the range of labels that it draws from, so that tuning uses disjoint labels.
        places: The entry of each row instead, if rows were conditioned separately.
    """

    labels: tuple[int | None, ...]
    parts: tuple[tuple[range, range], ...] = ()
    places: Mapping[int, int] = field(default_factory=dict)

    @property
    def one(self) -> bool:
        """Whether all rows have the same."""
        return len(self.labels) == 1 and not self.places

    def at(self, index: int) -> int | None:
        """The class of a row.

        Raises:
            SigmaTuneError: if it has no class.
        """
        if self.places:
            if index not in self.places:
                raise SigmaTuneError(f"this model has no condition for row {index}.")
            return self.labels[self.places[index]]
        for part, own in self.parts:
            if index in part:
                return self.labels[own[(index - part.start) % len(own)]]
        return self.labels[index % len(self.labels)]


NOTHING = Told((None,))


class Classes(Analytic):
    """An exact denoiser of data with classes; without a class, its data are all classes.

    A subclass sets the attributes and overrides :meth:`estimate`.

    Attributes:
        classes: Names of the classes.
        told: Its classes by row.
        digest: The identity of the data; part of the fingerprint.
    """

    classes: tuple[str, ...]
    told: Told = NOTHING
    digest: str = ""
    _indices: tuple[int, ...] | None = None

    def estimate(self, z: torch.Tensor, sigma: torch.Tensor, labels: Sequence[int | None]) -> torch.Tensor:
        """E[x0 | z, class] of each row; None means no class."""
        raise NotImplementedError

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.estimate(z, sigma, self._of_batch(len(z)))

    def given(self, label: str | Sequence[str] | None = None) -> Self:
        """The denoiser conditioned on a class, or on a list that repeats, of which row i takes entry i.

        Raises:
            SigmaTuneError: for an unknown class.
        """
        names = [label] if label is None or isinstance(label, str) else list(label)
        return self._told(Told(self._numbers(names)))

    def without_class(self) -> Self:
        """The denoiser without a class, whatever the rows' classes are."""
        other = self._told(NOTHING)
        other.classes = ()
        return other

    def guided(self, scale: float, interval: tuple[float, float] = (0.0, float("inf"))) -> Guided:
        """Classifier-free guidance inside an interval of noise levels, see :class:`sigmatune.core.denoiser.Guided`."""
        return Guided(self, self.without_class(), scale, interval)

    def conditioned(self, indices: Sequence[int], labels: Sequence[str | None] | None, ends: Array | None) -> Denoiser:
        if labels is None or not self.classes:
            return self
        return self._told(Told(self._numbers(labels), places={index: i for i, index in enumerate(indices)}))

    def rows(self, indices: Sequence[int], padding: int = 0) -> Denoiser:
        other = copy.copy(self)
        other._indices = tuple(indices)
        return other

    def split(self, parts: Mapping[str, range]) -> Denoiser:
        count = len(self.told.labels)
        if count == 1 or self.told.places:
            return self
        if count < len(parts):
            raise SigmaTuneError(
                f"{', '.join(name.replace('_', '-') for name in parts)} must use different labels, so give at "
                f"least {len(parts)} different ones, or one for all, not {count}."
            )
        sizes = shares(count, [len(part) for part in parts.values()])
        edges = np.cumsum([0, *sizes]).tolist()
        taken = [(part, range(a, b)) for part, a, b in zip(parts.values(), edges[:-1], edges[1:], strict=True)]
        other = self._told(Told(self.told.labels, tuple(taken)))
        other.conditioning = {"conditions": dict(zip(parts, sizes, strict=True))}
        return other

    def conditions(self) -> str:
        return "" if self.told.one else hashlib.sha256(repr(self.told).encode()).hexdigest()

    def fingerprint(self) -> str:
        what = (type(self).__name__, self.digest, self.shape, self.path.spec(), self.dtype, self.told.labels)
        return f"sha256:{hashlib.sha256(repr(what).encode()).hexdigest()}"

    def _told(self, told: Told) -> Self:
        other = copy.copy(self)
        other.told, other._indices = told, None
        return other

    def _numbers(self, names: Sequence[str | None]) -> tuple[int | None, ...]:
        for name in names:
            if name is not None and name not in self.classes:
                raise unknown_name("class", str(name), self.classes)
        return tuple(None if name is None else self.classes.index(name) for name in names)

    def _of_batch(self, batch: int) -> list[int | None]:
        """The class of each row of a batch; padding rows have that of the first row."""
        if self.told.one:
            return list(self.told.labels) * batch
        if self._indices is None or len(self._indices) > batch:
            raise SigmaTuneError("this model has a condition for each row; select rows with rows().")
        found = [self.told.at(index) for index in self._indices]
        return [*found, *found[:1] * (batch - len(found))]
