"""Functions that workers of the engines' tests import: a model by its import path, and pieces that say where they ran."""

from __future__ import annotations

import os
import warnings

from sigmatune.support.errors import SigmaTuneError


def shrunk(x, sigma):
    """A denoiser of Gaussian data."""
    return x / (1 + sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2)


def offset():
    return 100


def missing():
    raise SigmaTuneError("there is no folder /nowhere.")


def square(offset, i, tick):
    tick(2)
    return offset + i * i


def warned(i, tick):
    warnings.warn(f"piece {i} is small", stacklevel=1)
    return i


def last_word(i, tick):
    """Ends the process that works on it."""
    os._exit(1)


def refused(i, tick):
    raise SigmaTuneError(f"piece {i} holds NaN.")
