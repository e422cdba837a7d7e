r"""The radially averaged power spectral density of images (RAPSD).

.. math:: P(k) = \frac{1}{C \, n_k} \sum_{c} \sum_{\mathrm{round}(r) = k} |F_c|^2, \qquad F = \mathrm{fft2}(x) / \sqrt{HW}

The transform is orthonormal, so white noise of standard deviation s has :math:`E[P(k)] = s^2` in every ring and at
every resolution, and, corners included, :math:`\sum_k n_k P(k) = \lVert x \rVert^2 / C`.

Photographs are not periodic: the step from the right edge to the left puts a :math:`k^{-2}` cross into the FFT. A
window removes it at the price of blurring neighbouring rings; the cosine transform (DCT-II), whose extension is even,
has no step at all.

Reference: Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026), https://arxiv.org/abs/2603.19222
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import dctn
from scipy.signal import windows

from sigmatune.spectra.rings import Transform, binning
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.registry import Registry

WINDOWS: Registry[Callable[[int], npt.NDArray[np.float64]]] = Registry(
    "window",
    {
        "hann": lambda length: np.asarray(windows.hann(length + 2, sym=True)[1:-1]),  # without the zeros at its ends
        "cosine": lambda length: np.asarray(windows.cosine(length, sym=True)),
        "tukey": lambda length: np.asarray(windows.tukey(length + 2, alpha=0.25, sym=True)[1:-1]),
    },
)
"""Windows by name, each a function of the length of an axis."""


def rapsd(
    images: torch.Tensor,
    *,
    corners: bool = False,
    window: str | None = None,
    transform: Transform = "fft",
    per_channel: bool = False,
) -> torch.Tensor:
    """Measures the power P(k) of every image, averaged over rings of frequency and over channels.

    Args:
        images: (B, C, H, W), any H and W, float32 or float64.
        corners: Include the rings beyond floor(min(H, W) / 2), which are incomplete.
        window: A window in :data:`WINDOWS`, scaled to leave the power of white noise unchanged. The mean of each channel
            is subtracted first and its power added to ring 0, because otherwise it leaks into the first rings.
        transform: ``"fft"`` or ``"dct"`` (no edges, half-integer frequencies).
        per_channel: Keep the channels apart, as for latents, whose channels are not colours.

    Returns:
        (B, K), or (B, C, K) per channel; K = floor(min(H, W) / 2) + 1 without corners. The images' dtype and device.

    Raises:
        SigmaTuneError: for another shape or dtype, values that are not finite, an unknown window, or one with ``"dct"``,
            under which windowed white noise would not stay white.
    """
    if images.ndim != 4 or 0 in images.shape:
        raise SigmaTuneError(f"images must have shape (B, C, H, W), none of it empty, not {tuple(images.shape)}.")
    if images.dtype not in (torch.float32, torch.float64):
        raise SigmaTuneError(f"images must be float32 or float64, not {images.dtype}; scale and convert them first.")
    height, width = images.shape[-2:]
    bins = binning(height, width, transform, corners=corners)
    check_window(window, transform)
    mean = None
    if window is not None:
        mean = images.mean(dim=(-2, -1), keepdim=True)
        images = (images - mean) * _taper(window, height, width).to(images)
    modes = (_dct_modes if transform == "dct" else _fft_modes)(images, per_channel=per_channel)
    share = bins.count * (1 if per_channel else images.shape[1]) * (height * width if transform == "fft" else 1)
    power = bins.sums(modes).div_(torch.from_numpy(share).to(images)).view(len(images), -1, len(share))
    if mean is not None:
        dc = mean.square().flatten(1) * (height * width / float(bins.count[0]))
        power[..., 0] += dc if per_channel else dc.mean(dim=1, keepdim=True)
    if not math.isfinite(power.sum(dtype=torch.float64).item()):
        raise SigmaTuneError("an image holds NaN or an infinite value; its spectrum does not exist.")
    return power if per_channel else power[:, 0]


def _fft_modes(images: torch.Tensor, *, per_channel: bool) -> torch.Tensor:
    """Squares of the real and imaginary parts on the half plane, times HW, (B, 2 H (W // 2 + 1)), side by side in memory.

    Added up over channels, or one row per channel.
    """
    parts = torch.view_as_real(torch.fft.rfft2(images)).flatten(2)
    first, *others = [parts.flatten(0, 1)] if per_channel else parts.unbind(dim=1)
    squares = first.square_()  # in place: the transform is ours, and all of this is bound by memory
    for channel in others:
        squares.addcmul_(channel, channel)
    return squares


def _dct_modes(images: torch.Tensor, *, per_channel: bool) -> torch.Tensor:
    """The squares of the cosine transform, (B, H W), added up over channels, or one row per channel."""
    modes = dctn(images.detach().cpu().numpy(), type=2, norm="ortho", axes=(-2, -1))
    squares = torch.from_numpy(np.square(modes)).to(images).flatten(2)
    return squares.flatten(0, 1) if per_channel else squares.sum(dim=1)


def check_window(window: str | None, transform: Transform) -> None:
    """Refuses an unknown window, and any with the cosine transform.

    Args:
        window, transform: As for :func:`rapsd`.

    Raises:
        SigmaTuneError: saying what to take.
    """
    if window is None:
        return
    if transform == "dct":
        raise SigmaTuneError("the cosine transform has no edges that need a window; leave the window out.")
    WINDOWS[window]


def _taper(name: str, height: int, width: int) -> torch.Tensor:
    """The separable window, (height, width), of mean square 1."""
    make = WINDOWS[name]
    taper = np.outer(make(height), make(width))
    return torch.from_numpy(taper / np.sqrt(np.mean(taper**2)))
