r"""The objective of a training step.

The trainer handles steps, averages and checkpoints; an :class:`Objective` defines the learning task: from a batch to
one loss per image. This module has the usual one,

.. math:: u \sim U(0, 1), \quad \sigma = \sigma(u), \quad L = w(\sigma) \, [-d\lambda/du] \,
          \frac{\lVert D(x_0 + \sigma\epsilon; \sigma \mid y, \lambda(0), \lambda(1)) - x_0 \rVert^2}{C H W}

with a noise law (:mod:`sigmatune.training.laws`) and a weight (:mod:`sigmatune.training.weights`). The code that
samples from the network (:class:`sigmatune.models.network.NetworkDenoiser`) also turns it into D here, so any noise
path and any prediction type train alike. A network of another kind, such as one with two channels per colour for phase
space (:mod:`sigmatune.training.score_matching`), has its own objective.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sigmatune.models.network import NetworkDenoiser
from sigmatune.models.predictions import Prediction
from sigmatune.noise import NoisePath
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training import draws
from sigmatune.training.data import Batch
from sigmatune.training.laws.base import Law
from sigmatune.training.weights.base import Function


class Objective(ABC):
    """From a network and a batch to one loss per image.

    Attributes:
        scale: Factor of all losses.
    """

    scale: float = 1.0

    @abstractmethod
    def losses(self, network: torch.nn.Module, batch: Batch, seed: int) -> torch.Tensor:
        """The losses, (B,), differentiable in the network's parameters.

        Args:
            network: As accelerate wraps it; called once, so that gradients are shared correctly.
            batch: The images, on the CPU.
            seed: Of the training; all randomness has to come from :mod:`sigmatune.training.draws`, by step and row.
        """


@dataclass(frozen=True, eq=False)
class Denoising(Objective):
    """Predicts clean images from noisy ones.

    Args:
        path: The noise path.
        prediction: The network's prediction type.
        law: The noise law.
        weight: The loss weight.
        density: Multiply by -dlambda/du, so that the law sets only how often a level is drawn.
        drop: Share of images whose class is dropped, for classifier-free guidance.
        classes: Number of the network's classes; the index ``classes`` means no class.
        told_ends: The network is conditioned on the ends of the schedule.
        told_images: The network is conditioned on the second half of the data's channels (a cascade's upsampled image).
        scale: Factor of all losses, see :func:`scale_of`.
    """

    path: NoisePath
    prediction: str | Prediction
    law: Law
    weight: Function
    density: bool = False
    drop: float = 0.1
    classes: int = 0
    told_ends: bool = False
    told_images: bool = False
    scale: float = 1.0

    def losses(self, network: torch.nn.Module, batch: Batch, seed: int) -> torch.Tensor:
        clean, image = self.split(batch.images)
        uniform = draws.uniforms(seed, batch.step, batch.rows, 2)
        drawn = self.law.draw(uniform[:, 0], clean)
        noise = draws.normals(seed, batch.step, batch.rows, clean.shape[1:])
        device = next(network.parameters()).device
        x_0, noise = clean.to(device), noise.to(device)
        weight = self.weight(drawn.sigma) * (drawn.slope if self.density else 1.0) * self.scale
        condition: dict[str, Any] = {}
        if self.classes:
            kept = torch.from_numpy(uniform[:, 1] >= self.drop) & (batch.labels >= 0)
            condition["labels"] = torch.where(kept, batch.labels, torch.full_like(batch.labels, self.classes)).to(
                device
            )
        if self.told_ends:
            condition["ends"] = torch.from_numpy(drawn.ends).float().to(device)
        if image is not None:
            condition["image"] = image.to(device)
        denoiser = NetworkDenoiser(
            lambda x_t, t: network(x_t, t, **condition)[:, : x_0.shape[1]],
            tuple(x_0.shape[1:]), self.path, self.prediction, device=device,
        )  # fmt: skip
        sigma = torch.from_numpy(drawn.sigma)
        alpha, s = (torch.from_numpy(scale).to(x_0).view(-1, 1, 1, 1) for scale in _unit(drawn.sigma))
        estimate = denoiser.denoise(alpha * x_0 + s * noise, sigma)
        return (estimate - x_0).square().flatten(1).mean(dim=1) * torch.from_numpy(weight).to(x_0)

    def split(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The learned images, and the network's image conditions."""
        if not self.told_images:
            return images, None
        half = images.shape[1] // 2
        return images[:, :half], images[:, half:]


def _unit(sigma: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return 1 / np.hypot(1, sigma), sigma / np.hypot(1, sigma)


def scale_of(law: Law, weight: Function, images: torch.Tensor, sigma_data: float, *, density: bool) -> float:
    r"""The factor that makes a loss about one at the start, whatever law and weight.

    .. math:: \text{scale}^{-1} = E_u \; w(\sigma) \, [-d\lambda/du] \, \frac{\sigma^2 \sigma_d^2}{\sigma^2 + \sigma_d^2}

    the loss of a denoiser that knows only the data's variance, such as an untrained preconditioned network. EDM's
    weight with EDM's law has scale 1.

    Args:
        law, weight, density: Of the objective.
        images: Some of the data, (B, C, H, W), for laws that depend on them.
        sigma_data: Standard deviation of the pixels.

    Raises:
        SigmaTuneError: if the loss cannot be scaled, because the weight or the slope is not finite.
    """
    u = (np.arange(256) + 0.5) / 256
    rows = np.broadcast_to(u, (len(images), len(u)))
    sigma = np.exp(-law.logsnr(rows, images) / 2)
    white = sigma**2 * sigma_data**2 / (sigma**2 + sigma_data**2)
    each = weight(sigma.ravel()).reshape(sigma.shape) * white * (law.slope(rows, images) if density else 1.0)
    mean = float(each.mean())
    if not (np.isfinite(mean) and mean > 0):
        raise SigmaTuneError("the noise law of this loss has no density to multiply with; set loss.density to false.")
    return 1 / mean
