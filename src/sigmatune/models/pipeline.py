r"""Any diffusers pipeline is a denoiser: latents, text, labels, guidance, transformers, control networks.

The condition of each row comes from the pipeline itself (:mod:`~sigmatune.models.capture`), the noise path and the
prediction type are those of its scheduler, and guidance is the pipeline's,

.. math:: f_w = f_u + w (f_c - f_u) \text{ for } \sigma \in (a, b], \quad f_c \text{ elsewhere},

one batch for both, as the pipeline sends it. Data are latents; :meth:`PipelineDenoiser.decode` decodes them to pixels.

Row i of a run has the condition i modulo their number. During tuning, the ranges of rows for tuning, validation and the
final test use disjoint conditions.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch

from sigmatune.core.condition import Condition
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.digests import add_weights, numbers_of
from sigmatune.core.identity import Identity
from sigmatune.models.capture import Arguments, Sent, network_of
from sigmatune.models.network import NetworkDenoiser
from sigmatune.models.scheduler_config import config_of, read_process
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.pixels import first_unsound, unsound_weight

TEXT_LAST, LABEL_FIRST = (
    "noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)",
    "cond_eps, uncond_eps = torch.split",
)
"""How pipelines split the two halves of a guided batch: the unconditional half first, or last."""


class PipelineDenoiser(NetworkDenoiser):
    """Wraps a diffusers pipeline in memory; :func:`~sigmatune.models.load_pipeline.from_pipeline` builds it.

    Args:
        pipe: The pipeline.
        sent: Its arguments for each condition; all of one kind.
        unconditional: Its arguments without the condition, if that is a separate call.
        names: The conditions as text, for digests.
        scale: Guidance w; 1 for none.
        interval: (a, b], the levels at which guidance is on.

    Raises:
        SigmaTuneError: if the conditions do not fit together.
    """

    concurrent = True
    size: tuple[int, int] = (0, 0)
    """Height and width in pixels, if the latents do not determine them."""
    _now: tuple[list[int], list[bool]]
    _whole = False

    def __init__(
        self,
        pipe: Any,
        sent: Sequence[Sent],
        unconditional: Sent | None,
        names: Sequence[Any],
        *,
        scale: float,
        interval: tuple[float, float],
    ) -> None:
        first = sent[0]
        config = config_of(pipe.scheduler)
        shift = None if first.mu is None or not config.get("use_dynamic_shifting") else _shift(config, first.mu)
        process = read_process(config, shift=shift)
        network: Any = network_of(pipe)
        self.pipe, self.names, self.scale, self.interval = pipe, tuple(names), float(scale), interval
        self.state_name, self.clock = first.state[0], first.clock
        self.guided = scale != 1
        x = first.state[1]
        channels = _latent_channels(pipe, x)
        super().__init__(
            network, (channels, *x.shape[2:]) if x.ndim == 4 else tuple(x.shape[1:]), process.path, process.prediction,
            dtype=x.dtype, device=x.device,
        )  # fmt: skip
        control = getattr(pipe, "controlnet", None)
        self._identity = Identity(network, [] if control is None else [control])
        self._decoder = None if self._coder is None else Identity(self._coder)
        self._encoded: dict[str, str] = {}
        self.default_schedule, self.value_range = process.schedule, (-1.0, 1.0)
        self._reversed = LABEL_FIRST in inspect.getsource(type(pipe))
        self._with, self._without = self._sides(sent, unconditional)
        self._entries = Condition(tuple(range(len(sent))))
        self._rows: tuple[int, ...] | None = None
        if self.guided:
            ends = [end if np.isfinite(end) else "inf" for end in interval]
            self.guidance = {"scale": self.scale, "interval": ends}

    def _sides(self, sent: Sequence[Sent], unconditional: Sent | None) -> tuple[Arguments, Arguments | None]:
        """The rows with and those without the condition, of all conditions one after another."""
        n = len(sent[0].state[1])
        batches = [self._condition(one) for one in sent]
        with_it, without = (0, 1) if self._reversed else (n - 1, 0)
        conditional = Arguments.joined([batch.picked([with_it]) for batch in batches])
        if unconditional is not None:
            plain = self._condition(unconditional)
            return conditional, Arguments.joined([plain] * len(batches))
        return conditional, Arguments.joined([batch.picked([without]) for batch in batches]) if n == 2 else None

    def _condition(self, sent: Sent) -> Arguments:
        """The arguments besides state and t, including channels that the pipeline appends to the latents."""
        x = sent.state[1]
        extra = x[:, self.shape[0] :] if x.ndim == 4 and x.shape[1] > self.shape[0] else None
        return Arguments.of({"network": dict(sent.arguments), "control": sent.control, "extra": extra}, len(x))

    def calls_at(self, sigma: float) -> int:
        return 2 if self._inside(sigma) else 1

    def cost_changes(self) -> Sequence[float]:
        return self.interval if self.guided else ()

    def _inside(self, sigma: float) -> bool:
        return self.guided and self.interval[0] < sigma <= self.interval[1]

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        inside = [self._inside(level) for level in sigma.tolist()]
        evaluated = copy(self)
        evaluated._now = self._of(len(z)), inside
        return NetworkDenoiser.denoise(evaluated, z, sigma)

    def _of(self, batch: int) -> list[int]:
        """The condition of each row of a batch."""
        if self._rows is None and not self._entries.shared:
            raise SigmaTuneError("this model has a condition for each row; select rows with rows(indices).")
        rows = self._rows or (0,) * batch
        if len(rows) != batch:
            raise SigmaTuneError(f"the model was set up for {len(rows)} rows and got {batch}.")
        return list(rows)

    def evaluate(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        rows, inside = self._now
        conditions = [self._with.picked(rows)]
        if any(inside) and self._without is not None:  # the whole batch: no row depends on its neighbours' levels
            plain = self._without.picked(rows)
            conditions = [conditions[0], plain] if self._reversed else [plain, conditions[0]]
        twice = len(conditions)
        output = self._called(
            torch.cat([x_t] * twice), torch.cat([t / self.clock] * twice), Arguments.joined(conditions)
        )
        if twice == 1:
            return output
        first, second = output.chunk(2)
        with_it, without = (first, second) if self._reversed else (second, first)
        mask = torch.tensor(inside, device=x_t.device).view(-1, *[1] * (x_t.ndim - 1))
        return torch.where(mask, without + self.scale * (with_it - without), with_it)

    def _called(self, x: torch.Tensor, t: torch.Tensor, sent: Arguments) -> torch.Tensor:
        condition = sent.tree
        arguments = dict(condition["network"])
        if condition["control"] is not None:
            control = {**condition["control"], "return_dict": False}
            down, middle = self.pipe.controlnet(x, t, **control)
            arguments |= {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        if condition["extra"] is not None:
            x = torch.cat([x, condition["extra"].to(x)], dim=1)
        network: Any = self.network
        output: torch.Tensor = network(**{**arguments, self.state_name: x, "timestep": t, "return_dict": False})[0]
        return output[:, : self.shape[0]] if x.ndim == 4 else output

    def rows(self, indices: Sequence[int], padding: int = 0) -> Denoiser:
        other = copy(self)
        places = [self._entries.place(index) for index in indices]
        other._rows = (*places, *[places[-1]] * padding)
        return other

    def split(self, parts: Mapping[str, range]) -> Denoiser:
        if not self.names:
            return self
        other = copy(self)
        other._entries, other.conditioning = self._entries.split(parts, "prompts or labels", "better several hundred")
        return other

    def conditions(self) -> str:
        """A digest of prompts or labels and of how the rows share them, and of their encodings."""
        if "rows" not in self._encoded:
            sides = [side for side in (self._with, self._without) if side is not None]
            tensors = [tensor for side in sides for tensor in side.tensors if tensor.is_floating_point()]
            rest = "".join(side.rest for side in sides)
            self._encoded = {"rows": numbers_of(tensors) if tensors else "", "rest": rest}
        if not self.names and not self._encoded["rows"]:
            return ""
        text = json.dumps(
            [self.names, [[list(a), list(b)] for a, b in self._entries.parts], self._encoded["rest"]], default=str
        )
        return f"{hashlib.sha256(text.encode()).hexdigest()}|answers float32 {self._encoded['rows']}"

    def decoder(self) -> str:
        coder = self._decoder
        return "" if coder is None else coder.text(lambda: coder.digest(type(self._coder).__name__, self))

    @property
    def _coder(self) -> Any:
        return getattr(self.pipe, "vae", None) or getattr(self.pipe, "vqvae", None)

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        coder = self._coder
        if coder is None:
            return x
        if x.ndim == 3:
            size = {"height": self.size[0], "width": self.size[1]}
            x = self.pipe._unpack_latents(x, vae_scale_factor=self.pipe.vae_scale_factor, **size)
        config = coder.config
        latents = x / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        with torch.no_grad():
            parts = [coder.decode(part.to(coder.dtype)).sample for part in latents.split(16)]
        pixels = torch.cat(parts).to(x.dtype)
        if (bad := first_unsound(pixels)) is not None:
            name = unsound_weight(coder)
            problem = f"its weight {name} is not finite" if name else f"{coder.dtype} overflows in it"
            raise SigmaTuneError(
                f"the autoencoder returned NaN or infinity for image {bad}: {problem.replace('torch.', '')}; load the "
                "pipeline, or its VAE alone, from sound weights in float32 or bfloat16."
            )
        return pixels

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        with torch.no_grad():
            return tuple(self.decode(torch.zeros(1, *self.shape, device=self.device)).shape[1:])

    def _digested(self, *, whole: bool = False) -> str:
        other = copy(self)
        other._whole = whole
        return NetworkDenoiser._digested(other, whole=whole)

    def identity(self) -> object:
        public = {key: value for key, value in dict(getattr(self.network, "config", {})).items() if key[:1] != "_"}
        digest = hashlib.sha256()
        if getattr(self.pipe, "controlnet", None) is not None:
            add_weights(digest, self.pipe.controlnet, whole=self._whole)
        guidance = (self.scale, self.interval) if self.guided else None
        return sorted(public.items()), self.shape, guidance, digest.hexdigest()


def _shift(config: Mapping[str, Any], mu: float) -> float:
    return float(np.exp(mu)) if config.get("time_shift_type", "exponential") == "exponential" else float(mu)


def _latent_channels(pipe: Any, x: torch.Tensor) -> int:
    """How many of the channels that the network receives are the state."""
    coder = getattr(pipe, "vae", None) or getattr(pipe, "vqvae", None)
    latent = x.shape[1] if coder is None else int(coder.config.latent_channels)
    return min(latent, int(x.shape[1]))
