r"""Any diffusers pipeline is a denoiser: latents, text, labels, guidance, transformers, control networks.

The condition of each row comes from the pipeline itself (:mod:`~sigmatune.models.capture`), and so do the way it calls
its network and combines the outputs (:mod:`~sigmatune.models.calling`). The noise path and the prediction type are
those of its scheduler, and guidance is the pipeline's,

.. math:: f_w = f_u + w (f_c - f_u) \text{ for } \sigma \in (a, b], \quad f_c \text{ elsewhere},

in one call for both, or two, as the pipeline does it. Data are latents of any rank; :meth:`PipelineDenoiser.decode`
decodes those of images.

Row i of a run has the condition i modulo their number. During tuning, the ranges of rows for tuning, validation and the
final test use disjoint conditions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sigmatune.core.condition import Condition
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.digests import add_weights, numbers_of
from sigmatune.core.identity import Identity
from sigmatune.models.arguments import Arguments
from sigmatune.models.calling import Calling, conditions_of, output_of, rows_of
from sigmatune.models.capture import Turn, inner_of, network_of
from sigmatune.models.latents import decoded, latents_of
from sigmatune.models.network import NetworkDenoiser
from sigmatune.models.scheduler_config import Process
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import plain
from sigmatune.support.pixels import first_unsound, unsound_weight


@dataclass(frozen=True)
class GuidanceRange:
    """Classifier-free guidance on a part of the levels.

    Attributes:
        scale: w; 1 for none.
        interval: (a, b], the levels sigma at which guidance is on.
    """

    scale: float
    interval: tuple[float, float]


class PipelineDenoiser(NetworkDenoiser):
    """Wraps a diffusers pipeline in memory; :func:`~sigmatune.models.load_pipeline.from_pipeline` builds it.

    Args:
        pipe: The pipeline.
        calling: How it calls its network.
        turns: A watched turn of the loop for each condition.
        process: Its scheduler's process.
        names: The conditions as text, for digests.
        guidance: Its guidance.

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
        calling: Calling,
        turns: Sequence[Turn],
        process: Process,
        names: Sequence[Any],
        guidance: GuidanceRange,
    ) -> None:
        network: Any = network_of(pipe)
        self.pipe, self.calling, self.names, self.interval = pipe, calling, tuple(names), guidance.interval
        self.guided = len(calling.branches) > 1
        self.scale = float(guidance.scale) if self.guided else 1.0
        self.clock = calling.clock
        x = turns[0].sample
        assert x is not None
        dtype = (rows_of(turns[0].calls[0].arguments[calling.state]) or [x])[0].dtype
        super().__init__(network, tuple(x.shape[1:]), process.path, process.prediction, dtype=dtype, device=x.device)
        control = getattr(pipe, "controlnet", None)
        self._identity = Identity(network, [] if control is None else [control])
        self._decoder = None if self._coder is None else Identity(self._coder)
        self._encoded: dict[str, str] = {}
        self.default_schedule, self.value_range = process.schedule, (-1.0, 1.0)
        read = [conditions_of(calling, turn) for turn in turns]
        self._conditions = [Arguments.joined([one[j][0] for one in read]) for j in range(len(calling.branches))]
        self._links = [links for _, links in read[0]]
        self._entries = Condition(tuple(range(len(turns))))
        self._rows: tuple[int, ...] | None = None
        if self.guided:
            ends = [end if np.isfinite(end) else "inf" for end in guidance.interval]
            self.guidance = {"scale": self.scale, "interval": ends}

    def calls_at(self, sigma: float) -> int:
        return len(self.calling.branches) if self._inside(sigma) else 1

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
        calling, main = self.calling, self.calling.branches.index(self.calling.main)
        # The whole batch: no row depends on its neighbours' levels.
        used = range(len(calling.branches)) if any(inside) else [main]
        outputs: dict[int, torch.Tensor] = {}
        for call in sorted({calling.branches[j].call for j in used}):
            mine = [j for j in used if calling.branches[j].call == call]
            sent = Arguments.joined([self._conditions[j].picked(rows) for j in mine])
            output = self._called(torch.cat([x_t] * len(mine)), torch.cat([t] * len(mine)), sent, self._links[mine[0]])
            outputs |= dict(zip(mine, output.chunk(len(mine)), strict=True))
        alone = calling.sign * outputs[main]
        if len(outputs) == 1:
            return alone
        mask = torch.tensor(inside, device=x_t.device).view(-1, *[1] * (x_t.ndim - 1))
        return torch.where(mask, calling.combined([outputs[j] for j in used]), alone)

    def _called(self, x: torch.Tensor, t: torch.Tensor, sent: Arguments, links: Mapping[str, int]) -> torch.Tensor:
        calling, condition = self.calling, sent.tree
        time = (self.path.levels - t if calling.backward else t) / calling.clock
        time = time.view(-1, *[1] * len(calling.each)).expand(-1, *calling.each)
        arguments = dict(condition["network"])
        if condition["control"]:
            name = "sample" if calling.state == "sample" else "hidden_states"
            control = {**condition["control"], name: x, "timestep": time, "return_dict": False}
            residuals = self.pipe.controlnet(**control)
            arguments |= {key: residuals[place] for key, place in links.items()}
        rows = calling.placement.put(x, condition["extra"])
        state = list(rows.unbind(0)) if calling.listed else rows
        network: Any = self.network
        output = network(**{**arguments, calling.state: state, calling.time: time, "return_dict": False})
        return calling.answer.of(output_of(output), tuple(self.shape))

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
            tensors = [x for side in self._conditions for x in side.numbers if x.is_floating_point()]
            rest = "".join(side.rest for side in self._conditions)
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
        latents = latents_of(self.pipe, x, self.size)
        with torch.no_grad():
            parts = [decoded(coder, part.to(coder.dtype)) for part in torch.split(latents, 16)]
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
        config = dict(getattr(inner_of(network_of(self.pipe)), "config", {}))  # the same for a compiled network
        public = plain({key: value for key, value in config.items() if key[:1] != "_"})  # saved, tuples are lists
        digest = hashlib.sha256()
        if getattr(self.pipe, "controlnet", None) is not None:
            add_weights(digest, self.pipe.controlnet, whole=self._whole)
        guidance = (self.scale, self.interval) if self.guided else None
        return sorted(public.items()), self.shape, guidance, digest.hexdigest()
