"""A plain function D(x, sigma), by k-diffusion's convention, is a denoiser."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sigmatune.core.denoiser import Denoiser, checked_output
from sigmatune.core.digests import module_of
from sigmatune.core.identity import Identity
from sigmatune.models.network import name_of, pick_device
from sigmatune.noise import VE
from sigmatune.support.errors import SigmaTuneError

Function = Callable[[torch.Tensor, torch.Tensor], Any]

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
        scale = torch.hypot(sigma, torch.ones_like(sigma)).to(z).view(-1, *[1] * (z.ndim - 1))
        level = sigma.to(z.device, self.network_dtype, copy=True)
        x0 = self.function((scale * z).to(self.network_dtype), level)
        return checked_output(x0, z, "D(x, sigma)").to(z.dtype, copy=True)

    def subject(self) -> object:
        return self.function

    def modules(self) -> Sequence[torch.nn.Module]:
        return self._identity.modules

    def fingerprint(self) -> str:
        """Its name, shape and range, a digest of the modules that it uses, and its outputs on a probe."""
        bare = f"function:{self.name}:{self.shape}:{self.path.spec()}"
        return self._identity.text(lambda: bare + self._identity.noted(self))

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
    if not callable(function):
        raise SigmaTuneError(f"a denoiser must be callable as D(x, sigma), and {type(function).__name__} is not.")
    try:
        shape = tuple(operator.index(n) for n in shape)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise SigmaTuneError("shape must be the shape of one sample, such as (3, 32, 32).")
    if dtype not in (*HALF, torch.float32, torch.float64):
        raise SigmaTuneError(f"dtype is torch.float16, bfloat16, float32 or float64, not {dtype!r}.")
    denoiser = FunctionDenoiser(function, shape, VE(sigma_min, sigma_max), name, dtype)
    denoiser.device, denoiser.default_schedule = pick_device(device), ("karras", {})
    return denoiser
