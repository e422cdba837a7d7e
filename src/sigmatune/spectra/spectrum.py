r"""A measured spectrum, and its measurement over data that does not fit into memory.

Per image the power is averaged over rings (:func:`sigmatune.spectra.rapsd`); over images the mean of P(k) and the mean
and variance of log P(k) are kept exactly, batch by batch (Chan's update), in float64. The mean image is kept as well:
the power about it is the spectrum of the data's covariance, which is the P of Gaussian data. A batch's own statistics
(:class:`BatchPower`) may be taken by the workers of an engine; they are added here in the order of the batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch

from sigmatune.core.schedule import whole
from sigmatune.noise import Array
from sigmatune.spectra.rapsd import check_window, rapsd
from sigmatune.spectra.rings import Transform, binning
from sigmatune.support import card
from sigmatune.support.engine import LOCAL, Engine, Tick
from sigmatune.support.errors import SigmaTuneError, reason
from sigmatune.support.options import number

QUANTISATION = (2 / 255) ** 2 / 12
"""Variance that 8-bit rounding adds to pixels in [-1, 1], 5.13e-6: less power than this is indistinguishable from
none."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Radially averaged power with its mode counts.

    Attributes:
        power: P(k), (K,), or (C, K) per channel; k = 0 is DC.
        count: n_k, the modes of each ring, (K,).
        size: (H, W) in pixels.
        images: How many images were measured.
        channels: How many channels an image has.
        centred: Power about the mean image, shaped like ``power``, times n / (n - 1); None for a single image.
        log_mean, log_variance: Mean and variance (n - 1) over images of log P(k), P floored at :data:`QUANTISATION`.
        mean, deviation: Mean of all pixels and their standard deviation about it.
        measured: The settings: corners, window, transform.
    """

    power: Array
    count: Array
    size: tuple[int, int]
    images: int = 1
    channels: int = 1
    centred: Array | None = None
    log_mean: Array | None = None
    log_variance: Array | None = None
    mean: float = 0.0
    deviation: float = 0.0
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        power = np.asarray(self.power, dtype=np.float64)
        others = [one for one in (self.centred, self.log_mean, self.log_variance) if one is not None]
        if power.ndim not in (1, 2) or not power.size or any(np.shape(one) != power.shape for one in others):
            raise SigmaTuneError(
                f"the arrays of a spectrum are all of one shape, (K,) or (C, K), not empty; not {power.shape}."
            )
        if power.shape[-1:] != np.shape(self.count) or not np.isfinite(power).all() or (power < 0).any():
            raise SigmaTuneError(
                f"a spectrum needs one finite power of at least 0 per ring, not shape {power.shape} "
                f"for {np.shape(self.count)} rings."
            )

    def __repr__(self) -> str:
        return f"Spectrum({self._heading()}: {card.numbers(np.atleast_2d(self.power).mean(axis=0))})"

    def _repr_html_(self) -> str:
        """The card that a notebook shows: the power of every ring, one curve per channel where it was measured so."""
        k, rows = np.arange(1.0, self.rings), np.atleast_2d(np.asarray(self.power))[:, 1:]
        shown = [(k[power > 0], power[power > 0]) for power in rows]
        facts = {
            "rings": self.rings,
            "power at k = 0": card.numbers(np.atleast_1d(np.asarray(self.power)[..., 0])),
            "pixels": f"mean {card.number(self.mean)}, standard deviation {card.number(self.deviation)}",
            "measured": card.options(self.measured),
        }
        says = f"power by spatial frequency: {card.numbers(np.atleast_2d(self.power).mean(axis=0)[1:])}"
        picture = card.drawing(shown, x="spatial frequency k, cycles per image", y="power P(k)", says=says, log_x=True)
        return card.card(f"Spectrum: {self._heading()}", picture, facts)

    def _heading(self) -> str:
        height, width = self.size
        return f"{height} x {width}, {card.count(self.channels, 'channel')}, {card.count(self.images, 'image')}"

    @property
    def rings(self) -> int:
        """K, the number of rings, DC included."""
        return len(self.count)

    def to_dict(self) -> dict[str, Any]:
        """The spectrum as JSON has it; :meth:`from_dict` is its inverse."""
        lists = {name: _list(getattr(self, name)) for name in _ARRAYS}
        plain = {name: getattr(self, name) for name in ("images", "channels", "mean", "deviation")}
        return {**lists, "size": list(self.size), **plain, "measured": dict(self.measured)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Spectrum:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            SigmaTuneError: if it is not a spectrum.
        """
        try:
            arrays = {
                name: None if fields[name] is None else np.array(fields[name], dtype=np.float64) for name in _ARRAYS
            }
            height, width = (whole(length, "size") for length in fields["size"])
            plain: dict[str, Any] = {name: whole(fields[name], name) for name in ("images", "channels")}
            plain |= {name: number(fields[name], name) for name in ("mean", "deviation")}
            if not all(array is None or np.isfinite(array).all() for array in arrays.values()):
                raise ValueError("not all of its numbers are finite")
            if len(arrays["count"]) > height + width:  # type: ignore[arg-type]  # None has no length: a TypeError
                raise ValueError(f"{height} x {width} pixels have fewer rings")
            return cls(**arrays, size=(height, width), **plain, measured=dict(fields["measured"]))  # type: ignore[arg-type]
        except SigmaTuneError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SigmaTuneError(f"this is not a spectrum: {reason(error)}; measure it again.") from None


_ARRAYS = ("power", "count", "centred", "log_mean", "log_variance")


@dataclass(frozen=True, eq=False)
class BatchPower:
    """The statistics of one batch of images, in float64.

    Attributes:
        images: How many there are.
        power: Their mean P(k), (K,) or (C, K).
        log_mean, log_square: Of log P(k), the mean and the sum of squares about it.
        image: The mean image, (C, H, W).
        square: The mean square of all pixels.
    """

    images: int
    power: Array
    log_mean: Array
    log_square: Array
    image: torch.Tensor
    square: float

    @classmethod
    def of(cls, images: torch.Tensor, power: torch.Tensor) -> BatchPower:
        """The statistics of images (B, C, H, W) with their power, (B, K) or (B, C, K)."""
        values, wide = power.numpy(), images.detach().double().cpu()
        logs = np.log(np.maximum(values, QUANTISATION))
        return cls(
            len(images), values.mean(axis=0), logs.mean(axis=0), logs.var(axis=0) * len(images), wide.mean(dim=0),
            wide.square().mean().item(),
        )  # fmt: skip


class Running:
    """Accumulates a spectrum batch by batch; memory is one image and a few numbers per ring.

    Args:
        corners, window, transform, per_channel: As for :func:`sigmatune.spectra.rapsd`.

    Raises:
        SigmaTuneError: for an unknown window, or one with the cosine transform.
    """

    def __init__(
        self,
        *,
        corners: bool = False,
        window: str | None = None,
        transform: Transform = "fft",
        per_channel: bool = False,
    ) -> None:
        check_window(window, transform)
        self.how: dict[str, Any] = {"corners": corners, "window": window, "transform": transform}
        self.per_channel = per_channel
        self.images = 0
        self._shape: tuple[int, ...] | None = None
        self._power = self._log_mean = self._log_square = np.zeros(0)
        self._image = torch.zeros(0)
        self._square = 0.0

    def add(self, images: torch.Tensor) -> torch.Tensor:
        """Adds a batch and returns the power of its images, (B, K) or (B, C, K), float64.

        Args:
            images: (B, C, H, W), all batches of one image shape.

        Raises:
            SigmaTuneError: if the shape changes, or as :func:`sigmatune.spectra.rapsd`.
        """
        power = rapsd(images, per_channel=self.per_channel, **self.how).double().cpu()
        self.merge(BatchPower.of(images, power))
        return power

    def part(self, images: torch.Tensor) -> BatchPower:
        """The statistics of a batch, which :meth:`merge` adds.

        Raises:
            SigmaTuneError: as :func:`sigmatune.spectra.rapsd`.
        """
        return BatchPower.of(images, rapsd(images, per_channel=self.per_channel, **self.how).double().cpu())

    def merge(self, part: BatchPower) -> None:
        """Adds the statistics of a batch; the same batches in the same order give the same bits.

        Raises:
            SigmaTuneError: if the shape changes.
        """
        shape = tuple(part.image.shape)
        if self._shape is None:
            self._shape = shape
            self._power = self._log_mean = self._log_square = np.zeros(part.power.shape)
            self._image = torch.zeros(shape, dtype=torch.float64)
        elif shape != self._shape:
            raise SigmaTuneError(
                f"images of shape {shape} follow images of shape {self._shape}; bring all to one size."
            )
        n = part.images
        total, shift = self.images + n, part.log_mean - self._log_mean
        self._log_square = (
            self._log_square + part.log_square + shift**2 * (self.images * n / total)
        )  # Chan et al., 1979
        self._log_mean = self._log_mean + shift * (n / total)
        self._power = self._power + (part.power - self._power) * (n / total)
        self._image = self._image + (part.image - self._image) * (n / total)
        self._square += (part.square - self._square) * (n / total)
        self.images = total

    def spectrum(self) -> Spectrum:
        """The spectrum of all batches so far.

        Raises:
            SigmaTuneError: before the first batch.
        """
        if self._shape is None:
            raise SigmaTuneError("no image has been measured; a spectrum needs at least one.")
        n, (channels, height, width) = self.images, self._shape
        count = binning(height, width, self.how["transform"], corners=self.how["corners"]).count
        centred = None
        if n > 1:
            of_mean = rapsd(self._image[None], per_channel=self.per_channel, **self.how)[0].numpy()
            centred = np.maximum(self._power - of_mean, 0) * (n / (n - 1))
        mean = self._image.mean().item()
        return Spectrum(
            self._power, count, (height, width), n, channels, centred, self._log_mean,
            self._log_square / max(n - 1, 1), mean, max(self._square - mean**2, 0.0) ** 0.5, self.how,
        )  # fmt: skip


def spectrum_of(batches: torch.Tensor | Iterable[torch.Tensor], *, engine: Engine = LOCAL, **how: Any) -> Spectrum:
    """Measures the spectrum of a tensor of images, (n, C, H, W), or of batches of them.

    Args:
        batches: The images.
        engine: Where the power of the batches is taken; the images are read here.
        how: As for :class:`Running`.

    Raises:
        SigmaTuneError: as :meth:`Running.add`, or if there is no image.
    """
    running = Running(**how)
    several = [batches] if isinstance(batches, torch.Tensor) else batches
    for (part,) in parts_of(([batch] for batch in several), engine, how):
        running.merge(part)
    return running.spectrum()


def parts_of(
    batches: Iterable[Sequence[torch.Tensor]], engine: Engine, how: Mapping[str, Any]
) -> Iterator[list[BatchPower]]:
    """The statistics of lists of batches, in order; as many lists are in memory as keep the workers busy.

    Args:
        batches: Each list is a piece of work.
        engine: Where they are taken.
        how: As for :class:`Running`.

    Raises:
        SigmaTuneError: as :meth:`Running.part`.
    """
    waiting = iter(batches)
    while some := list(islice(waiting, max(2 * engine.workers, 1))):
        if engine.workers:  # a view would travel with all that it is a view of
            some = [[batch.detach().cpu().clone() for batch in batches] for batches in some]
        yield from engine.run(_parts, [], [(batches, how) for batches in some])


def _parts(piece: tuple[Sequence[torch.Tensor], Mapping[str, Any]], tick: Tick) -> list[BatchPower]:
    batches, how = piece
    tick(sum(map(len, batches)))
    return [Running(**how).part(batch) for batch in batches]


def _list(value: Array | None) -> Any:
    return None if value is None else np.asarray(value).tolist()
