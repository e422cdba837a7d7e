"""Loss weights, by name: how much the error at a level of noise counts."""

from __future__ import annotations

from sigmatune.support.moved import forward_names
from sigmatune.support.registry import Registry
from sigmatune.training.weights import edm, min_snr, powers, sigmoid
from sigmatune.training.weights import spectral_bias as spectral
from sigmatune.training.weights.base import DataFacts, Function, Weight

_WEIGHTS = (
    edm.WEIGHT,
    min_snr.WEIGHT,
    sigmoid.WEIGHT,
    sigmoid.SPECTRUM,
    spectral.WEIGHT,
    powers.IMAGE,
    powers.EPSILON,
    powers.VELOCITY,
)

WEIGHTS: Registry[Weight] = Registry(
    "loss weight",
    {weight.name: weight for weight in _WEIGHTS},
    aliases={"sid2": "sigmoid", "v": "velocity", "eps": "epsilon"},
)
"""Loss weights by name."""


__getattr__ = forward_names(__name__, {"Data": "DataFacts"})
__all__ = ["WEIGHTS", "DataFacts", "Function", "Weight"]
