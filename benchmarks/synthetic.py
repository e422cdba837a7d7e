"""Synthetic models for ``benchmarks/cells.py``: exact denoisers of six kinds of data, and random networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.models.analytic import Empirical, GaussianMixture, GaussianSpectrum, gaussian
from sigmatune.models.function import from_callable
from sigmatune.noise import VE, NoisePath, vp

Make = Callable[[], Denoiser]


def lobes(weights: list[float], means: Any, widths: list[float], path: NoisePath) -> GaussianMixture:
    """A mixture of round Gaussians."""
    mu = np.asarray(means, dtype=np.float64)
    covariances = np.square(np.asarray(widths))[:, None, None] * np.eye(mu.shape[1])
    return GaussianMixture(np.asarray(weights) / np.sum(weights), mu, covariances, path)


def paths() -> Iterator[NoisePath]:
    """The two kinds of range, in turn."""
    while True:
        yield VE()
        yield vp()


def power(size: int, slope: float) -> np.ndarray:
    """A power law on the full grid, of mean 1/4."""
    f = np.fft.fftfreq(size) * size
    p = np.maximum(np.hypot(f[:, None], f[None, :]), 0.5) ** -slope
    return np.asarray(p / p.mean() / 4)


def gaussians(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """Spectra on a grid and Gaussians of a few numbers."""
    for size, slope in ((4, 1.0), (8, 2.2), (8, 3.0)):
        yield (
            f"spectrum {size} x {size}, slope {slope}",
            partial(GaussianSpectrum, power(size, slope), (1, size, size), next(path)),
        )
    for d, ratio in ((2, 10.0), (4, 100.0), (8, 1000.0)):
        yield (
            f"gaussian of {d}, axes to {ratio:g}",
            partial(gaussian, np.zeros(d), np.diag(np.geomspace(1, 1 / ratio, d)), next(path)),
        )


def broad(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """A narrow and a broad lobe about the same place."""
    for d, share, narrow, wide in (
        (1, 0.5, 0.1, 3.0), (1, 0.05, 0.1, 3.0), (1, 0.3, 0.02, 1.0), (1, 0.1, 0.5, 5.0),
        (2, 0.2, 0.1, 3.0), (2, 0.1, 0.05, 1.0), (3, 0.2, 0.1, 2.0), (4, 0.05, 0.2, 4.0),
    ):  # fmt: skip
        name = f"broad {share:g} of {d}, {narrow:g} and {wide:g}"
        yield name, partial(lobes, [1 - share, share], np.zeros((2, d)), [narrow, wide], next(path))


def rare(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """One mode far away that holds few of the data."""
    for d, share, away, width in (
        (1, 0.02, 4.0, 0.3), (1, 0.05, 10.0, 0.5), (1, 0.1, 2.0, 0.1), (2, 0.01, 5.0, 0.5),
        (2, 0.03, 3.0, 0.2), (2, 0.1, 20.0, 1.0), (4, 0.05, 4.0, 0.3), (8, 0.02, 6.0, 0.5),
    ):  # fmt: skip
        means = np.zeros((2, d))
        means[1, 0] = away
        yield (
            f"rare {share:g} of {d} at {away:g}",
            partial(lobes, [1 - share, share], means, [width, width], next(path)),
        )


def narrow(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """Several narrow modes of random weights."""
    for seed, (d, modes, width) in enumerate(
        ((1, 3, 0.02), (1, 8, 0.05), (2, 4, 0.02), (2, 9, 0.1), (2, 16, 0.05), (4, 6, 0.05), (8, 5, 0.1), (3, 12, 0.03))
    ):
        rng = np.random.default_rng(seed)
        weights, means = rng.dirichlet(np.ones(modes)), rng.normal(size=(modes, d)) * 1.5
        yield (
            f"{modes} modes of {d}, {width:g} wide",
            partial(lobes, weights.tolist(), means, [width] * modes, next(path)),
        )


def rings(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """Rings of one or two radii, as many lobes as look like a line."""
    for radii, width in (
        ([1.0], 0.05),
        ([1.0], 0.2),
        ([3.0], 0.1),
        ([0.5, 2.0], 0.1),
        ([1.0, 4.0], 0.3),
        ([0.2], 0.01),
    ):
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        means = np.concatenate([r * np.stack([np.cos(angles), np.sin(angles)], axis=1) for r in radii])
        yield (
            f"rings of {radii}, {width:g} wide",
            partial(lobes, [1.0] * len(means), means, [width] * len(means), next(path)),
        )


def finite(path: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """Finite sets of images with a spectrum, and of points."""
    for n, size, slope in ((8, 4, 2.0), (32, 8, 2.2), (64, 8, 1.0)):
        images = GaussianSpectrum(power(size, slope), (1, size, size)).draw(n, seed=n)
        yield f"{n} images {size} x {size}", partial(Empirical, images, next(path))
    for n, d in ((5, 2), (40, 3), (100, 6)):
        points = torch.from_numpy(np.random.default_rng(n).normal(size=(n, d)))
        yield f"{n} points of {d}", partial(Empirical, points, next(path))


def networks(_: Iterator[NoisePath]) -> Iterator[tuple[str, Make]]:
    """Random networks with EDM's preconditioning: dense, convolutional, and with attention over the modes of the data."""
    flat, grids = ((2,), (6,), (16,)), ((1, 8, 8), (2, 4, 4))
    kinds = {"dense": flat, "convolutional": grids, "attention": ((3,), (8,), (1, 4, 4))}
    for kind, shape in ((kind, shape) for kind, shapes in kinds.items() for shape in shapes):
        yield f"{kind} network, {shape}", partial(network, kind, shape)


def network(kind: str, shape: tuple[int, ...]) -> Denoiser:
    r"""A random network :math:`D = c_{skip} x + c_{out} F(c_{in} x, \log \sigma / 4)` in float64."""
    rng, d, hidden = np.random.default_rng(sum(shape) + len(kind)), int(np.prod(shape)), 24

    def weight(*size: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=size) / np.sqrt(np.prod(size[1:])))

    first, second, last = weight(hidden, d + 2), weight(hidden, hidden), weight(d, hidden)
    kernels = [weight(8, shape[0] + 1, 3, 3), weight(8, 8, 3, 3), weight(shape[0], 8, 3, 3)] if len(shape) == 3 else []
    keys = weight(12, d) * d**0.5

    def features(u: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        if kind == "attention":
            return torch.softmax(u.flatten(1) @ keys.T * (1 - time), dim=1) @ keys
        if kind == "dense":
            joined = torch.cat([u.flatten(1), torch.sin(3 * time), torch.cos(3 * time)], dim=1)
            return torch.tanh(torch.tanh(2 * joined @ first.T) @ second.T * 2) @ last.T
        y = torch.cat([u, time[:, :, None, None].expand(-1, 1, *shape[1:])], dim=1)
        for kernel in kernels[:-1]:
            y = torch.tanh(2 * torch.nn.functional.conv2d(y, kernel, padding=1))
        return torch.nn.functional.conv2d(y, kernels[-1], padding=1)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        s = sigma.view(-1, *[1] * len(shape))
        total = (s**2 + 0.25).sqrt()
        out = features(x / total, (sigma.log() / 4)[:, None]).view(x.shape)
        return x * 0.25 / total**2 + out * s * 0.5 / total

    return from_callable(denoise, shape, dtype=torch.float64, name=f"{kind} {shape}")


def models() -> list[tuple[str, Make]]:
    """All models by name."""
    path = paths()
    families = (gaussians, broad, rare, narrow, rings, finite, networks)
    return [(f"{family.__name__}: {name}", make) for family in families for name, make in family(path)]
