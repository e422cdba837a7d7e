"""Classes of the exact denoisers: one for all rows, or one for each row by its index in the noise."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Self

import torch

from sigmatune.core.condition import Condition
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.guidance import Guided
from sigmatune.models.analytic import Analytic
from sigmatune.noise import Array
from sigmatune.support.errors import unknown_name


class Classes(Analytic):
    """An exact denoiser of data with classes; without a class, its data are all classes.

    A subclass sets the attributes and overrides :meth:`estimate`.

    Attributes:
        classes: Names of the classes.
        condition: The number of each row's class; None means no class.
        digest: The identity of the data; part of the fingerprint.
    """

    classes: tuple[str, ...]
    condition: Condition[tuple[int | None, ...]] = Condition((None,))
    digest: str = ""
    _indices: tuple[int, ...] | None = None

    def estimate(self, z: torch.Tensor, sigma: torch.Tensor, labels: Sequence[int | None]) -> torch.Tensor:
        """E[x0 | z, class] of each row; None means no class."""
        raise NotImplementedError

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.estimate(z, sigma, self.condition.rows(self._indices, len(z)))

    def given(self, label: str | Sequence[str] | None = None) -> Self:
        """The denoiser conditioned on a class, or on a list that repeats, of which row i takes entry i.

        Raises:
            SigmaTuneError: for an unknown class.
        """
        names = [label] if label is None or isinstance(label, str) else list(label)
        return self._with(Condition(self._numbers(names)))

    def without_class(self) -> Self:
        """The denoiser without a class, whatever the rows' classes are."""
        other = self._with(Condition((None,)))
        other.classes = ()
        return other

    def guided(self, scale: float, interval: tuple[float, float] = (0.0, float("inf"))) -> Guided:
        """Classifier-free guidance inside an interval of noise levels, see :class:`sigmatune.core.guidance.Guided`."""
        return Guided(self, self.without_class(), scale, interval)

    def conditioned(self, indices: Sequence[int], labels: Sequence[str | None] | None, ends: Array | None) -> Denoiser:
        if labels is None or not self.classes:
            return self
        places = {index: i for i, index in enumerate(indices)}
        return self._with(Condition(self._numbers(labels), places=places))

    def rows(self, indices: Sequence[int], padding: int = 0) -> Denoiser:
        other = copy.copy(self)
        other._indices = tuple(indices)
        return other

    def split(self, parts: Mapping[str, range]) -> Denoiser:
        if len(self.condition.values) == 1 or self.condition.places:
            return self
        condition, counts = self.condition.split(parts)
        other = self._with(condition)
        other.conditioning = counts
        return other

    def conditions(self) -> str:
        """A digest of the rows' separate classes; empty if all rows share one."""
        if self.condition.shared:
            return ""
        known = self.condition
        text = f"Told(labels={known.values!r}, parts={known.parts!r}, places={known.places!r})"  # as in stored digests
        return hashlib.sha256(text.encode()).hexdigest()

    def fingerprint(self) -> str:
        what = (type(self).__name__, self.digest, self.shape, self.path.spec(), self.dtype, self.condition.values)
        return f"sha256:{hashlib.sha256(repr(what).encode()).hexdigest()}"

    def _with(self, condition: Condition[tuple[int | None, ...]]) -> Self:
        other = copy.copy(self)
        other.condition, other._indices = condition, None
        return other

    def _numbers(self, names: Sequence[str | None]) -> tuple[int | None, ...]:
        for name in names:
            if name is not None and name not in self.classes:
                raise unknown_name("class", str(name), self.classes)
        return tuple(None if name is None else self.classes.index(name) for name in names)
