r"""A diffusers network that is told a class, the ends of its schedule, or an image, is a denoiser once it has been told.

.. math:: D(z; \sigma \mid y, \lambda(0), \lambda(1), c)

What it is told is either the same for all rows, by :meth:`ConditionalDenoiser.given`, or decided row by row by a rule, by
:meth:`ConditionalDenoiser.conditioned`; :meth:`ConditionalDenoiser.at` then picks the rows of a batch. Told nothing, a model
that was trained with dropped labels is the unconditional one. :meth:`ConditionalDenoiser.guided` is classifier-free guidance.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sigmatune.denoiser import Guided
from sigmatune.errors import SigmaTuneError, unknown_name
from sigmatune.models.conditioning import Conditioned, Conditioning
from sigmatune.models.diffusers import DiffusersDenoiser
from sigmatune.models.predictions import Prediction
from sigmatune.noise import Array, NoisePath
from sigmatune.options import plain

if TYPE_CHECKING:
    from diffusers import UNet2DModel


class ConditionalDenoiser(DiffusersDenoiser):
    """Wraps a UNet2DModel or an SD3Transformer2DModel that is told something; a :class:`DiffusersDenoiser` otherwise.

    Args:
        network: The diffusers network.
        path: The model's noise path.
        prediction: What the network predicts.
        conditioning: What makes its vectors; None for a UNet2DModel with ``num_class_embeds``, whose classes are "0", "1", ...
        sample_size: Height and width, or one number for both; the network's own by default.
        device: Where to move the network.

    Attributes:
        classes: Names of the classes; none for a model that knows none.

    Raises:
        SigmaTuneError: if the network does not fit the path.
    """

    def __init__(
        self,
        network: UNet2DModel,
        path: NoisePath,
        prediction: str | Prediction,
        conditioning: Conditioning | None = None,
        *,
        sample_size: int | tuple[int, int] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(network, path, prediction, sample_size=sample_size, device=device, told=True)
        self.conditioning = conditioning
        count = 0 if conditioning is not None else self.network.config.num_class_embeds  # type: ignore[attr-defined]
        self.classes = tuple(map(str, range(count or 0))) if conditioning is None else conditioning.classes
        self.module = Conditioned(self.network, conditioning)  # type: ignore[arg-type]
        self.module.to(self.device)
        self._kept: dict[str, str] = {}
        self.labels: torch.Tensor | None = None
        self.ends: torch.Tensor | None = None
        self.images: torch.Tensor | None = None
        if conditioning is not None and conditioning.ends:
            low, high = conditioning.default_ends or (path.sigma_min, path.sigma_max)
            self.ends = torch.tensor([[low, high]])

    # -------------------------------------------------------------------------------------------------- what it is told

    def given(
        self, label: str | None = None, *, ends: tuple[float, float] | None = None, images: torch.Tensor | None = None
    ) -> ConditionalDenoiser:
        """Returns the denoiser that is told the same about every row.

        Args:
            label: A class; None for no class, which a network must have been trained for.
            ends: sigma_min and sigma_max of the schedule; the model's default where nothing is said.
            images: One image for all rows or one per row, (1 or R, channels, H, W).

        Raises:
            SigmaTuneError: for an unknown class or anything that this network is not told.
        """
        other = self._told(
            None if label is None else [label], None if ends is None else np.array([ends], dtype=np.float64)
        )
        other.labels = other.labels if label is not None else None
        if images is not None:
            wanted = 0 if self.conditioning is None else self.conditioning.images
            if images.ndim != 4 or images.shape[1:] != (wanted, *self.shape[1:]):
                raise SigmaTuneError(
                    f"this network is told images of shape {(wanted, *self.shape[1:])}, not {tuple(images.shape[1:])}."
                )
            other.images = images.to(self.device, self.dtype)
        return other

    def conditioned(self, labels: Sequence[str] | None, ends: Array | None) -> ConditionalDenoiser:
        return self._told(labels if self.classes else None, ends if self.ends is not None else None)

    def at(self, rows: Sequence[int]) -> ConditionalDenoiser:
        told = {name: value for name in TOLD if (value := getattr(self, name)) is not None and len(value) > 1}
        if not told:
            return self
        other = copy.copy(self)
        for name, value in told.items():
            setattr(other, name, value[list(rows)])
        return other

    def without_class(self) -> ConditionalDenoiser:
        """The denoiser that is told no class, whatever the rows' classes are.

        Raises:
            SigmaTuneError: if the network knows no such thing.
        """
        if self.conditioning is None or not self.classes:
            raise SigmaTuneError(
                "this network was not trained without classes, so it cannot be guided by their absence."
            )
        other = self.given(None)
        other.classes = ()
        return other

    def guided(self, scale: float, interval: tuple[float, float] = (0.0, float("inf"))) -> Guided:
        """Classifier-free guidance inside an interval of noise levels, see :class:`sigmatune.denoiser.Guided`."""
        return Guided(self, self.without_class(), scale, interval)

    def _told(self, labels: Sequence[str] | None, ends: Array | None) -> ConditionalDenoiser:
        other = copy.copy(self)
        other._fingerprint = None
        if labels is not None:
            unknown = next((label for label in labels if label not in self.classes), None)
            if unknown is not None:
                raise unknown_name("class", unknown, self.classes)
            other.labels = torch.tensor([self.classes.index(label) for label in labels], device=self.device)
        if ends is not None:
            if self.ends is None:
                raise SigmaTuneError("this network is not told the ends of a schedule; leave them out.")
            other.ends = torch.tensor(np.array(ends), dtype=torch.float32, device=self.device)
        return other

    # ------------------------------------------------------------------------------------------------------------- calls

    def evaluate(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        labels, ends, images = (_spread(getattr(self, name), len(x_t), name) for name in TOLD)
        if labels is None and self.module.indices:
            raise SigmaTuneError("this network has to be told a class; choose one with label=.")
        if images is None and self.conditioning is not None and self.conditioning.images:
            raise SigmaTuneError("this network has to be told an image; give it one with given(images=...).")
        output: torch.Tensor = self.module(x_t, t, labels, ends, images)
        return output[:, : self.shape[0]]

    def fingerprint(self) -> str:
        """A digest of the weights, the path, the prediction type and what the network is told."""
        if self._fingerprint is None:
            digest = hashlib.sha256(self._weights().encode())
            for name in TOLD:
                value = getattr(self, name)
                digest.update(b"|" if value is None else value.cpu().numpy().tobytes())
            self._fingerprint = f"sha256:{digest.hexdigest()}"
        return self._fingerprint

    def _weights(self) -> str:
        """The digest of what does not depend on what it is told; shared by all copies, for hashing takes long."""
        if "digest" not in self._kept:
            other = copy.copy(self)
            other.network, other._fingerprint = self.module, None
            self._kept["digest"] = DiffusersDenoiser.fingerprint(other)
        return self._kept["digest"]

    def identity(self) -> object:
        config: Any = getattr(self.module.backbone, "config", {})
        public = {key: value for key, value in config.items() if not key.startswith("_")}
        told = None if self.conditioning is None else self.conditioning.config()
        return plain([sorted(public.items()), self.shape, told])


TOLD = ("labels", "ends", "images")
"""What a network may be told, each with one row for all or one per row."""


def _spread(value: torch.Tensor | None, batch: int, name: str) -> torch.Tensor | None:
    """One row per row of the batch; padding rows repeat the first."""
    if value is None or len(value) == batch:
        return value
    if len(value) > batch:
        raise SigmaTuneError(
            f"the network was told {name} of {len(value)} rows, but a batch has {batch}; use at(rows)."
        )
    return torch.cat([value, value[:1].expand(batch - len(value), *value.shape[1:])])
