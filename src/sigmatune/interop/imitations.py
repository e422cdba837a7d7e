r"""ComfyUI's ways with a model, imitated with what is rough in them, for tests without ComfyUI.

``tools/clients/comfyui.py`` compares the same with the program itself. On a table of steps it rounds t to the nearest whole
one, starts from :math:`\sqrt{1 + \sigma^2} \epsilon` at the model's largest sigma, ends a table of zero terminal SNR at
sigma 4519 instead of infinity, and computes in float32.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from sigmatune.interop.conformance import Case, Values
from sigmatune.noise import VE, Flow, NoisePath, from_spec

Tensor = torch.Tensor

LAST_OF_ZERO_SNR = ((1 - 4.8973451890853435e-08) / 4.8973451890853435e-08) ** 0.5
"""The sigma at which ComfyUI ends a table of zero terminal SNR."""


class ModelSampling:
    """ComfyUI's ``model_sampling`` of a noise path.

    Args:
        path: A table of steps, a flow, or EDM.
    """

    def __init__(self, path: NoisePath) -> None:
        self.path = path
        if isinstance(path, Flow):
            table = path.time(path.at_position(np.arange(1.0, path.levels + 1))) / path.levels
        elif isinstance(path, VE):
            table = np.geomspace(path.sigma_min, path.sigma_max, path.levels)
        else:
            table = np.minimum(path.at_position(np.arange(1.0, path.levels + 1)), LAST_OF_ZERO_SNR)
        self.sigmas = torch.from_numpy(table).float()
        self.sigma_min, self.sigma_max = self.sigmas[0], self.sigmas[-1]

    def timestep(self, sigma: Tensor) -> Tensor:
        """What the network receives."""
        if isinstance(self.path, Flow):
            return sigma * self.path.levels
        if isinstance(self.path, VE):
            return 0.25 * sigma.log()
        distances = sigma.log() - self.sigmas.log()[:, None]
        return distances.abs().argmin(dim=0).view(sigma.shape)

    def sigma(self, timestep: Tensor) -> Tensor:
        """The inverse, for flows: tau at a time before the shift."""
        u, m = timestep / self.path.levels, float(self.path.spec()["shift"])
        return m * u / (1 + (m - 1) * u)

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:  # noqa: FBT001, FBT002
        """The start of a run from noise and an image."""
        if isinstance(self.path, Flow):
            return sigma * noise + (1 - sigma) * latent_image
        return noise * ((1 + sigma**2).sqrt() if max_denoise else sigma) + latent_image

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        """The end of a run, which may lie at a noise level."""
        return latent / (1 - sigma) if isinstance(self.path, Flow) else latent


class Model:
    """ComfyUI's model(x, sigma) around a case's data; records the pairs that the network receives."""

    def __init__(self, case: Case) -> None:
        self.path = from_spec(case["plan"]["noise_path"])
        self.inner_model = SimpleNamespace(model_sampling=ModelSampling(self.path))
        self.data = Values(case["variance"], self.path)
        self.pairs: list[tuple[float, float]] = []

    def __call__(self, x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        level = float(sigma.reshape(-1)[0])
        t = float(self.inner_model.model_sampling.timestep(sigma.reshape(-1)[:1])[0])
        if isinstance(self.path, Flow):
            level = level / (1 - level) if level < 1 else float("inf")
        elif np.isinf(self.path.sigma_max) and level >= LAST_OF_ZERO_SNR * (1 - 1e-6):
            level = float("inf")  # what ComfyUI's number there means
        self.pairs.append((t, level))
        scale = (
            self.path.state_scale(level) if isinstance(self.path, Flow) else np.hypot(1.0, min(level, LAST_OF_ZERO_SNR))
        )
        low, high = self.path.time(np.array([self.path.sigma_min, self.path.sigma_max]))
        at = float(self.path.sigma(np.clip(t, low, high)))  # the network answers for the t that it receives
        return self.data((x / float(scale)).double(), at).to(x.dtype)
