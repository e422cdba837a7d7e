"""A plain function is a denoiser: D(x, sigma) by k-diffusion's convention, or a network's prediction on its own path."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sigmatune.core.denoiser import Denoiser, checked_output
from sigmatune.core.digests import module_of
from sigmatune.core.identity import Identity
from sigmatune.models.network import NetworkDenoiser, name_of, pick_device, process_of
from sigmatune.noise import VE, Flow, NoisePath
from sigmatune.support.elementwise import unit_hypot
from sigmatune.support.errors import SigmaTuneError, shortened, unknown_name, visible
from sigmatune.support.options import plain

Function = Callable[[torch.Tensor, torch.Tensor], Any]

MOST_NUMBERS = 2**31
"""Numbers in one sample: 8 GiB in single precision."""

HALF = (torch.float16, torch.bfloat16)


class FunctionDenoiser(Denoiser):
    r"""Calls D(x, sigma) on the variance-exploding state :math:`x = x_0 + \sigma \epsilon = \sqrt{1 + \sigma^2} \, z`.

    The function gets its own tensors, which it may change, and its output is copied, so it may return a tensor that it
    keeps. Half-precision states would round every step by up to 0.4 %, so states are float32 then and only the
    function's input is half.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364

    Args:
        function: (x, sigma) -> x0; x (B, *shape), sigma (B,) in x's dtype.
        shape: Shape of one sample.
        path: Its range bounds the levels.
        name: Part of the fingerprint; the function's qualified name when empty.
        dtype: Dtype of the function's input.

    Raises:
        SigmaTuneError: in use, if a level is out of range or the function returns anything but numbers shaped like x, beside x.
    """

    def __init__(
        self, function: Function, shape: tuple[int, ...], path: VE, name: str = "", dtype: torch.dtype = torch.float32
    ) -> None:
        self.function, self.shape, self.path = function, shape, path
        self.name = name or name_of(module_of(function) or function)
        self.network_dtype = dtype
        self.dtype = torch.float32 if dtype in HALF else dtype
        self._identity = Identity(function)

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.path.check(sigma.numpy(force=True))
        scale = unit_hypot(sigma).to(z).view(-1, *[1] * (z.ndim - 1))
        level = sigma.to(z.device, self.network_dtype, copy=True)
        x0 = called(self.function, (scale * z).to(self.network_dtype), level, self.modules)
        return checked_output(x0, z, "D(x, sigma)").to(z.dtype, copy=True)

    def subject(self) -> object:
        return self.function

    def modules(self) -> Sequence[torch.nn.Module]:
        return self._identity.modules

    def fingerprint(self) -> str:
        """Its name, shape and range, a digest of the modules that it uses, and its outputs on a probe."""
        bare = f"function:{self.name}:{self.shape}:{self.path.spec()}"
        return self._identity.text(lambda: bare + self._identity.noted(self), probed=True)

    def renew(self) -> int:
        return self._identity.renew(self)


def from_callable(
    function: Function,
    shape: tuple[int, ...],
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    name: str = "",
) -> FunctionDenoiser:
    """Wraps a k-diffusion-style denoiser D(x, sigma), a function or a module.

    Args:
        function: (x, sigma) -> x0 with x = x0 + sigma eps, (B, *shape), and sigma (B,).
        shape: Shape of one sample, such as (3, 32, 32).
        sigma_min, sigma_max: The function's range of levels, 0 < min < max < inf.
        device: Device of the function's input.
        dtype: Dtype of the function's input: float16, bfloat16, float32 or float64.
        name: A name that is stored in plan files beside the function's outputs on a probe.

    Raises:
        SigmaTuneError: if the function cannot be called, or the shape, the range or the dtype is invalid.
    """
    check_call(function, "D(x, sigma)")
    path = VE(plain(sigma_min), plain(sigma_max))  # k-diffusion's wrappers hold them as tensors
    denoiser = FunctionDenoiser(function, checked_shape(shape), path, name, checked_dtype(dtype))
    denoiser.device, denoiser.default_schedule = pick_device(device), ("karras", {})
    return denoiser


def called(
    function: Function, x: torch.Tensor, level: torch.Tensor, modules: Callable[[], Sequence[torch.nn.Module]]
) -> Any:
    """Calls a function, and names the option that is missing if it fails because its weights are of another kind than x.

    Args:
        function: (x, level) -> output.
        x: Its input, (B, *shape).
        level: One number per row, (B,).
        modules: Returns the modules that it uses; asked only if it fails.

    Raises:
        SigmaTuneError: if it fails and its weights have another dtype, or are on another device.
    """
    try:
        return function(x, level)
    except RuntimeError as error:
        weights = [weight for module in modules() for weight in module.parameters() if weight.is_floating_point()]
        for option in ("device", "dtype"):
            mine, theirs = getattr(x, option), {getattr(weight, option) for weight in weights}
            if theirs and mine not in theirs:
                raise SigmaTuneError(
                    f"the function failed on an x of {option} {mine}, and its weights are of {min(map(str, theirs))}; load "
                    f"it with {option}={_written(min(theirs, key=str))}."
                ) from error
        raise


def _written(value: torch.dtype | torch.device) -> str:
    return f'"{value}"' if isinstance(value, torch.device) else str(value)


def check_call(function: object, how: str) -> None:
    """Refuses a function that cannot take two tensors, before any work.

    Args:
        function: The function, or a module, whose ``forward`` takes them.
        how: How it is called, such as ``"D(x, sigma)"``.

    Raises:
        SigmaTuneError: if it cannot be called so; a function without a signature, such as a built-in one, passes.
    """
    if not callable(function):
        raise SigmaTuneError(f"a denoiser must be callable as {how}, and {type(function).__name__} is not.")
    name = shortened(visible(getattr(function, "__qualname__", type(function).__name__)), 60)
    if inspect.isclass(function):
        raise SigmaTuneError(f"{name} is a class; pass an instance of it, which is called as {how}.")
    try:
        signature = inspect.signature(function.forward if isinstance(function, torch.nn.Module) else function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise SigmaTuneError(
            f"the function is called as {how}, which {name} does not take: {error}; pass a function of two arguments "
            "around it that gives it the rest."
        ) from None


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one sample, as plain numbers.

    Raises:
        SigmaTuneError: if it is none.
    """
    try:
        sides = tuple(operator.index(n) for n in shape)
    except TypeError:
        sides = ()
    if not sides or min(sides) < 1:
        raise SigmaTuneError("shape must be the shape of one sample, such as (3, 32, 32).")
    if math.prod(sides) > MOST_NUMBERS:
        raise SigmaTuneError(
            f"a sample of shape {sides} has {math.prod(sides):.2g} numbers, and at most 2^31 are taken."
        )
    return sides


def checked_dtype(dtype: torch.dtype) -> torch.dtype:
    """A dtype of floating-point numbers.

    Raises:
        SigmaTuneError: if it is none.
    """
    if dtype not in (*HALF, torch.float32, torch.float64):
        raise SigmaTuneError(f"dtype is torch.float16, bfloat16, float32 or float64, not {dtype!r}.")
    return dtype


@dataclass(frozen=True)
class FunctionProcess:
    """What a function of (x_t, t) means.

    Attributes:
        path: The noise path, whose time t is.
        prediction: What it predicts, a name of :data:`~sigmatune.models.predictions.predictions`.
        data_at: Of a flow: the end of its time where the data are, 0 or 1.
    """

    path: NoisePath
    prediction: str
    data_at: int = 0


class NetworkFunction(NetworkDenoiser):
    r"""A function of (x_t, t) that predicts noise, velocity, v or score, on the path of its own process.

    .. math:: x_\tau = (1 - \tau) x_0 + \tau \epsilon, \quad u(x_\tau, \tau) = \epsilon - x_0

    is a flow's velocity: the function gets :math:`t = \tau` in [0, 1], or :math:`1 - \tau` and the opposite sign where its data
    are at 1. On other paths t is the path's own: an index into the table of a VP path, sigma on a VE path.

    References:
        | Flow Matching for Generative Modeling (Lipman et al., 2022)
        | https://arxiv.org/abs/2210.02747

    Args:
        function: (x_t, t) -> output; x_t (B, *shape), t (B,).
        shape: Shape of one sample.
        process: What the function predicts, and in which time.
        name: Part of the fingerprint; the function's qualified name when empty.
        dtype: Dtype of the function's input.
    """

    def __init__(
        self,
        function: Function,
        shape: tuple[int, ...],
        process: FunctionProcess,
        *,
        name: str = "",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(function, shape, process.path, process.prediction, dtype=dtype)
        self.data_at, self.name = process.data_at, name

    def evaluate(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        tau, sign = t, 1
        if self.prediction.name == "flow":
            tau = t / process_of(self.path)["levels"]
            if self.data_at == 1:
                tau, sign = 1 - tau.to(x_t.dtype), -1
        output = called(self.network, x_t.clone(), tau.to(x_t.dtype), self.modules)
        return sign * checked_output(output, x_t, "the function")

    def identity(self) -> object:
        return self.name or super().identity(), self.shape, self.data_at


PREDICTS = {"velocity": "flow", "noise": "epsilon", "v": "v_prediction", "score": "score"}
"""What a function may predict besides data, with the prediction types."""

ALIASES = {"epsilon": "noise", "v_prediction": "v", "flow_prediction": "velocity"}
"""Diffusers' names of the same."""


def from_network_function(
    function: Function,
    shape: tuple[int, ...],
    predicts: str,
    *,
    path: NoisePath | None = None,
    data_at: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    name: str = "",
) -> NetworkFunction:
    """Wraps a function of (x_t, t) that predicts something other than the clean data.

    Args:
        function: (x_t, t) -> output, (B, *shape) and (B,).
        shape: Shape of one sample, such as (3, 32, 32).
        predicts: "velocity" of a flow, epsilon - x0, with t in [0, 1]; "noise", "v" or "score" on ``path``; diffusers' names
            of the same, such as "epsilon", too.
        path: The noise path, such as ``sigmatune.noise.vp("linear")`` for noise, where t is an index into its table; of a
            flow ``Flow(3.0)`` for a shift of 3. A flow without a shift and VE for a score are the defaults.
        data_at: Of a flow: 0 if t = 1 is noise, as in Stable Diffusion 3 and Flux; 1 if t = 1 is the data, and the velocity is
            x0 - epsilon.
        device, dtype, name: As for :func:`from_callable`.

    Raises:
        SigmaTuneError: for an unknown prediction, a path that does not fit it, or an invalid shape or dtype.
    """
    predicts = ALIASES.get(predicts, predicts) if isinstance(predicts, str) else predicts
    if not isinstance(predicts, str) or predicts not in PREDICTS:
        raise unknown_name("prediction of a function", predicts, ["data", *PREDICTS])
    check_call(function, "f(x_t, t)")
    if data_at not in (0, 1):
        raise SigmaTuneError(f"data_at is 0 or 1, the end of time where the data are, not {data_at!r}.")
    if predicts != "velocity" and data_at:
        raise SigmaTuneError('data_at= belongs to predicts="velocity".')
    if path is None and predicts in ("noise", "v"):
        raise SigmaTuneError(
            f'a function that predicts {predicts} needs its noise path, such as path=sigmatune.noise.vp("scaled_linear").'
        )
    process = FunctionProcess(path or (Flow() if predicts == "velocity" else VE()), PREDICTS[predicts], data_at)
    where = pick_device(device)
    model = NetworkFunction(function, checked_shape(shape), process, name=name, dtype=checked_dtype(dtype))
    model.device = where
    return model
