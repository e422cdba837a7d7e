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

from sigmatune.core.condition import Condition
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.guidance import Guided
from sigmatune.core.identity import Identity
from sigmatune.models.conditioning import Conditioned, Conditioning
from sigmatune.models.diffusers_denoiser import DiffusersDenoiser
from sigmatune.models.predictions import Prediction
from sigmatune.noise import Array, NoisePath
from sigmatune.support.errors import SigmaTuneError, unknown_name
from sigmatune.support.options import plain, recordable

if TYPE_CHECKING:
    from diffusers import UNet2DModel

CONDITIONS = ("labels", "ends", "images")
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
        super().__init__(network, path, prediction, sample_size=sample_size, device=device, conditional=True)
        self.conditioner = conditioner
        count = 0 if conditioner is not None else self.network.config.num_class_embeds  # type: ignore[attr-defined]
        self.classes = tuple(map(str, range(count or 0))) if conditioner is None else conditioner.classes
        self.module = Conditioned(self.network, conditioner)  # type: ignore[arg-type]
        self.module.to(self.device)
        self._identity = Identity(self.module)
        self._pinned: str | None = None
        self._indices: tuple[int, ...] | None = None
        self._conditions: dict[str, Condition[torch.Tensor]] = {}
        if conditioner is not None and conditioner.ends:
            low, high = conditioner.default_ends or (path.sigma_min, path.sigma_max)
            self._conditions["ends"] = Condition(torch.tensor([[low, high]], device=self.device))

    @property
    def labels(self) -> torch.Tensor | None:
        """Numbers of classes, (1 or R,)."""
        return self._values("labels")

    @property
    def ends(self) -> torch.Tensor | None:
        """The ends of the rows' schedules, (1 or R, 2), sigma_min first."""
        return self._values("ends")

    @property
    def images(self) -> torch.Tensor | None:
        """Images, (1 or R, channels, H, W)."""
        return self._values("images")

    def _values(self, name: str) -> torch.Tensor | None:
        return self._conditions[name].values if name in self._conditions else None

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
        conditions: dict[str, torch.Tensor | None] = {name: self._values(name) for name in CONDITIONS}
        conditions["labels"] = None if label is None else self._index([label] if isinstance(label, str) else label)
        if ends is not None:
            if self.ends is None:
                raise SigmaTuneError("this network does not take the ends of a schedule; leave them out.")
            conditions["ends"] = torch.tensor([ends], dtype=torch.float32, device=self.device)
        if images is not None:
            wanted = 0 if self.conditioner is None else self.conditioner.images
            if images.ndim != 4 or images.shape[1:] != (wanted, *self.shape[1:]):
                raise SigmaTuneError(
                    f"this network takes images of shape {(wanted, *self.shape[1:])}, not {tuple(images.shape[1:])}."
                )
            conditions["images"] = images.to(self.device, self.dtype)
        return self._with({name: Condition(values) for name, values in conditions.items() if values is not None})

    def conditioned(
        self, indices: Sequence[int], labels: Sequence[str | None] | None, ends: Array | None
    ) -> ConditionalDenoiser:
        conditions, places = dict(self._conditions), {index: place for place, index in enumerate(indices)}
        if labels is not None and self.classes:
            parts = conditions["labels"].parts if "labels" in conditions else ()
            conditions["labels"] = Condition(self._index(labels), parts, places)
        if ends is not None and "ends" in conditions:
            values = torch.tensor(np.array(ends), dtype=torch.float32, device=self.device)
            conditions["ends"] = Condition(values, places=places)
        other = self._with(conditions)
        other._pinned = self.fingerprint()  # the conditions of rows are in conditions()
        return other

    def rows(self, indices: Sequence[int], padding: int = 0) -> Denoiser:
        other = copy.copy(self)
        other._indices = tuple(indices)
        return other

    def split(self, parts: Mapping[str, range]) -> Denoiser:
        labels = self._conditions.get("labels")
        if labels is None or labels.places or len(labels.values) == 1:
            return self
        divided, counts = labels.split(parts)
        other = self._with({**self._conditions, "labels": divided})
        other.conditioning = counts
        return other

    def conditions(self) -> str:
        """A digest of the rows' separate conditions; empty if all rows share one."""
        conditions = {name: self._conditions[name] for name in CONDITIONS if name in self._conditions}
        several = {name: condition for name, condition in conditions.items() if not condition.shared}
        if not several:
            return ""
        places = {name: condition.places for name, condition in several.items() if condition.places}
        parts = several["labels"].parts if "labels" in several else ()
        digest = hashlib.sha256(repr((places, parts)).encode())
        for condition in several.values():
            digest.update(condition.values.cpu().numpy().tobytes())
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
        other = self._with({name: value for name, value in self._conditions.items() if name != "labels"})
        other.classes = ()
        return other

    def guided(self, scale: float, interval: tuple[float, float] = (0.0, float("inf"))) -> Guided:
        """Classifier-free guidance inside an interval of noise levels, see :class:`sigmatune.core.guidance.Guided`."""
        return Guided(self, self.without_class(), scale, interval)

    def _with(self, conditions: dict[str, Condition[torch.Tensor]]) -> ConditionalDenoiser:
        other = copy.copy(self)
        other._pinned, other._indices, other._conditions = None, None, conditions
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
        labels, ends, images = (
            self._conditions[name].rows(self._indices, len(x_t)) if name in self._conditions else None
            for name in CONDITIONS
        )
        if labels is None and self.module.indices:
            raise SigmaTuneError("this network needs a class; choose one with label=.")
        if images is None and self.conditioner is not None and self.conditioner.images:
            raise SigmaTuneError("this network needs an image; give it one with given(images=...).")
        output: torch.Tensor = self.module(x_t, t, labels, ends, images)
        return output[:, : self.shape[0]]

    def fingerprint(self) -> str:
        """A digest of the weights, the path, the prediction type and the conditions."""
        if self._pinned is not None:
            return self._pinned
        weights, _, unsaved = super().fingerprint().partition("|")
        digest = hashlib.sha256(weights.encode())
        for value in map(self._values, CONDITIONS):
            digest.update(b"|" if value is None else value.cpu().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}{unsaved and '|'}{unsaved}"

    def identity(self) -> object:
        config: Any = getattr(self.module.backbone, "config", {})
        public = {key: value for key, value in config.items() if not key.startswith("_")}
        conditioner = None if self.conditioner is None else self.conditioner.config()
        return plain([sorted(public.items()), self.shape, conditioner])


class Tellable(Protocol):
    """A denoiser that takes classes as a condition."""

    classes: tuple[str, ...]
    loaded_with: Mapping[str, Any]

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
    chosen_model = model if guidance is None or guidance == 1 else model.guided(guidance, interval)
    chosen_model.loaded_with = recordable(label=label, labels=labels, guidance=guidance, interval=interval)
    return chosen_model
