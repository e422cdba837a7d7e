"""A data set itself: the posterior mean over all its images, or over those of a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch

from sigmatune.models.analytic import Empirical, choose
from sigmatune.models.exact.classes import Classes
from sigmatune.noise import NoisePath, vp
from sigmatune.support.errors import SigmaTuneError

Tensor = torch.Tensor


class ClassEmpirical(Classes, Empirical):
    """Denoises a set of 8-bit images exactly, see :class:`~sigmatune.models.analytic.Empirical`.

    Args:
        images: (n, C, H, W), uint8, sorted by class; they stay 8-bit in memory and become values in [-1, 1] chunk by
            chunk.
        counts: How many images each class has, (K,), summing to n.
        classes: Names of the classes; "0", "1", ... by default.
        path: Binds schedules; DDPM's linear betas by default.
        dtype: Of products with images and of the states.

    Raises:
        SigmaTuneError: for other images or counts.
    """

    chunk = 1024
    """Images converted at a time."""

    def __init__(
        self,
        images: Tensor,
        counts: Sequence[int],
        *,
        classes: Sequence[str] = (),
        path: NoisePath | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or min(counts, default=0) < 1 or sum(counts) != len(images):
            raise SigmaTuneError(
                f"need images (n, C, H, W) of uint8 and how many each class has, not {tuple(images.shape)} of "
                f"{str(images.dtype).removeprefix('torch.')} and counts that sum to {sum(counts)}."
            )
        self.device = torch.device(device)
        self.images, self.shape, self.path = images.to(self.device), tuple(images.shape[1:]), path or vp()
        self.dtype, self.arrays = dtype, (images,)
        self.classes = tuple(classes) or tuple(map(str, range(len(counts))))
        edges = np.cumsum([0, *counts]).tolist()
        self._members = [range(a, b) for a, b in pairwise(edges)]
        self._squares = torch.cat([x.double().square().sum(1) for _, x in self._chunks(range(len(images)))])

    def estimate(self, z: Tensor, sigma: Tensor, labels: Sequence[int | None]) -> Tensor:
        every = range(len(self.images))
        return self.posterior_mean(z, sigma, [every if label is None else self._members[label] for label in labels])

    def _chunks(self, members: range) -> Iterator[tuple[range, Tensor]]:
        for start in range(members.start, members.stop, self.chunk):
            chunk = range(start, min(start + self.chunk, members.stop))
            yield chunk, in_range(self.images[chunk.start : chunk.stop], self.dtype).flatten(1)

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """Draws n members with replacement, (n, C, H, W), float64; row i depends on (seed, i) and its class alone."""
        return in_range(self.images[self.members(n, seed)].cpu(), torch.float64)

    def members(self, n: int, seed: int = 0) -> list[int]:
        """The index of each of n draws among the images."""
        classes = self.condition.rows(range(n), n)
        whole = choose(torch.ones(len(self.images)).double(), n, seed).tolist()
        # The relative position among all images becomes the relative position within the class.
        return [
            place if label is None else self._members[label][place * len(self._members[label]) // len(self.images)]
            for place, label in zip(whole, classes, strict=True)
        ]

    def components(self, n: int, seed: int = 0) -> list[int]:
        """The class of each of n draws."""
        edges = [members.stop for members in self._members]
        return [int(k) for k in np.searchsorted(edges, self.members(n, seed), side="right")]


def in_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """8-bit images in [-1, 1]; black is -1 and white is 1 exactly."""
    return images.to(dtype).div_(127.5).sub_(1)
