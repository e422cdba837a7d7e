r"""Noise paths: how a model's own process mixes data and noise, and the exact inverse.

A path is the pair :math:`\alpha(t), s(t)` of the model's own state :math:`\alpha x_0 + s \epsilon`. Everything else in
SigmaTune uses the noise level

.. math:: \sigma = s / \alpha, \quad \lambda = \log \mathrm{SNR} = -2 \log \sigma,

so only two places need a path: where a network wants its own ``t`` (:meth:`NoisePath.time`), and where a
schedule family is defined over the model's time (:meth:`NoisePath.at_position`).

======== ============================= ============================== ==========================
path     alpha, s                      t                              sigma
======== ============================= ============================== ==========================
VP       alpha^2 + s^2 = 1             index into the table, 0..T-1   log-linear in the index
VE, EDM  1, sigma                      sigma, or log(sigma) / 4       as given
flow     1 - tau, tau                  T tau, after the shift         tau / (1 - tau), inf at tau = 1
======== ============================= ============================== ==========================

All functions take and return float64 numpy arrays (or floats) of any shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sigmatune.noise import beta_tables as tables
from sigmatune.noise.around import Narrowed, Paired, paired
from sigmatune.noise.flow import Flow, shift, unshift
from sigmatune.noise.path import LEVEL_TOLERANCE, TIME_TOLERANCE, Array, Levels, NoisePath, alpha_of, close, s_of
from sigmatune.noise.ve import VE
from sigmatune.noise.vp import VP, vp
from sigmatune.support.errors import SigmaTuneError


def from_spec(spec: Mapping[str, Any]) -> NoisePath:
    """Rebuilds a path from :meth:`NoisePath.spec`.

    Raises:
        SigmaTuneError: for an unknown kind or unknown fields.
    """
    fields = dict(spec)
    kind = fields.pop("kind", None)
    try:
        if kind == "vp" and "alphas_cumprod" in fields:
            return VP(np.asarray(fields.pop("alphas_cumprod"), dtype=np.float64), **fields)
        if kind == "vp":
            return vp(fields.pop("betas"), **fields)
        if kind == "ve":
            return VE(fields.pop("sigma_min"), fields.pop("sigma_max"), **fields)
        if kind == "flow":
            return Flow(fields.pop("shift"), **fields)
        if kind == "narrowed":
            return Narrowed(from_spec(fields.pop("of")), fields.pop("sigma_min"), fields.pop("sigma_max"), **fields)
        if kind in _FURTHER:
            return _FURTHER[kind](fields)
    except (KeyError, TypeError) as error:
        raise SigmaTuneError(f"the noise path {dict(spec)!r} cannot be read: {error}.") from None
    known = ", ".join(["vp", "ve", "flow", "narrowed", *_FURTHER])
    raise SigmaTuneError(f"there is no noise path of kind {kind!r}; the known ones are {known}.")


_FURTHER: dict[str, Callable[[dict[str, Any]], NoisePath]] = {}


def register(kind: str, read: Callable[[dict[str, Any]], NoisePath]) -> None:
    """Adds a kind of path that lives on a higher floor.

    Args:
        kind: The ``kind`` of its spec.
        read: Builds the path from the other fields of the spec; KeyError or TypeError mean unknown or missing fields.
    """
    _FURTHER[kind] = read


__all__ = [
    "LEVEL_TOLERANCE",
    "TIME_TOLERANCE",
    "VE",
    "VP",
    "Array",
    "Flow",
    "Levels",
    "Narrowed",
    "NoisePath",
    "Paired",
    "alpha_of",
    "close",
    "from_spec",
    "paired",
    "register",
    "s_of",
    "shift",
    "tables",
    "unshift",
    "vp",
]
