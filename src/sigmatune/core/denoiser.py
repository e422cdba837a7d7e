r"""The only interface to a model: an estimate of the clean data from the noisy data.

.. math:: D(z; \sigma) \approx E[x_0 \mid z], \quad z = \frac{x_0 + \sigma \epsilon}{\sqrt{1 + \sigma^2}}

``z`` is the unit state: it has unit scale at every level, so a flow model's first level, sigma = inf, is an ordinary
start (z is pure noise). An adapter in :mod:`sigmatune.models` turns every network, whatever its prediction type and
scaling, into this function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch

from sigmatune.core.identity import same
from sigmatune.core.origin import Origin
from sigmatune.noise import Array, NoisePath
from sigmatune.support.errors import SigmaTuneError, check_kind


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
        loaded_with: The options of :func:`sigmatune.load` that chose prompts, labels, guidance and size, JSON-ready; stored
            with tuned plans, so that the same model can be loaded from the plan alone.
        origin: Where it came from, if :func:`sigmatune.load` returned it or one that it was derived from.
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
    loaded_with: Mapping[str, Any] = {}
    origin: Origin | None = None

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

    def __repr__(self) -> str:
        size = " x ".join(str(n) for n in self.shape)
        return f"{type(self).__name__}({size}, {self.path!r}, {self.arithmetic()} on {self.device})"

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
        # Elementwise kernels treat strided and contiguous numbers differently in the last bit, and whether levels are a
        # column of a table depends on the batch.
        z, levels = z.contiguous(), levels.contiguous()
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


def check_denoiser(model: object) -> None:
    """Refuses a model that has not been loaded.

    Raises:
        SigmaTuneError: naming the function that loads it.
    """
    check_kind(model, Denoiser, "the model must be a denoiser; load it with st.load")


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
    if output.layout != torch.strided:
        raise SigmaTuneError(f"{what} must return a dense tensor, not one of layout {output.layout}.")
    if output.device != z.device:
        raise SigmaTuneError(
            f"{what} must return a tensor on the device of x, {z.device}, not on {output.device}; load it with device=."
        )
    return output
