r"""The modes of samples that the surrogate follows: orthonormal coordinates, and what each counts in a squared error.

Modes should be principal axes, because the surrogate's derivative treats each by itself, and a linear measure should weigh
each by itself. Without weights they are principal axes of the channels and the cosine transform for images, and principal
axes of the samples for everything else. With the weights of a filter they are Hartley modes of the grid,

.. math:: H(k) = \operatorname{Re} F(k) - \operatorname{Im} F(k), \qquad H(k)^2 + H(-k)^2 = |F(k)|^2 + |F(-k)|^2,

real and orthonormal, so that the error of every ring is exactly that of the measure.

Of large samples some modes are followed: without weights the strongest and an even sample of the others, with weights an even
sample of every ring, in proportion to what the ring's samples count; each stands for those that are left out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn

from sigmatune.measures import Fitted
from sigmatune.measures.grid import rings
from sigmatune.noise import Array
from sigmatune.statistics.pieces import pieces

MOST = 512
"""Most modes that are followed."""

WIDE = 1024
"""Data that are not images and have more numbers than this are used without principal axes."""

Whole = NDArray[np.int64]

FEW = 4
"""Modes of a ring that are followed in any case, if it has as many."""


class FollowedModes(ABC):
    """Orthonormal coordinates of samples."""

    @abstractmethod
    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        """The coordinates of float64 samples, (n, *shape) to (n, d)."""

    @abstractmethod
    def smoothed(self, power: torch.Tensor) -> torch.Tensor:
        """Powers of modes, (d,), averaged over modes that are alike: few samples say little about one mode."""

    @abstractmethod
    def chosen(self, power: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The modes to follow, and the weight of each in the squared error, (m,) both, by their smoothed powers."""


def modes_of(samples: torch.Tensor, mean: torch.Tensor, measure: Fitted) -> FollowedModes:
    """The modes in which a measure's errors of samples are followed.

    Args:
        samples: (n, *shape).
        mean: Their mean, (*shape), float64.
        measure: A linear measure.
    """
    return PrincipalModes(samples, mean) if measure.weights() is None else RingModes(samples, mean, measure)


def summed(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum over the rows of all parts."""
    total: torch.Tensor = reduce(torch.add, (part.sum(dim=0) for part in parts))
    return total


class PrincipalModes(FollowedModes):
    """Principal axes: of the channels and the cosine transform for images, of the samples for everything else.

    Attributes:
        axes: As rows, of the channels or of whole samples; None to use the data unchanged.
    """

    def __init__(self, samples: torch.Tensor, mean: torch.Tensor) -> None:
        self._grid = samples.ndim == 4
        self._images = self._grid and min(samples.shape[-2:]) > 1
        self._shape = tuple(samples.shape[1:])
        self.axes = self._principal(samples, mean) if self._images or mean.numel() <= WIDE else None

    def _principal(self, samples: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        def scatter(centred: torch.Tensor) -> torch.Tensor:
            if self._images:
                return torch.einsum("nchw,ndhw->cd", centred, centred)
            flat = centred.flatten(1)
            return flat.T @ flat

        covariance = reduce(torch.add, (scatter(part.double() - mean) for part in pieces(samples)))
        axes: torch.Tensor = torch.linalg.eigh(covariance)[1].T
        return axes

    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        if self.axes is None:
            return x.flatten(1)
        if not self._images:
            return x.flatten(1) @ self.axes.T
        turned = torch.einsum("cd,ndhw->nchw", self.axes, x)
        return torch.from_numpy(dctn(turned.numpy(), axes=(-2, -1), norm="ortho")).flatten(1)

    def smoothed(self, power: torch.Tensor) -> torch.Tensor:
        if self.axes is None or not self._grid:
            return power
        channels, height, width = self._shape
        rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
        ring = (torch.hypot(rows, columns) * max(height, width)).round().long().flatten()
        return _means(power.reshape(channels, -1), ring)

    def chosen(self, power: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        order = torch.argsort(power, descending=True, stable=True)
        if len(order) <= MOST:
            return order, torch.full((len(order),), 1 / len(order), dtype=torch.float64)
        strong, rest = order[: MOST // 2], order[MOST // 2 :]
        few = rest[torch.linspace(0, len(rest) - 1, MOST // 2).round().long()]
        weight = torch.ones(MOST, dtype=torch.float64)
        weight[MOST // 2 :] = len(rest) / len(few)
        return torch.cat([strong, few]), weight / len(order)


class RingModes(FollowedModes):
    """Hartley modes of every axis of the channels: the measure's own axes, or the principal ones.

    Attributes:
        axes: Of the channels, as rows, (C, C).
    """

    def __init__(self, samples: torch.Tensor, mean: torch.Tensor, measure: Fitted) -> None:
        self._grid = tuple(samples.shape[2:])
        self._ring = torch.from_numpy(rings(self._grid).ravel().copy())
        self._weights = torch.from_numpy(np.asarray(measure.weights()).ravel().copy())
        axes = measure.axes()
        self.axes = self._principal(samples, mean) if axes is None else torch.tensor(axes)

    @staticmethod
    def _principal(samples: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        flat = ((part.double() - mean).flatten(2) for part in pieces(samples))
        axes: torch.Tensor = torch.linalg.eigh(reduce(torch.add, (torch.einsum("nct,ndt->cd", x, x) for x in flat)))[
            1
        ].T
        return axes

    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        turned = torch.einsum("cd,nd...->nc...", self.axes, x)
        modes: torch.Tensor = torch.fft.fftn(turned, dim=tuple(range(-len(self._grid), 0)), norm="ortho")
        return (modes.real - modes.imag).flatten(1)

    def smoothed(self, power: torch.Tensor) -> torch.Tensor:
        return _means(power.reshape(len(self.axes), -1), self._ring)

    def chosen(self, power: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        group, value = self._groups(), (self._weights * power).numpy()
        size = np.bincount(group)
        taken = _shares(size, np.asarray(np.bincount(group, value), dtype=np.float64), MOST)
        order = np.argsort(group, kind="stable")
        ends = size.cumsum()
        kept = np.concatenate([
            order[end - n + np.round(np.linspace(0, n - 1, few)).astype(int)]
            for end, n, few in zip(ends, size, taken, strict=True)
        ])  # fmt: skip
        stands_for = torch.from_numpy((size / np.maximum(taken, 1))[group[kept]])
        chosen = torch.from_numpy(kept)
        return chosen, self._weights[chosen] * stands_for / len(power)

    def _groups(self) -> Whole:
        """The ring and the axis of every mode as one number, (d,); neighbouring rings together where there are very many."""
        ring, axes = self._ring.numpy(), len(self.axes)
        while (int(ring.max()) + 1) * axes * FEW > MOST and ring.max() > 0:
            ring = ring // 2
        return np.asarray((np.arange(axes)[:, None] * (ring.max() + 1) + ring).ravel())


def _shares(size: Whole, value: Array, most: int) -> Whole:
    """How many of each group's members to take: a few of each, then in proportion to the groups' values; most in all."""
    taken = np.minimum(size, FEW)
    least = float(value.max()) * 1e-9 or 1.0  # where nothing has power all groups are alike
    while (room := most - taken.sum()) > 0 and (taken < size).any():
        wanted = np.where(taken < size, np.maximum(value, least), 0)
        more = np.floor(room * wanted / wanted.sum()).astype(int)
        if not more.any():
            break
        taken = np.minimum(size, taken + more)
    return taken


def _means(power: torch.Tensor, ring: torch.Tensor) -> torch.Tensor:
    """Numbers of modes, (C, modes), averaged over every channel's rings, as (C * modes,)."""
    sums = torch.zeros(len(power), int(ring.max()) + 1, dtype=power.dtype)
    sums = sums.index_add(1, ring, power) / torch.bincount(ring).clamp(min=1)
    return sums[:, ring].flatten()
