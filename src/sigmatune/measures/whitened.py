r"""Whitened: the error in which every ring of frequencies counts the same.

.. math:: e_i^2 = \operatorname{mean}_k \, w_k \, \lvert F (x_i - x^*_i)(k) \rvert^2, \qquad
          w_k = \bar P^{\,p - 1} \max(P_{r(k)}, \phi \bar P)^{-p},

F the orthonormal Fourier transform of every channel, P the mean power of ring r over the converged end points, :math:`\bar P`
its mean over all modes, p the exponent and :math:`\phi` the floor. With p = 1 a ring's error is taken as a share of the ring's
own power, with p = 0 all of it as a share of the whole power (the root mean square). On Gaussian data the same weights turn
the squared Wasserstein error of a mode into its relative form, :math:`(\sqrt v - \sqrt P)^2 / P`.

The weights are a fixed real filter: self-adjoint, it commutes with translations, and the error has no unit. Power is taken
about 0 and not about the mean sample.

Channels either share a ring's power, or are first turned to their principal axes (luminance, then colours), each with powers
of its own.

The defaults were measured (``benchmarks/measures.py``, ``docs/measures.md``): of the filters, p = 0.5 with shared rings ranks
schedules as the Frechet distance does best over all models tried. Higher exponents do as well on photographs of 16 x 16 and
lose on emoji and at 32 x 32, whose finest rings hold almost no power; axes of the channels bring little at 0.5 and harm at
0.75 and 1, where weak colours count in full. The floor did not matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.measures.base import Fitted, Measure, Shape, floats, frozen
from sigmatune.measures.grid import counts, grid_of, half, rings, stands_for
from sigmatune.noise import Array
from sigmatune.statistics.pieces import pieces
from sigmatune.support.errors import SigmaTuneError

CHANNELS = ("shared", "principal")


@dataclass(frozen=True, eq=False)
class Whitened(Fitted):
    """A filter of one weight per ring, or per ring and principal axis of the channels.

    Attributes:
        power: P of every ring, (1, K), or of every axis and ring, (C, K); rings without a mode have 0.
        turn: The axes as rows of an orthonormal (C, C), or (0, 0) where channels share their powers.
    """

    name = "whitened"
    linear = True
    ranks: ClassVar[Mapping[str, int]] = {"power": 2, "turn": 2}
    power: Array
    turn: Array

    def __post_init__(self) -> None:
        _check(**self.options)
        grid, channels = grid_of(self.shape), self.shape[0]
        axes = channels if self.options["channels"] == "principal" else 0
        expected = (max(axes, 1), len(counts(grid))) if grid else None
        if self.power.shape != expected or self.turn.shape != (axes, axes):
            raise SigmaTuneError(
                f"a whitened measure of samples {self.shape} needs powers of shape {expected} and axes of {(axes, axes)}, "
                f"not {self.power.shape} and {self.turn.shape}; fit it again."
            )
        if not (self.power >= 0).all() or not self._mean > 0:
            raise SigmaTuneError("a whitened measure needs powers of at least 0, and one above; fit it again.")

    @property
    def grid(self) -> Shape:
        """The axes after the channels."""
        return self.shape[1:]

    @cached_property
    def _mean(self) -> float:
        """The mean power of a mode."""
        return float((self.power @ counts(self.grid)).mean() / np.prod(self.grid))

    @cached_property
    def ring_weights(self) -> Array:
        """w of every ring, shaped like :attr:`power`."""
        return frozen(self._shares ** -float(self.options["exponent"]) / self._mean)

    @property
    def _shares(self) -> Array:
        """The power of every ring as a share of the mean power, the floor at least."""
        return np.maximum(self.power / self._mean, float(self.options["floor"]))

    def at(self, sigma: float) -> Whitened:
        r"""Weighs a difference of unit states by what Gaussian data of these powers make of it.

        .. math:: w_k(\sigma) = w_k \, P / (\alpha^2 P + s^2)

        The exact solution multiplies a mode of the unit state by the root of the last factor on the way to its end point.
        """
        return _AtLevel(self.shape, self.options, self.power, self.turn, sigma)

    def weights(self) -> Array:
        spread = self.ring_weights[:, rings(self.grid)]
        return np.asarray(np.broadcast_to(spread, self.shape))

    def axes(self) -> Array | None:
        return self.turn if len(self.turn) else None

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        modes = self._modes(x) * self._spread(np.sqrt(self.ring_weights), x)
        return self._turned(torch.fft.irfftn(modes, s=self.grid, dim=self._dims, norm="ortho"), self.turn.T)

    def squares(self, x: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        modes = self._modes(floats(x) - floats(exact).to(x.device))
        weight = (self._spread(self.ring_weights, x) * self._twice(x)).expand(modes.shape[1:])
        weighted = torch.view_as_real(modes).square() * weight[..., None]
        return weighted.flatten(1).sum(dim=1, dtype=torch.float64) / float(np.prod(self.shape))

    def rounding(self, relative: float) -> float:
        white = float((self.ring_weights @ counts(self.grid)).mean() / np.prod(self.grid))
        return relative * math.sqrt(self._mean * white)

    @property
    def _dims(self) -> tuple[int, ...]:
        return tuple(range(-len(self.grid), 0))

    def _modes(self, x: torch.Tensor) -> torch.Tensor:
        modes: torch.Tensor = torch.fft.rfftn(self._turned(floats(x), self.turn), dim=self._dims, norm="ortho")
        return modes

    def _turned(self, x: torch.Tensor, turn: Array) -> torch.Tensor:
        if not turn.size:
            return x
        return torch.einsum("ac,nc...->na...", torch.tensor(turn).to(x), x)

    def _spread(self, of_rings: Array, x: torch.Tensor) -> torch.Tensor:
        """Numbers of rings at the modes that the real transform keeps, (1 or C, *half grid)."""
        return torch.from_numpy(of_rings[:, half(self.grid)]).to(floats(x))

    def _twice(self, like: torch.Tensor) -> torch.Tensor:
        """How often the modes that the real transform keeps count, (L // 2 + 1,)."""
        return torch.from_numpy(stands_for(self.grid[-1])).to(floats(like))


@dataclass(frozen=True, eq=False)
class _AtLevel(Whitened):
    """The measure of unit states at a level."""

    level: float = 0.0

    @cached_property
    def ring_weights(self) -> Array:
        power, plain = self._shares * self._mean, self._shares ** -float(self.options["exponent"]) / self._mean
        alpha = 1 / math.hypot(1, self.level)
        return frozen(plain * power / (alpha**2 * power + 1 - alpha**2))


def fit(
    exact: torch.Tensor,
    _: Denoiser | None,
    *,
    exponent: float = 0.5,
    floor: float = 1e-4,
    channels: str = "shared",
) -> Whitened:
    """Measures the power of every ring.

    Args:
        exact: Converged end points, ``(n, C, *grid)``.
        exponent: p, from 0 (the root mean square) to 1 (every ring counts the same).
        floor: Least power of a ring, as a share of the mean power of all modes; below it, power cannot be distinguished from
            rounding.
        channels: "shared" or "principal".

    Raises:
        SigmaTuneError: for options out of range.
    """
    _check(exponent, floor, channels)
    turn = _principal(exact) if channels == "principal" else np.zeros((0, 0))
    options = {"exponent": exponent, "floor": floor, "channels": channels}
    return Whitened(tuple(exact.shape[1:]), options, frozen(ring_power(exact, turn)), frozen(turn))


def mode_weights(power: Array, count: Array, *, exponent: float = 0.5, floor: float = 1e-4) -> Array:
    """The weight w of every mode of a spectrum that is known without samples.

    Args:
        power: P of modes, (modes,), with a positive mean.
        count: How many modes have it, (modes,).
        exponent, floor: As for :func:`fit`.

    Raises:
        SigmaTuneError: for options out of range.
    """
    _check(exponent, floor, "shared")
    mean = np.average(power, weights=count)
    return np.asarray(np.maximum(power / mean, floor) ** -exponent / mean)


def _check(exponent: float, floor: float, channels: str) -> None:
    """Refuses options out of range."""
    if not 0 <= exponent <= 1 or not 0 < floor <= 1:
        raise SigmaTuneError(
            f"whitening needs an exponent in [0, 1] and a floor in (0, 1], not {exponent!r} and {floor!r}."
        )
    if channels not in CHANNELS:
        raise SigmaTuneError(f"channels are {' or '.join(map(repr, CHANNELS))}, not {channels!r}.")


def _principal(exact: torch.Tensor) -> Array:
    """The principal axes of the channels, strongest first, as rows, (C, C)."""
    flat = (part.double().flatten(2).cpu() for part in pieces(exact))
    second = np.sum([torch.einsum("nct,ndt->cd", x, x).numpy() for x in flat], axis=0)
    return np.linalg.eigh(second)[1].T[::-1].copy()  # torch knows no strides below 0


def ring_power(exact: torch.Tensor, turn: Array) -> Array:
    """The mean power about 0 of every ring of samples, (1, K), or with axes as rows, (C, C), of every axis and ring, (C, K)."""
    channels, grid = exact.shape[1], tuple(exact.shape[2:])
    dims = tuple(range(-len(grid), 0))
    sums = np.zeros((channels, *half(grid).shape))
    for part in pieces(exact):
        x = part.double().cpu()
        x = torch.einsum("ac,nc...->na...", torch.tensor(turn), x) if turn.size else x
        sums += torch.fft.rfftn(x, dim=dims, norm="ortho").abs().square().sum(dim=0).numpy()
    sums *= stands_for(grid[-1]) / len(exact)
    index, count = half(grid).ravel(), counts(grid)
    of_rings = np.stack([np.bincount(index, channel.ravel(), minlength=len(count)) for channel in sums])
    of_rings = of_rings if turn.size else of_rings.mean(axis=0, keepdims=True)
    return np.asarray(of_rings / np.maximum(count, 1))


def suits(shape: Shape) -> str | None:
    """Why samples of a shape cannot be whitened, None if they can."""
    if grid_of(shape):
        return None
    return (
        f"samples of shape {shape} lie on no grid, so they have no rings of frequency to whiten; take the measure rms."
    )


MEASURE = Measure(fit, Whitened, "every ring of frequencies counts by its own power; for data on a grid", suits, _check)
