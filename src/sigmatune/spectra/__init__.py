"""Spectra: the power of images at each frequency.

>>> import torch
>>> spectrum_of(torch.full((2, 3, 8, 8), 0.5)).power.tolist()
[16.0, 0.0, 0.0, 0.0, 0.0]
"""

from __future__ import annotations

from sigmatune.spectra.images import Images
from sigmatune.spectra.measured_spectra import Measured, measure
from sigmatune.spectra.power_laws import broken_power_law, power_law
from sigmatune.spectra.rapsd import WINDOWS, rapsd
from sigmatune.spectra.rings import rings
from sigmatune.spectra.sources import open_images
from sigmatune.spectra.spectrum import QUANTISATION, Running, Spectrum, spectrum_of

__all__ = [
    "QUANTISATION",
    "WINDOWS",
    "Images",
    "Measured",
    "Running",
    "Spectrum",
    "broken_power_law",
    "measure",
    "open_images",
    "power_law",
    "rapsd",
    "rings",
    "spectrum_of",
]
