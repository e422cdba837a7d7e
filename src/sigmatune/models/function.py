"""A plain function D(x, sigma), as k-diffusion means it, is a denoiser."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError
from sigmatune.models.network import name_of, pick_device
from sigmatune.noise import VE

Function = Callable[[torch.Tensor, torch.Tensor], Any]


class FunctionDenoiser(Denoiser):
    r"""Calls D(x, sigma) on the variance-exploding state :math:`x = x_0 + \sigma \epsilon = \sqrt{1 + \sigma^2} \, z`.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364

    Args:
        function: (x, sigma) -> x0; x (B, *shape), sigma (B,) in x's dtype.
        shape: Shape of one sample.
        path: Its range bounds the levels.
        name: Goes into the fingerprint; the function's qualified name when empty.

    Raises:
        SigmaTuneError: in use, if a level is out of range or the function returns anything but a tensor shaped like x.
    """

    def __init__(self, function: Function, shape: tuple[int, ...], path: VE, name: str = "") -> None:
        self.function, self.shape, self.path = function, shape, path
        self.name = name or name_of(function)

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.path.check(sigma.numpy(force=True))
        level = sigma.to(z)
        scale = torch.hypot(sigma, torch.ones_like(sigma)).to(z).view(-1, *[1] * (z.ndim - 1))
        x0 = self.function(scale * z, level)
        if isinstance(x0, torch.Tensor) and x0.shape == z.shape:
            return x0.to(z.dtype)
        got = tuple(x0.shape) if isinstance(x0, torch.Tensor) else type(x0).__name__
        raise SigmaTuneError(f"D(x, sigma) must return a tensor shaped like x, {tuple(z.shape)}, not {got}.")

    def fingerprint(self) -> str:
        return f"function:{self.name}:{self.shape}:{self.path.spec()}"


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
    """Wraps a k-diffusion-style denoiser D(x, sigma).

    Args:
        function: (x, sigma) -> x0 with x = x0 + sigma eps, (B, *shape), and sigma (B,).
        shape: Shape of one sample, such as (3, 32, 32).
        sigma_min, sigma_max: The range of levels that the function knows, 0 < min < max < inf.
        device: Where the function wants its input.
        dtype: Dtype of the states.
        name: A name that changes when the function changes; plan files store it.

    Raises:
        SigmaTuneError: if the function cannot be called, or the shape or the range is none.
    """
    if not callable(function):
        raise SigmaTuneError(f"a denoiser must be callable as D(x, sigma), and {type(function).__name__} is not.")
    try:
        shape = tuple(operator.index(n) for n in shape)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise SigmaTuneError("shape must be the shape of one sample, such as (3, 32, 32).")
    made = FunctionDenoiser(function, shape, VE(sigma_min, sigma_max), name)
    made.device, made.dtype, made.default_schedule = pick_device(device), dtype, ("karras", {})
    return made
