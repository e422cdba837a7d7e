r"""Prediction types, and their conversion to an estimate of the clean data.

A network sees its own state, ``x_t`` :math:`= \alpha x_0 + s \epsilon` with :math:`\sigma = s / \alpha`, and predicts

============ ========================================== ===== ==============================================
name         predicts                                   path  x0 estimate
============ ========================================== ===== ==============================================
epsilon      :math:`\epsilon`                           VP    :math:`(x_t - s \epsilon_\theta) / \alpha`
v_prediction :math:`v = \alpha \epsilon - s x_0`        VP    :math:`\alpha x_t - s v_\theta`
sample       :math:`x_0`                                any   :math:`x_\theta`
score        :math:`\nabla \log p_\sigma(x_t)`          VE    :math:`x_t + \sigma^2 s_\theta`
flow         :math:`u = \epsilon - x_0`                 flow  :math:`x_t - \tau u_\theta`
edm          :math:`F`, see :func:`edm`                 VE    :math:`c_{skip} x_t + c_{out} F_\theta`
============ ========================================== ===== ==============================================

The functions take the network's output, the state and the levels (shaped to broadcast against the state) and are
differentiable in all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sigmatune.support.elementwise import unit_hypot
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.registry import Registry

Tensor = torch.Tensor


@dataclass(frozen=True)
class Prediction:
    """Describes what a network predicts.

    Args:
        name: The name in messages and fingerprints.
        paths: The kinds of noise path (``spec()["kind"]``) on which the formula holds.
        x0: (output, x_t, sigma) -> x0 estimate, elementwise, sigma in float64.
        input_scale: sigma -> the factor on x_t before it enters the network; 1 when absent.
        needs_signal: The formula has no value at sigma = inf, where the state holds no data.
    """

    name: str
    paths: tuple[str, ...]
    x0: Callable[[Tensor, Tensor, Tensor], Tensor]
    input_scale: Callable[[Tensor], Tensor] | None = None
    needs_signal: bool = False


def alpha_s(sigma: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns the scales of the unit state, :math:`\alpha = 1/\sqrt{1+\sigma^2}` and :math:`s = \sigma \alpha`.

    Args:
        sigma: Levels of any shape, in (0, inf]; at infinity alpha is 0 and s is 1.
    """
    return 1 / unit_hypot(sigma), 1 / unit_hypot(1 / sigma)


def from_epsilon(eps: Tensor, x_t: Tensor, sigma: Tensor) -> Tensor:
    r"""Turns predicted noise into data: :math:`x_0 = (x_t - s \epsilon) / \alpha`.

    Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020), https://arxiv.org/abs/2006.11239
    """
    alpha_t, s_t = alpha_s(sigma)
    return (x_t - s_t.to(x_t) * eps) / alpha_t.to(x_t)


def from_v(v: Tensor, x_t: Tensor, sigma: Tensor) -> Tensor:
    r"""Turns predicted velocity on the circle into data: :math:`x_0 = \alpha x_t - s v`.

    Source: Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022),
    https://arxiv.org/abs/2202.00512
    """
    alpha_t, s_t = alpha_s(sigma)
    return alpha_t.to(x_t) * x_t - s_t.to(x_t) * v


def from_sample(x0: Tensor, x_t: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG001 - all have one signature
    """Returns the predicted data itself."""
    return x0


def from_score(score: Tensor, x_t: Tensor, sigma: Tensor) -> Tensor:
    r"""Turns the score of :math:`x_t = x_0 + \sigma \epsilon` into data: :math:`x_0 = x_t + \sigma^2 \, score` (Tweedie).

    Source: Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021),
    https://arxiv.org/abs/2011.13456
    """
    return x_t + (sigma**2).to(x_t) * score


def from_velocity(u: Tensor, x_t: Tensor, sigma: Tensor) -> Tensor:
    r"""Turns a flow velocity into data: :math:`x_0 = x_t - \tau u`, :math:`\tau = \sigma / (1 + \sigma)`.

    Source: Flow Matching for Generative Modeling (Lipman et al., 2022), https://arxiv.org/abs/2210.02747
    """
    tau = 1 / (1 + 1 / sigma)
    return x_t - tau.to(x_t) * u


def edm(sigma_data: float = 0.5, *, sign: int = 1) -> Prediction:
    r"""Builds EDM's preconditioned prediction, :math:`D = c_{skip} x_t + c_{out} F_\theta(c_{in} x_t)`.

    .. math:: c_{skip} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}, \quad
              c_{out} = \frac{\pm \sigma \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad
              c_{in} = \frac{1}{\sqrt{\sigma^2 + \sigma_d^2}}

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364

    Args:
        sigma_data: Standard deviation of the data, in pixel units, > 0.
        sign: Of c_out: 1 as published, -1 for models of prediction type ``v_prediction`` in diffusers.

    Raises:
        SigmaTuneError: if sigma_data is not positive.
    """
    if not 0 < sigma_data < float("inf"):
        raise SigmaTuneError(f"sigma_data must be a positive number, not {sigma_data!r}.")

    def x0(output: Tensor, x_t: Tensor, sigma: Tensor) -> Tensor:
        square = sigma**2 + sigma_data**2
        c_skip, c_out = sigma_data**2 / square, sign * sigma * sigma_data / square.sqrt()
        return c_skip.to(x_t) * x_t + c_out.to(x_t) * output

    def c_in(sigma: Tensor) -> Tensor:
        return (sigma**2 + sigma_data**2).rsqrt()

    return Prediction(f"edm(sigma_data={sigma_data!r}, sign={sign})", ("ve",), x0, c_in)


predictions: Registry[Prediction] = Registry(
    "prediction type",
    {
        "epsilon": Prediction("epsilon", ("vp",), from_epsilon, needs_signal=True),
        "v_prediction": Prediction("v_prediction", ("vp",), from_v),
        "sample": Prediction("sample", ("vp", "ve", "flow"), from_sample),
        "score": Prediction("score", ("ve",), from_score),
        "flow": Prediction("flow", ("flow",), from_velocity),
        "edm": edm(),
    },
    aliases={"v": "v_prediction", "eps": "epsilon", "x0": "sample", "flow_prediction": "flow"},
)
