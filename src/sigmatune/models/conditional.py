r"""A diffusers network conditioned on a class, the ends of its schedule, or an image, as a denoiser.

.. math:: D(z; \sigma \mid y, \lambda(0), \lambda(1), c)

All rows share one condition, or row i takes entry i of a list, which repeats (:meth:`ConditionalDenoiser.given`), or a
rule decides the condition of each row (:meth:`ConditionalDenoiser.conditioned`). Without a class, a model that was
trained with dropped labels is the unconditional model. :meth:`ConditionalDenoiser.guided` is classifier-free guidance.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser, Guided
from sigmatune.core.identity import Identity
from sigmatune.models.conditioning import Conditioned, Conditioning
from sigmatune.models.diffusers_denoiser import DiffusersDenoiser
from sigmatune.models.pipeline import shares
from sigmatune.models.predictions import Prediction
from sigmatune.noise import Array, NoisePath
from sigmatune.support.errors import SigmaTuneError, unknown_name
from sigmatune.support.options import plain

if TYPE_CHECKING:
    from diffusers import UNet2DModel

TOLD = ("labels", "ends", "images")
"""The possible conditions, each with one entry for all rows or several."""


class ConditionalDenoiser(DiffusersDenoiser):
    """Wraps a conditional UNet2DModel or SD3Transformer2DModel; otherwise like :class:`DiffusersDenoiser`.

    Args:
        network: The diffusers network.
        path: The model's noise path.
        prediction: The network's prediction type.
        conditioner: Embeds its conditions; None for a UNet2DModel with ``num_class_embeds``, whose classes are "0",
            "1", ...
        sample_size: Height and width, or one number for both; the network's own by default.
        device: Where to move the network.

    Attributes:
        classes: Names of the classes; none for a model without classes.
        labels, ends, images: Its conditions: (1 or R,), (1 or R, 2) and (1 or R, channels, H, W).

    Raises:
        SigmaTuneError: if the network does not fit the path.
    """

    def __init__(
        self,
        network: UNet2DModel,
        path: NoisePath,
        prediction: str | Prediction,
        conditioner: Conditioning | None = None,
        *,
        sample_size: int | tuple[int, int] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(network, path, prediction, sample_size=sample_size, device=device, told=True)
        self.conditioner = conditioner
        count = 0 if conditioner is not None else self.network.config.num_class_embeds  # type: ignore[attr-defined]
        self.classes = tuple(map(str, range(count or 0))) if conditioner is None else conditioner.classes
        self.module = Conditioned(self.network, conditioner)  # type: ignore[arg-type]
        self.module.to(self.device)
        self._identity = Identity(self.module)
        self._pinned: str | None = None
        self._places: dict[str, dict[int, int]] = {}
        self._parts: tuple[tuple[range, range], ...] = ()
        self._indices: tuple[int, ...] | None = None
        self.labels: torch.Tensor | None = None
        self.ends: torch.Tensor | None = None
        self.images: torch.Tensor | None = None
        if conditioner is not None and conditioner.ends:
            low, high = conditioner.default_ends or (path.sigma_min, path.sigma_max)
            self.ends = torch.tensor([[low, high]], device=self.device)

    # -------------------------------------------------------------------------------------------------- its conditions

    def given(
        self,
        label: str | Sequence[str] | None = None,
        *,
        ends: tuple[float, float] | None = None,
        images: torch.Tensor | None = None,
    ) -> ConditionalDenoiser:
        """Returns the denoiser with the given conditions.

        Args:
            label: A class, or a list that repeats, of which row i takes entry i; None for no class, if the network was
                trained for it.
            ends: sigma_min and sigma_max of the schedule; the model's default if absent.
            images: One image for all rows or several, as for labels, (1 or R, channels, H, W).

        Raises:
            SigmaTuneError: for an unknown class, or a condition that this network does not take.
        """
        other = self._copy()
        other._places = {}
        other.labels = None if label is None else self._index([label] if isinstance(label, str) else label)
        if ends is not None:
            if self.ends is None:
                raise SigmaTuneError("this network does not take the ends of a schedule; leave them out.")
            other.ends = torch.tensor([ends], dtype=torch.float32, device=self.device)
        if images is not None:
            wanted = 0 if self.conditioner is None else self.conditioner.images
            if images.ndim != 4 or images.shape[1:] != (wanted, *self.shape[1:]):
                raise SigmaTuneError(
                    f"this network takes images of shape {(wanted, *self.shape[1:])}, not {tuple(images.shape[1:])}."
                )
            other.images = images.to(self.device, self.dtype)
        return other

    def conditioned(
        self, indices: Sequence[int], labels: Sequence[str | None] | None, ends: Array | None
    ) -> ConditionalDenoiser:
        other = self._copy()
        other._pinned = self.fingerprint()  # the conditions of rows are in conditions()
        places = {index: place for place, index in enumerate(indices)}
        if labels is not None and self.classes:
            other.labels, other._places = self._index(labels), {**other._places, "labels": places}
        if ends is not None and self.ends is not None:
            other.ends = torch.tensor(np.array(ends), dtype=torch.float32, device=self.device)
            other._places = {**other._places, "ends": places}
        return other

    def rows(self, indices: Sequence[int], padding: int = 0) -> Denoiser:
        other = copy.copy(self)
        other._indices = tuple(indices)
        return other

    def split(self, parts: Mapping[str, range]) -> Denoiser:
        count = 1 if self.labels is None or "labels" in self._places else len(self.labels)
        if count == 1:
            return self
        if count < len(parts):
            raise SigmaTuneError(
                f"{', '.join(name.replace('_', '-') for name in parts)} must use different labels, so give at "
                f"least {len(parts)} different ones, or one for all, not {count}."
            )
        sizes = shares(count, [len(part) for part in parts.values()])
        edges = np.cumsum([0, *sizes]).tolist()
        own = self._copy()
        own._parts = tuple(
            (part, range(a, b)) for part, a, b in zip(parts.values(), edges[:-1], edges[1:], strict=True)
        )
        own.conditioning = {"conditions": dict(zip(parts, sizes, strict=True))}
        return own

    def conditions(self) -> str:
        """A digest of the rows' separate conditions; empty if all rows share one."""
        several = {name: value for name in TOLD if (value := getattr(self, name)) is not None and self._by_row(name)}
        if not several:
            return ""
        digest = hashlib.sha256(repr((self._places, self._parts)).encode())
        for value in several.values():
            digest.update(value.cpu().numpy().tobytes())
        return digest.hexdigest()

    def without_class(self) -> ConditionalDenoiser:
        """The denoiser without a class, whatever the rows' classes are.

        Raises:
            SigmaTuneError: if the network was never trained without a class.
        """
        if self.conditioner is None or not self.classes:
            raise SigmaTuneError(
                "this network was never trained without classes, so classifier-free guidance cannot work; leave "
                "guidance out."
            )
        other = self._copy()
        other.labels, other.classes = None, ()
        return other

    def guided(self, scale: float, interval: tuple[float, float] = (0.0, float("inf"))) -> Guided:
        """Classifier-free guidance inside an interval of noise levels, see :class:`sigmatune.core.denoiser.Guided`."""
        return Guided(self, self.without_class(), scale, interval)

    def _copy(self) -> ConditionalDenoiser:
        other = copy.copy(self)
        other._pinned, other._indices = None, None
        return other

    def _index(self, labels: Sequence[str | None]) -> torch.Tensor:
        unknown = next((label for label in labels if label is not None and label not in self.classes), None)
        if unknown is not None:
            raise unknown_name("class", str(unknown), self.classes)
        if None in labels and self.conditioner is None:
            raise SigmaTuneError("this network needs a class; it was never trained without one.")
        index = {None: len(self.classes)} | {label: i for i, label in enumerate(self.classes)}
        return torch.tensor([index[label] for label in labels], device=self.device)

    # ------------------------------------------------------------------------------------------------------------- calls

    def evaluate(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        labels, ends, images = (self._of_batch(name, len(x_t)) for name in TOLD)
        if labels is None and self.module.indices:
            raise SigmaTuneError("this network needs a class; choose one with label=.")
        if images is None and self.conditioner is not None and self.conditioner.images:
            raise SigmaTuneError("this network needs an image; give it one with given(images=...).")
        output: torch.Tensor = self.module(x_t, t, labels, ends, images)
        return output[:, : self.shape[0]]

    def _by_row(self, name: str) -> bool:
        return name in self._places or len(getattr(self, name)) > 1

    def _of_batch(self, name: str, batch: int) -> torch.Tensor | None:
        """The conditions of the rows of a batch; padding rows get those of the first row."""
        value: torch.Tensor | None = getattr(self, name)
        if value is None:
            return None
        if not self._by_row(name):
            return value.expand(batch, *value.shape[1:])
        if self._indices is None or len(self._indices) > batch:
            raise SigmaTuneError("this model has a condition for each row; select rows with rows().")
        places = [self._place(name, index, len(value)) for index in self._indices]
        return value[[*places, *places[:1] * (batch - len(places))]]

    def _place(self, name: str, index: int, count: int) -> int:
        if name in self._places:
            if index not in self._places[name]:
                raise SigmaTuneError(f"this model has no condition for row {index}.")
            return self._places[name][index]
        if name == "labels":
            for part, own in self._parts:
                if index in part:
                    return own[(index - part.start) % len(own)]
        return index % count

    def fingerprint(self) -> str:
        """A digest of the weights, the path, the prediction type and the conditions."""
        if self._pinned is not None:
            return self._pinned
        weights, _, unsaved = super().fingerprint().partition("|")
        digest = hashlib.sha256(weights.encode())
        for name in TOLD:
            value = getattr(self, name)
            digest.update(b"|" if value is None else value.cpu().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}{unsaved and '|'}{unsaved}"

    def identity(self) -> object:
        config: Any = getattr(self.module.backbone, "config", {})
        public = {key: value for key, value in config.items() if not key.startswith("_")}
        told = None if self.conditioner is None else self.conditioner.config()
        return plain([sorted(public.items()), self.shape, told])


class Tellable(Protocol):
    """A denoiser that takes classes as a condition."""

    classes: tuple[str, ...]

    def given(self, label: str | Sequence[str] | None = None) -> Self:
        """The denoiser conditioned on a class, or on one for each row."""

    def guided(self, scale: float, interval: tuple[float, float]) -> Guided:
        """The denoiser with classifier-free guidance."""


Model = TypeVar("Model", bound=Tellable)


def conditional(
    model: Model,
    *,
    label: str | None = None,
    labels: Sequence[str | int] | None = None,
    guidance: float | None = None,
    interval: tuple[float, float] = (0.0, float("inf")),
) -> Model | Guided:
    """Applies the condition options of :func:`sigmatune.load` to a model.

    Args:
        model: The model.
        label: The class of all rows.
        labels: Classes by name or number; row i takes entry i, and the list repeats.
        guidance: Scale of classifier-free guidance; none by default.
        interval: (a, b], the noise levels at which guidance is on.

    Raises:
        SigmaTuneError: for an unknown class, or a model that cannot be guided.
    """
    if label is not None and labels is not None:
        raise SigmaTuneError("give label= for all rows or labels= for a cycle of labels, not both.")
    chosen: Sequence[str | int] | None = [label] if label is not None else labels
    if chosen is not None:
        if not model.classes:
            raise SigmaTuneError("this network has no classes; leave the label out.")
        numbers = range(len(model.classes))
        named = [model.classes[one] if isinstance(one, int) and one in numbers else str(one) for one in chosen]
        model = model.given(named)
    return model if guidance is None or guidance == 1 else model.guided(guidance, interval)
