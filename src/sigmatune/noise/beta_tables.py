r"""Beta tables, computed so that every machine gets the same bits.

Models were trained with torch's tables: float32, from kernels whose last bits differ between processors and versions.
This module uses single additions, products, quotients and square roots, which IEEE 754 rounds identically everywhere,
in the order of torch's kernels for AVX2 and AVX-512, with which nearly every model was trained. Sines and exponentials,
which every library rounds differently, are short series of such operations in float64.

.. math:: \bar\alpha_t = \prod_{i \le t} (1 - \beta_i), \qquad \sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}

Reference: IEEE Standard for Floating-Point Arithmetic (2019), https://doi.org/10.1109/IEEESTD.2019.8766229
"""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

import numpy as np
import numpy.typing as npt

from sigmatune.noise.path import Array

Betas = npt.NDArray[np.float32]
SINE = [(-1.0) ** k / factorial(2 * k + 1) for k in range(13, -1, -1)]
EXPONENTIAL = [1.0 / factorial(k) for k in range(14, -1, -1)]


def linear(beta_start: float, beta_end: float, levels: int) -> Betas:
    """Evenly spaced betas, (T,)."""
    return _evenly(beta_start, beta_end, levels)


def scaled_linear(beta_start: float, beta_end: float, levels: int) -> Betas:
    """Betas whose square roots are evenly spaced: Stable Diffusion's, (T,)."""
    roots = _evenly(float(np.sqrt(beta_start)), float(np.sqrt(beta_end)), levels)
    return roots * roots


def cosine(levels: int) -> Betas:
    """The betas of Nichol and Dhariwal, (T,): alpha-bar is a squared cosine, here the sine of pi / 2 minus its argument."""
    left = np.pi / 2 * (1 - (np.arange(levels + 1) / levels + 0.008) / 1.008)
    sine = _series(SINE, left * left) * left
    return _of_products(sine * sine)


def laplace(levels: int) -> Betas:
    """Diffusers' table "laplace", (T,): the signal-to-noise ratio is a power of the distance to the nearer end."""
    t = np.arange(levels + 1) / levels
    root = np.sqrt(1 - 2 * np.abs(0.5 - t) + 1e-6)
    snr = np.where(t <= 0.5, 1 / root, root)
    return _of_products(np.sqrt(snr / (1 + snr)))


def sigmoid(beta_start: float, beta_end: float, levels: int) -> Betas:
    """Diffusers' table "sigmoid", of GeoDiff, (T,)."""
    x = _evenly(-6.0, 6.0, levels).astype(np.float64)
    power = _series(EXPONENTIAL, -x / 16)
    for _ in range(4):
        power = power * power
    return (1 / (1 + power)).astype(np.float32) * np.float32(beta_end - beta_start) + np.float32(beta_start)


def alphas_cumprod(betas: Betas | Sequence[float], *, zero_terminal_snr: bool = False) -> Array:
    """The running products of 1 - beta, (T,): float64 products of float32 factors, each rounded to float32.

    Args:
        betas: The table.
        zero_terminal_snr: Rescale so that the last level has no signal (Lin et al., 2023, https://arxiv.org/abs/2305.08891).
    """
    one = np.float32(1)
    products = _products(one - np.asarray(betas, dtype=np.float32))
    if zero_terminal_snr:
        root = np.sqrt(products)
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        square = root * root
        ratios = np.concatenate([square[:1], square[1:] / square[:-1]])
        products = _products(one - (one - ratios))  # the detour over betas is part of the published tables
    return products.astype(np.float64)


def _products(factors: Betas) -> Betas:
    return np.asarray(np.multiply.accumulate(factors.astype(np.float64)).astype(np.float32))


def _evenly(first: float, last: float, count: int) -> Betas:
    """torch.linspace in float32: from both ends to the middle, each product and sum rounded once."""
    a, b = np.float32(first), np.float32(last)
    step, i = np.float64((b - a) / np.float32(count - 1)), np.arange(count)
    up, down = np.float64(a) + step * i, np.float64(b) - step * (count - 1 - i)
    return np.asarray(np.where(i < count // 2, up, down).astype(np.float32))


def _of_products(bar: Array) -> Betas:
    """The betas of given running products at 0, 1/T, ..., 1; none above 0.999."""
    return np.asarray(np.minimum(1 - bar[1:] / bar[:-1], 0.999).astype(np.float32))


def _series(weights: Sequence[float], x: Array) -> Array:
    """A power series, the highest power first; one product and one sum at a time."""
    total = np.zeros_like(x)
    for weight in weights:
        total = total * x + weight
    return total
