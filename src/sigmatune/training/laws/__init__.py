"""Noise laws for training, by name: the distributions of training levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigmatune.support.registry import Registry
from sigmatune.training.laws import cosine, ddpm, levels, log_normal, spectral_instance, spectral_normal
from sigmatune.training.laws import log_uniform_noise as log_uniform
from sigmatune.training.laws import logit_normal as flow
from sigmatune.training.laws import spectral_mean as spectral
from sigmatune.training.laws.base import Domain, Drawn, Law, LawKind

_MODULES = (ddpm, log_normal, log_uniform, cosine, flow, spectral_normal, spectral, spectral_instance, levels)

LAWS: Registry[LawKind] = Registry(
    "noise law",
    {module.KIND.name: module.KIND for module in _MODULES},
    aliases={"edm": "log-normal", "sid2": "cosine", "spectral-global": "spectral"},
)
"""Noise laws by name."""


def noise_law(name: str, domain: Domain, options: Mapping[str, Any] | None = None) -> Law:
    """Makes a noise law.

    Args:
        name: A name in :data:`LAWS`.
        domain: The model and data.
        options: The law's own options.

    Raises:
        SigmaTuneError: for an unknown name or option.
    """
    return LAWS[name].with_options(domain, options or {})


__all__ = ["LAWS", "Domain", "Drawn", "Law", "LawKind", "noise_law"]
