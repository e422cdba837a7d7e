r"""Native phase-space networks: trained on (x, m), they return eps of both halves.

The folder is that of an ordinary diffusers pipeline whose UNet2DModel has 2 C channels in and out, and whose
``scheduler/scheduler_config.json`` states its training process:

.. code-block:: json

    {"_class_name": "PSLDScheduler", "prediction": "hsm-lower", "eps": 0.001, "time_scale": 1000.0,
     "process": {"gamma": 0.01, "nu": 4.01, "kappa": 0.04, "beta_start": 8.0, "beta_end": 8.0, "T": 1.0}}

The network receives (x, m) in their own scales and the time t times ``time_scale``. Such a network is not a function of
position alone, so strictly it is not a denoiser; the solvers of :mod:`sigmatune.phase_space` run it through its own
score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from sigmatune.core.denoiser import Denoiser, checked_output
from sigmatune.core.digests import module_of
from sigmatune.core.identity import Identity
from sigmatune.models.network import Network, name_of, pick_device, placed
from sigmatune.processes import PSLD, PhasePath
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import make_folder, write_text

SCHEDULER: Final = "PSLDScheduler"
"""The scheduler class name that marks a folder's network as a phase-space network."""

PREDICTIONS = ("hsm-lower", "hsm-upper", "dsm-lower", "dsm-upper")
TIME_SCALE = 1000.0


@dataclass(frozen=True)
class PSLDScheduler:
    """The training process in a network's folder; :func:`from_unet` reads it.

    It takes the place of a pipeline's scheduler and is written like one, but diffusers has no such process.

    Args:
        process: The process.
        prediction: Matching and triangular root of the network's eps: "hsm-lower", "hsm-upper", "dsm-lower" or "dsm-upper".
        eps: The first time that it was trained on.
        time_scale: The factor from t to what the network receives.
    """

    process: PSLD
    prediction: str = "hsm-lower"
    eps: float = 1e-3
    time_scale: float = TIME_SCALE

    @property
    def config(self) -> dict[str, Any]:
        """The content of ``scheduler_config.json``."""
        return {
            "_class_name": SCHEDULER,
            "prediction": self.prediction,
            "eps": self.eps,
            "time_scale": self.time_scale,
            "process": self.process.spec(),
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes ``scheduler_config.json`` into a folder, which is created."""
        make_folder(Path(folder))
        write_text(Path(folder) / "scheduler_config.json", json.dumps(self.config, indent=2) + "\n")


class PhaseSpaceNetwork(Denoiser):
    r"""Calls a phase-space network with (x, m) and returns its eps of both.

    Args:
        network: (u, time_scale t) -> eps; u (B, 2 C, H, W), t (B,).
        shape: Shape of one sample, (C, H, W), without the momentum.
        training: The process that it was trained on, and how.
        dtype: Dtype of the network's arithmetic.
        device: The network's device.

    Raises:
        SigmaTuneError: for an unknown prediction, or eps >= T.
    """

    ports = 2

    def __init__(
        self,
        network: Network,
        shape: tuple[int, ...],
        training: PSLDScheduler,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        process, prediction = training.process, training.prediction
        if prediction not in PREDICTIONS:
            raise SigmaTuneError(f"a phase-space network predicts one of {', '.join(PREDICTIONS)}, not {prediction!r}.")
        self.network, self.shape, self.process, self.prediction = network, tuple(shape), process, prediction
        self.path, self.time_scale = PhasePath(process, training.eps), float(training.time_scale)
        self.device, self.network_dtype = torch.device(device), dtype
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.solver_options = {**process.spec(), "native": prediction}
        self._identity = Identity(network)

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        t = torch.from_numpy(self.path.time(sigma.numpy(force=True))) * self.time_scale
        output = self.network(z.to(self.network_dtype, copy=True), t.to(z))  # a network may change its input
        return checked_output(output, z, "the network").to(z.dtype)

    def subject(self) -> object:
        return self.network

    def modules(self) -> Sequence[torch.nn.Module]:
        return self._identity.modules

    def fingerprint(self) -> str:
        return self._identity.text(self._digested)

    def renew(self) -> int:
        return self._identity.renew(self)

    def _digested(self) -> str:
        name = name_of(module_of(self.network) or self.network)
        said = (self.prediction, self.path.spec(), self.time_scale, self.shape, name)
        return self._identity.digest(repr(said), self)


def from_unet(unet: Any, config: Mapping[str, Any], device: torch.device | str | None = None) -> PhaseSpaceNetwork:
    """Wraps a UNet2DModel of 2 C channels according to its scheduler's configuration.

    Args:
        unet: The network.
        config: The content of ``scheduler_config.json``.
        device: Its device: None for the CPU.

    Raises:
        SigmaTuneError: if the channels are not twice those of images, or the configuration cannot be read.
    """
    known = {"process", "prediction", "eps", "time_scale"}
    fields = {key: value for key, value in config.items() if not key.startswith("_")}
    if unknown := sorted(set(fields) - known):
        raise SigmaTuneError(
            f"the configuration of a {SCHEDULER} has the fields {', '.join(sorted(known))}, not {unknown[0]!r}."
        )
    channels = unet.config.in_channels
    if channels % 2 or unet.config.out_channels != channels:
        raise SigmaTuneError(
            f"a phase-space network has twice the channels of its images in and out, not {channels} and "
            f"{unet.config.out_channels}."
        )
    size, where = unet.config.sample_size, pick_device(device)
    height, width = (size, size) if isinstance(size, int) else size
    return PhaseSpaceNetwork(
        _Called(placed(unet, where)),
        (channels // 2, height, width),
        PSLDScheduler(PSLD.from_spec(fields.pop("process", {})), **fields),
        dtype=unet.dtype,
        device=where,
    )


class _Called(torch.nn.Module):
    """A UNet2DModel as a function of two tensors; its weights still count in the fingerprint."""

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, u: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.unet(u, t, return_dict=False)[0]
        return output
