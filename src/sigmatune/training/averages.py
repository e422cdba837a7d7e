r"""Averages of the weights over training, which are sampled and saved.

.. math:: \bar\theta_k = \beta_k \bar\theta_{k-1} + (1 - \beta_k) \, \theta_k

================ ==========================================================================================================
constant         :math:`\beta_k = \min(\beta, (1 + k) / (10 + k))`: the usual one; the second term forgets the start
power            :math:`\beta_k = (1 - 1/k)^{\gamma + 1}`: the profile :math:`\propto t^\gamma`, whose width is a fixed share
                 of the training so far, :math:`\sigma_{rel} = \sqrt{(\gamma + 1) / ((\gamma + 2)^2 (\gamma + 3))}`
================ ==========================================================================================================

Reference for the second: Analyzing and Improving the Training Dynamics of Diffusion Models (Karras et al., 2024),
https://arxiv.org/abs/2312.02696
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from scipy.optimize import brentq

from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import full_options, known_options
from sigmatune.support.registry import Registry

Decay = Callable[[int], float]


def constant(*, decay: float = 0.999) -> Decay:
    """A fixed decay, smaller during the first steps.

    Args:
        decay: beta, in [0, 1).

    Raises:
        SigmaTuneError: if it is not.
    """
    if not 0 <= decay < 1:
        raise SigmaTuneError(f"the decay of an average must lie in [0, 1), not {decay!r}.")
    return lambda step: min(decay, (1 + step) / (10 + step))


def power(*, sigma_rel: float = 0.1) -> Decay:
    """A power-function profile of a given relative width.

    Args:
        sigma_rel: Width of the profile as a share of the training, in (0, 0.28): that of a flat profile is sqrt(1/12).

    Raises:
        SigmaTuneError: if it is not.
    """
    if not 0 < sigma_rel < 0.28:
        raise SigmaTuneError(f"sigma_rel must lie in (0, 0.28), not {sigma_rel!r}.")
    exponent = gamma_of(sigma_rel)
    return lambda step: (1 - 1 / step) ** (exponent + 1)


def gamma_of(sigma_rel: float) -> float:
    """The exponent whose profile has a relative width."""

    def width(gamma: float) -> float:
        return float(((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) ** 0.5)

    return float(brentq(lambda gamma: width(gamma) - sigma_rel, 0.0, 1e9, xtol=1e-12))


AVERAGES: Registry[Callable[..., Decay]] = Registry("average of weights", {"constant": constant, "power": power})
"""Averages by name."""


def trained(network: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters that are trained, by name: those that require gradients."""
    return [(name, value) for name, value in network.named_parameters() if value.requires_grad]


class Average:
    """A running average of a network's parameters, in float32, beside the network.

    Args:
        kind: A name in :data:`AVERAGES`.
        options: Its options.
        parameters: The parameters by name, whose values it starts from.

    Raises:
        SigmaTuneError: for an unknown kind or option.
    """

    def __init__(self, kind: str, options: Mapping[str, Any], parameters: Iterable[tuple[str, torch.Tensor]]) -> None:
        build = AVERAGES[kind]
        self.name = kind
        self.decay = build(**full_options(f"average {kind}", known_options(build), options))
        self.values = {name: value.detach().float().clone() for name, value in parameters}

    @torch.no_grad()
    def update(self, step: int, parameters: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Takes in the parameters after step 1, 2, ..."""
        share = 1 - self.decay(step)
        named = dict(parameters)
        torch._foreach_lerp_(list(self.values.values()), [named[name].detach().float() for name in self.values], share)
