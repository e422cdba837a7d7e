"""Any network plus its noise path and prediction type is a denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser, checked_output
from sigmatune.core.digests import big, module_of, tensors_of
from sigmatune.core.identity import Identity, same
from sigmatune.models.predictions import Prediction, predictions
from sigmatune.noise import Array, NoisePath
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.pixels import unsound_weight

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class NetworkDenoiser(Denoiser):
    r"""Turns a network that predicts noise, velocity, score or data into D(z; sigma).

    .. math:: D(z; \sigma) = x_0(f(c \, x_t, t), x_t, \sigma), \quad x_t = \mathrm{scale}(\sigma) \, z

    t is the path's exact inverse of sigma, passed in float32 (float64 to a float64 network). It is rounded to a
    whole number only if the network embeds whole timesteps, and then only a sigma that
    :meth:`~sigmatune.core.denoiser.Denoiser.snap` has made consistent is accepted. Conversions run in the state's dtype with
    float64 coefficients. Gradients flow to z, to sigma and to whatever the network's parameters allow.

    Args:
        network: (x_t, t) -> output; x_t (B, *shape), t (B,).
        shape: Shape of one sample.
        path: The model's noise path.
        prediction: The prediction type: a name of :data:`~sigmatune.models.predictions.predictions` or a
            :class:`~sigmatune.models.predictions.Prediction`.
        dtype: Dtype of the network's arithmetic; states are float64 for a float64 network, else float32.
        device: The network's device.

    Raises:
        SigmaTuneError: if the prediction type does not fit the path, or needs a signal where the path has none.
    """

    def __init__(
        self,
        network: Network,
        shape: tuple[int, ...],
        path: NoisePath,
        prediction: str | Prediction,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.prediction = predictions[prediction] if isinstance(prediction, str) else prediction
        kind = process_of(path)["kind"]
        if kind not in self.prediction.paths:
            needed = " or ".join(self.prediction.paths)
            raise SigmaTuneError(
                f"prediction type {self.prediction.name!r} needs a noise path of kind {needed}, not {kind}."
            )
        if self.prediction.needs_signal and np.isinf(path.sigma_max):
            raise SigmaTuneError(
                f"a model of prediction type {self.prediction.name!r} carries no information about the data at sigma = "
                "inf, where this noise path starts; give it a path without a zero-terminal-SNR level."
            )
        self.network, self.shape, self.path = network, tuple(shape), path
        self.device, self.network_dtype = torch.device(device), dtype
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self._identity = Identity(network)

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        # The levels stay on the CPU, in float64, which some accelerators lack; only rounded coefficients travel.
        column = sigma.view(-1, *[1] * (z.ndim - 1))
        scale = of_level(self.path.state_scale, sigma, self.path).to(z).view_as(column)
        c_in = self.prediction.input_scale
        seen = scale * z if c_in is None else c_in(column).to(z) * (scale * z)
        output = self.evaluate(seen.to(self.network_dtype), self.time(sigma).to(z.device))
        output = checked_output(output, z, "the network")
        return self.prediction.x0(output.to(z.dtype), scale * z, column)  # a new copy: a network may change its input

    def evaluate(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Calls the network; override for networks with another signature."""
        return self.network(x_t, t)

    def time(self, sigma: torch.Tensor) -> torch.Tensor:
        """Returns the network's t, (B,): floats, or int64 for a whole-timestep network.

        Raises:
            SigmaTuneError: if a level is outside the model's range, or lies between two timesteps of a whole-timestep
                network.
        """
        if not self.integer_time:
            return of_level(self.path.time, sigma, self.path).to(self.dtype)
        levels = sigma.numpy(force=True)
        t = np.rint(self.path.time(levels))
        near = self.path.agrees(levels, t)
        if not near.all():
            raise SigmaTuneError(
                f"this network accepts whole timesteps only and sigma {levels[~near][0]:.6g} is between two; "
                "move the levels with snap() first."
            )
        return torch.from_numpy(t).long()

    def remedy(self) -> str:
        name = unsound_weight(self.network) if isinstance(self.network, torch.nn.Module) else None
        if name is not None:
            return f"its weight {name} holds NaN or infinity, so load it from intact files"
        if self.network_dtype != torch.float32:
            return "its weights are finite, so its arithmetic overflows: load it with dtype=torch.float32"
        return "its weights are finite, so its arithmetic overflows: check its conditions, or its training"

    def subject(self) -> object:
        return self.network

    def modules(self) -> Sequence[torch.nn.Module]:
        return self._identity.modules

    def fingerprint(self) -> str:
        """A digest of the weights, the path and the prediction type; of a function also its outputs."""
        return self._identity.text(self._digested)

    def is_model_of(self, fingerprint: str) -> bool:
        if super().is_model_of(fingerprint):
            return True
        # In files of an earlier version no blocks were summed.
        older = fingerprint.startswith("sha256:") and big(tensors_of(self._identity.modules))
        return older and same(fingerprint, self._digested(whole=True))

    def renew(self) -> int:
        return self._identity.renew(self)

    def _digested(self, *, whole: bool = False) -> str:
        said = repr((self.prediction.name, self.path.spec(), self.identity()))
        return self._identity.digest(said, self, whole=whole)

    def identity(self) -> object:
        """The identity of this network besides the weights; part of the fingerprint."""
        return name_of(module_of(self.network) or self.network)


def placed(network: Any, device: torch.device) -> Any:
    """Moves a network to a device, on a CPU in the memory format that suits its convolutions."""
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        network = network.to(memory_format=torch.channels_last)
    return network.to(device)


def process_of(path: NoisePath) -> dict[str, Any]:
    """Returns the spec of a model's whole path, even for a narrowed path."""
    spec = path.spec()
    while "of" in spec:
        spec = spec["of"]
    return spec


def pick_device(device: torch.device | str | None) -> torch.device:
    """Returns a device: the CPU for None, an accelerator if there is one for "auto".

    Raises:
        SigmaTuneError: if torch has no such device or cannot use it here.
    """
    if device == "auto":
        here = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(here)
    try:
        chosen = torch.device(device or "cpu")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError):
        raise SigmaTuneError(f"the device {str(device)!r} cannot be used here; pass 'cpu' or 'auto'.") from None
    return chosen


LIBRARIES = {"diffusers", "sigmatune", "torch", "transformers"}
"""Packages whose classes are named with their modules."""


def name_of(thing: object) -> str:
    """Returns the qualified name of a function, or of an object's class.

    The module of a user's own code is left out: it is ``__main__`` in a script, and another where the script is imported.
    """
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    library = str(named.__module__).partition(".")[0] in LIBRARIES  # code that was executed has None
    return f"{named.__module__}.{named.__qualname__}" if library else named.__qualname__


def of_level(function: Callable[[Array], Array], sigma: torch.Tensor, path: NoisePath) -> torch.Tensor:
    """Evaluates a numpy function of the noise level on a tensor, differentiably.

    Args:
        function: Elementwise, float64 to float64, such as a path's ``time``.
        sigma: Levels, float64, any shape.
        path: Bounds the levels at which the derivative is sampled.
    """
    if not sigma.requires_grad:
        return torch.from_numpy(np.asarray(function(sigma.numpy(force=True))))
    value: torch.Tensor = _OfLevel.apply(sigma, function, path)  # type: ignore[no-untyped-call]
    return value


class _OfLevel(torch.autograd.Function):
    """Differentiates a path's function by a central difference in log sigma, one-sided at the path's ends."""

    @staticmethod
    def forward(ctx: Any, sigma: torch.Tensor, function: Callable[[Array], Array], path: NoisePath) -> torch.Tensor:
        levels = sigma.numpy(force=True)
        below = np.maximum(levels * (1 - 1e-5), path.sigma_min)
        above = np.minimum(levels * (1 + 1e-5), path.sigma_max)
        with np.errstate(invalid="ignore"):
            slope = np.nan_to_num((function(above) - function(below)) / (above - below))  # 0 at sigma = inf
        ctx.save_for_backward(torch.from_numpy(slope))
        return torch.from_numpy(np.asarray(function(levels)))

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return upstream[0] * slope, None, None
