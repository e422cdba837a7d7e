r"""The only interface to a model: an estimate of the clean data from the noisy data.

.. math:: D(z; \sigma) \approx E[x_0 \mid z], \quad z = \frac{x_0 + \sigma \epsilon}{\sqrt{1 + \sigma^2}}

``z`` is the unit state: it has unit scale at every level, so a flow model's first level, sigma = inf, is an ordinary
start (z is pure noise). An adapter in :mod:`sigmatune.models` turns every network, whatever its prediction type and
scaling, into this function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch

from sigmatune.core.identity import same
from sigmatune.noise import Array, NoisePath
from sigmatune.support.errors import SigmaTuneError


class Denoiser(ABC):
    """Estimates x0 from the unit state.

    A subclass sets the attributes and overrides :meth:`denoise`.

    Attributes:
        shape: Shape of one sample, such as (3, 32, 32).
        path: The model's own noise path; its range bounds every schedule.
        dtype: Floating dtype of the loop's states.
        network_dtype: Dtype of the network's arithmetic, if different.
        device: The device of the states.
        integer_time: The network embeds whole timesteps only.
        concurrent: May be called from several threads at once, because it has no state between calls.
        ports: How many tensors the network takes and returns at once, side by side in the channels: 2 for a network of phase
            space, which is not a denoiser in the strict sense (:mod:`sigmatune.models.psld_network`).
        solver_options: Solver options required by this model; set if ``ports`` is not 1.
        default_schedule: The schedule family of the model's authors and its options, if known.
        value_range: The range of clean data, for writing images.
        guidance: The guidance settings, if any; stored with tuned plans.
        conditioning: The number of conditions per kind of row, if any; stored with tuned plans.
    """

    shape: tuple[int, ...]
    path: NoisePath
    dtype: torch.dtype = torch.float32
    network_dtype: torch.dtype | None = None
    device: torch.device = torch.device("cpu")
    integer_time: bool = False
    concurrent: bool = False
    ports: int = 1
    solver_options: Mapping[str, Any] | None = None
    default_schedule: tuple[str, Mapping[str, float]] | None = None
    value_range: tuple[float, float] = (-1.0, 1.0)
    guidance: Mapping[str, Any] | None = None
    conditioning: Mapping[str, Any] | None = None

    @abstractmethod
    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Returns the x0 estimate, shaped like z.

        Args:
            z: Unit states, (B, *shape).
            sigma: The level of each row, (B,), float64, on the CPU.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes when the function changes (:mod:`sigmatune.core.identity`); stored in plan files."""

    def is_model_of(self, fingerprint: str) -> bool:
        """Whether a fingerprint, from another machine or an earlier version perhaps, is this model's."""
        return same(fingerprint, self.fingerprint())

    def renew(self) -> int:
        """Recomputes the fingerprint if a change of the function is not visible otherwise; returns the cost.

        Returns:
            Network evaluations of single rows; 0 for models with visible weights.
        """
        return 0

    def subject(self) -> object:
        """The network or the function, the same object in all copies of a denoiser."""
        return self

    def modules(self) -> Sequence[torch.nn.Module]:
        """The modules that take part, as far as they can be found."""
        return ()

    def parts(self) -> Sequence[Denoiser]:
        """The denoisers that it calls; itself if it calls a network."""
        return [self]

    def arithmetic(self) -> str:
        """Its arithmetic as text, for records of results: the states' dtype, and the network's if different."""
        states, network = (
            str(dtype).removeprefix("torch.") for dtype in (self.dtype, self.network_dtype or self.dtype)
        )
        return states if states == network else f"{states}, network {network}"

    def calls_at(self, sigma: float) -> int:
        """Network evaluations per row that one call costs at a level; 2 under classifier-free guidance."""
        return 1

    def cost_changes(self) -> Sequence[float]:
        """The levels at and above which :meth:`calls_at` differs: the ends of guidance intervals."""
        return ()

    def rows(self, indices: Sequence[int], padding: int = 0) -> Denoiser:
        """Returns the denoiser for some rows, identified by their indices in the noise: its conditions follow them.

        Args:
            indices: The rows that the next batches hold, in order.
            padding: Rows of zeros that follow them.
        """
        return self

    def conditioned(self, indices: Sequence[int], labels: Sequence[str | None] | None, ends: Array | None) -> Denoiser:
        """Returns the denoiser with conditions for some rows, which :meth:`rows` selects; itself if it takes none.

        Args:
            indices: The rows' indices in the noise.
            labels: The class of each, R names, of which None means no class; None alone changes nothing.
            ends: The lowest and the highest noise level of each row's own schedule, (R, 2), sigma_min first; None
                changes nothing.
        """
        return self

    def split(self, parts: Mapping[str, range]) -> Denoiser:
        """The denoiser for tuning on disjoint ranges of rows, with disjoint conditions.

        Args:
            parts: Ranges of indices by name, such as those of tuning, validation and held-out noises.

        Raises:
            SigmaTuneError: if there are not enough conditions.
        """
        return self

    def with_path(self, path: NoisePath) -> Denoiser:
        """The same denoiser on another description of the same noise path, such as one with the t that a file states."""
        other = copy(self)
        other.path = path
        return other

    def unsound(self, where: str) -> SigmaTuneError:
        """The error for NaN or infinity, with what to try; ``where`` says which call and row, as "in call 3 of 8"."""
        return SigmaTuneError(f"the model returned NaN or infinity {where}; {self.remedy()}.")

    def remedy(self) -> str:
        """The cure if the model returns NaN or infinity; computed only then."""
        return "check the function that it calls, or run it in float32"

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """The shape of one sample after :meth:`decode`."""
        return self.shape

    def conditions(self) -> str:
        """A text that changes with the conditions of the rows; empty without conditions."""
        return ""

    def decoder(self) -> str:
        """A text that changes when :meth:`decode` does; empty where the data are pixels."""
        return ""

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        """Turns clean data into pixels in :attr:`value_range`; the identity where the data are pixels.

        Raises:
            SigmaTuneError: if decoding gives NaN or infinity.
        """
        return x

    def __call__(self, z: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """Evaluates the denoiser with one level for all rows or one per row.

        Raises:
            SigmaTuneError: if z or sigma have the wrong shape.
        """
        shape = (self.ports * self.shape[0], *self.shape[1:])
        if tuple(z.shape[1:]) != shape:
            raise SigmaTuneError(f"states of shape {tuple(z.shape[1:])} do not fit a model of shape {shape}.")
        levels = torch.as_tensor(sigma, dtype=torch.float64, device="cpu")
        if levels.ndim == 0:
            levels = levels.expand(len(z))
        if levels.shape != (len(z),):
            raise SigmaTuneError(
                f"sigma must be one number or one per row ({len(z)}), not of shape {tuple(levels.shape)}."
            )
        return checked_output(self.denoise(z, levels), z, f"{type(self).__name__}.denoise")

    def snap(self, sigmas: Array) -> Array:
        """Moves noise levels onto those that the network distinguishes: the identity for float-time networks.

        A network of whole timesteps gets t rounded and sigma recomputed from the rounded t, so that the pair agrees.

        Raises:
            SigmaTuneError: if a level is out of range or two levels fall on the same timestep.
        """
        sigmas = np.asarray(sigmas, dtype=np.float64)
        self.path.check(sigmas)
        if not self.integer_time:
            return sigmas
        t = np.rint(self.path.time(sigmas))
        if np.any(np.diff(t, axis=-1) == 0):
            raise SigmaTuneError(
                f"this network accepts whole timesteps only and {sigmas.shape[-1]} levels fall on "
                f"{len(np.unique(t))} of them; ask for fewer steps or wider spacing."
            )
        return self.whole_time(sigmas)

    def whole_time(self, sigmas: Array) -> Array:
        """The levels of the whole timesteps nearest to some levels, which may repeat."""
        return self.path.sigma(np.rint(self.path.time(sigmas)))


def checked_output(output: Any, z: torch.Tensor, what: str) -> torch.Tensor:
    """Returns the output of a network or function, if it has the shape and the device of its input.

    Args:
        output: The output.
        z: The input, (B, *shape).
        what: Its name in the message.

    Raises:
        SigmaTuneError: otherwise.
    """
    if not isinstance(output, torch.Tensor):
        raise SigmaTuneError(
            f"{what} must return a tensor shaped like x, {tuple(z.shape)}, not {type(output).__name__}."
        )
    if output.shape != z.shape:
        raise SigmaTuneError(f"{what} must return a tensor shaped like x, {tuple(z.shape)}, not {tuple(output.shape)}.")
    if not output.is_floating_point():
        raise SigmaTuneError(f"{what} must return floating-point numbers, not {output.dtype}.")
    if output.device != z.device:
        raise SigmaTuneError(
            f"{what} must return a tensor on the device of x, {z.device}, not on {output.device}; load it with device=."
        )
    return output


class Wrapper(Denoiser):
    """A denoiser around another; everything that is not overridden comes from the inner one."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner = inner
        self.shape, self.path, self.dtype, self.device = inner.shape, inner.path, inner.dtype, inner.device
        self.integer_time, self.default_schedule = inner.integer_time, inner.default_schedule
        self.value_range, self.guidance = inner.value_range, inner.guidance
        self.network_dtype, self.conditioning = inner.network_dtype, inner.conditioning
        self.ports, self.solver_options = inner.ports, inner.solver_options

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.inner(z, sigma)

    def rows(self, indices: Sequence[int], padding: int = 0) -> Denoiser:
        inner = self.inner.rows(indices, padding)
        return self if inner is self.inner else self._around(inner)

    def conditioned(self, indices: Sequence[int], labels: Sequence[str | None] | None, ends: Array | None) -> Denoiser:
        inner = self.inner.conditioned(indices, labels, ends)
        return self if inner is self.inner else self._around(inner)

    def split(self, parts: Mapping[str, range]) -> Denoiser:
        inner = self.inner.split(parts)
        return self if inner is self.inner else self._around(inner)

    def with_path(self, path: NoisePath) -> Denoiser:
        other = self._around(self.inner.with_path(path))
        other.path = path
        return other

    def parts(self) -> Sequence[Denoiser]:
        return [self if part is self.inner else self._around(part) for part in self.inner.parts()]

    def subject(self) -> object:
        return self.inner.subject()

    def modules(self) -> Sequence[torch.nn.Module]:
        return self.inner.modules()

    def renew(self) -> int:
        return self.inner.renew()

    def is_model_of(self, fingerprint: str) -> bool:
        return self.inner.is_model_of(fingerprint)

    def _around(self, inner: Denoiser) -> Denoiser:
        """This wrapper around another denoiser, with shared records."""
        other = copy(self)
        other.inner = inner
        return other

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        return self.inner.pixel_shape

    def conditions(self) -> str:
        return self.inner.conditions()

    def decoder(self) -> str:
        return self.inner.decoder()

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner.decode(x)

    def remedy(self) -> str:
        return self.inner.remedy()

    def fingerprint(self) -> str:
        return self.inner.fingerprint()

    def calls_at(self, sigma: float) -> int:
        return self.inner.calls_at(sigma)

    def cost_changes(self) -> Sequence[float]:
        return self.inner.cost_changes()


class Counted(Wrapper):
    """Counts the network evaluations.

    Attributes:
        calls: Batches seen, each times the network evaluations that its level costs per row.
        images: Network evaluations of single rows, padding rows included.
    """

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner)
        self._count = {"calls": 0, "images": 0}  # shared with the wrappers of single rows

    @property
    def calls(self) -> int:
        return self._count["calls"]

    @property
    def images(self) -> int:
        return self._count["images"]

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        cost = [self.calls_at(level) for level in sigma.tolist()]
        self._count["calls"] += max(cost)
        self._count["images"] += sum(cost)
        return self.inner(z, sigma)


class Observed(Wrapper):
    """Passes every (z, sigma, x0) to a function."""

    def __init__(self, inner: Denoiser, watch: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__(inner)
        self._watch = watch

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        x0 = self.inner(z, sigma)
        self._watch(z, sigma, x0)
        return x0


class Guided(Denoiser):
    r"""Applies classifier-free guidance inside an interval of noise levels.

    .. math:: D_w = D_u + w (D_c - D_u) \text{ for } \sigma \in (a, b], \quad D_c \text{ elsewhere}

    Inside the interval a call costs two network evaluations, and :meth:`calls_at` says so.

    References:
        | Classifier-Free Diffusion Guidance (Ho and Salimans, 2022), https://arxiv.org/abs/2207.12598
        | Applying Guidance in a Limited Interval (Kynkaanniemi et al., 2024), https://arxiv.org/abs/2404.07724

    Args:
        conditional, unconditional: Denoisers of one model, of equal shape and path.
        scale: w; 1 is no guidance.
        interval: (a, b]; all levels by default.

    Raises:
        SigmaTuneError: if the two do not fit together or the interval is empty.
    """

    def __init__(
        self,
        conditional: Denoiser,
        unconditional: Denoiser,
        scale: float,
        interval: tuple[float, float] = (0.0, float("inf")),
    ) -> None:
        if conditional.shape != unconditional.shape or conditional.path.spec() != unconditional.path.spec():
            raise SigmaTuneError("the conditional and the unconditional denoiser must share shape and noise path.")
        if not (np.isfinite(scale) and 0 <= interval[0] < interval[1]):
            raise SigmaTuneError(f"need a finite scale and an interval 0 <= a < b, got {scale} and {interval}.")
        self.conditional, self.unconditional = conditional, unconditional
        self.scale, self.interval = float(scale), (float(interval[0]), float(interval[1]))
        self.shape, self.path = conditional.shape, conditional.path
        self.dtype, self.device = conditional.dtype, conditional.device
        self.network_dtype = conditional.network_dtype
        self.integer_time, self.default_schedule = conditional.integer_time, conditional.default_schedule
        self.value_range = conditional.value_range
        self.concurrent = conditional.concurrent and unconditional.concurrent
        ends = [end if np.isfinite(end) else "inf" for end in self.interval]
        self.guidance = {"scale": self.scale, "interval": ends}

    def _inside(self, sigma: float) -> bool:
        return self.scale != 1 and self.interval[0] < sigma <= self.interval[1]

    def calls_at(self, sigma: float) -> int:
        conditional = self.conditional.calls_at(sigma)
        return conditional + self.unconditional.calls_at(sigma) if self._inside(sigma) else conditional

    def cost_changes(self) -> Sequence[float]:
        return [*self.interval, *self.conditional.cost_changes(), *self.unconditional.cost_changes()]

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        guided = self.conditional(z, sigma)
        inside = torch.tensor([self._inside(level) for level in sigma.tolist()])
        if not inside.any():
            return guided
        # The whole batch, so that the network always sees one size and a row does not depend on its neighbours.
        plain = self.unconditional(z, sigma)
        mask = inside.to(z.device).view(-1, *[1] * (z.ndim - 1))
        return torch.where(mask, plain + self.scale * (guided - plain), guided)

    def rows(self, indices: Sequence[int], padding: int = 0) -> Denoiser:
        return self._around(self.conditional.rows(indices, padding), self.unconditional.rows(indices, padding))

    def conditioned(self, indices: Sequence[int], labels: Sequence[str | None] | None, ends: Array | None) -> Denoiser:
        return self._around(
            self.conditional.conditioned(indices, labels, ends), self.unconditional.conditioned(indices, None, ends)
        )

    def split(self, parts: Mapping[str, range]) -> Denoiser:
        return self._around(self.conditional.split(parts), self.unconditional.split(parts))

    def with_path(self, path: NoisePath) -> Denoiser:
        return self._around(self.conditional.with_path(path), self.unconditional.with_path(path))

    def _around(self, conditional: Denoiser, unconditional: Denoiser) -> Denoiser:
        if conditional is self.conditional and unconditional is self.unconditional:
            return self
        return Guided(conditional, unconditional, self.scale, self.interval)

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        return self.conditional.pixel_shape

    def conditions(self) -> str:
        sides = [side.conditions() for side in (self.conditional, self.unconditional)]
        return sides[0] if not sides[1] else "/".join(sides)

    def decoder(self) -> str:
        return self.conditional.decoder()

    def parts(self) -> Sequence[Denoiser]:
        return [*self.conditional.parts(), *self.unconditional.parts()]

    def renew(self) -> int:
        return self.conditional.renew() + self.unconditional.renew()

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.conditional.decode(x)

    def remedy(self) -> str:
        return self.conditional.remedy()

    def fingerprint(self) -> str:
        return (
            f"{self.conditional.fingerprint()}|{self.unconditional.fingerprint()}|cfg {self.scale!r} {self.interval!r}"
        )
