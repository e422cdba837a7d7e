r"""How a pipeline calls its network: state, t, conditions, and guidance as a sum of outputs.

In one turn of its loop a pipeline calls its network once or several times, each on one or several rows: with the prompt,
without it, with an image alone. Call these rows *branches*. What reaches the scheduler is

.. math:: f = \sum_j c_j f_j, \quad f_w = f_u + w (f_c - f_u): \; c = (1 - w, w).

Two kinds of guidance are no such sum: ``guidance_rescale``, which mixes in :math:`f \operatorname{std}(f_c) /
\operatorname{std}(f)`, and that of Qwen-Image, which scales f to the norm of :math:`f_c` along the channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sigmatune.models.arguments import Arguments, RowList
from sigmatune.models.capture import NetworkCall, Turn

Tensor = torch.Tensor
TIMES = ("timestep", "timesteps", "t")
STATES = ("sample", "hidden_states")


@dataclass(frozen=True)
class Placement:
    """Where the latents are in a row of the network's input or output.

    Attributes:
        shape: The row's shape, if it holds the latents alone.
        axis: The axis along which it holds more, None if it does not.
        start: Where the latents begin on that axis.
        size: How many entries they have there.
    """

    shape: tuple[int, ...] | None = None
    axis: int | None = None
    start: int = 0
    size: int = 0

    def of(self, row: Tensor, like: tuple[int, ...]) -> Tensor:
        """The latents of rows, (B, ...)."""
        return row.reshape(len(row), *like) if self.axis is None else row.narrow(self.axis + 1, self.start, self.size)

    def put(self, x: Tensor, extra: Tensor | None) -> Tensor:
        """The network's rows from latents, (B, ...), and what the pipeline puts beside them."""
        if self.axis is None or extra is None:
            return x if self.shape is None else x.reshape(len(x), *self.shape)
        return torch.cat([x, extra.to(x)] if self.start == 0 else [extra.to(x), x], dim=self.axis + 1)


@dataclass(frozen=True)
class Branch:
    """One row of one call.

    Attributes:
        call, row: Which.
        weight: Its weight c_j in what the scheduler gets.
    """

    call: int
    row: int
    weight: float


@dataclass(frozen=True)
class Calling:
    """How a pipeline calls its network.

    Attributes:
        state, time: Names of the arguments.
        listed: The state is a list of rows.
        placement, answer: Where the latents are in input and output.
        clock, backward: t is divided by ``clock`` before it is sent, after it was subtracted from T if it runs backward.
        each: Shape of a row's t, empty for a number.
        branches: The rows whose outputs make up what the scheduler gets.
        kind, share: "sum", or "std" or "norm" with the share of what is rescaled.
    """

    state: str
    time: str
    listed: bool
    placement: Placement
    answer: Placement
    clock: float
    backward: bool
    each: tuple[int, ...]
    branches: tuple[Branch, ...]
    kind: str = "sum"
    share: float = 1.0

    @property
    def main(self) -> Branch:
        """The branch with the condition: that of the largest weight."""
        return max(self.branches, key=lambda branch: abs(branch.weight))

    @property
    def sign(self) -> float:
        """The factor of a single branch."""
        return 1.0 if sum(branch.weight for branch in self.branches) > 0 else -1.0

    def combined(self, outputs: Sequence[Tensor]) -> Tensor:
        """What the scheduler gets, from the outputs of all branches, (B, ...) each."""
        total = sum(branch.weight * output for branch, output in zip(self.branches, outputs, strict=True))
        assert isinstance(total, Tensor)
        if self.kind == "sum":
            return total
        main = outputs[self.branches.index(self.main)]
        if self.kind == "norm":
            scaled: Tensor = total * (main.norm(dim=-1, keepdim=True) / total.norm(dim=-1, keepdim=True))
            return scaled
        axes = list(range(1, total.ndim))
        same: Tensor = total * (main.std(dim=axes, keepdim=True) / total.std(dim=axes, keepdim=True))
        return self.share * same + (1 - self.share) * total


def rows_of(value: Any) -> list[Tensor] | None:
    """The rows of a batch, which is a tensor or a list of tensors."""
    if isinstance(value, list) and value and all(isinstance(x, Tensor) for x in value):
        return list(value)
    return list(value.unbind(0)) if isinstance(value, Tensor) and value.ndim > 1 and value.is_floating_point() else None


def output_of(value: Any) -> Tensor:
    """The rows that a network returned, (B, ...)."""
    first = value[0] if isinstance(value, tuple) else getattr(value, "sample", value)
    rows: Tensor = torch.stack(list(first)) if isinstance(first, list) else first
    return rows


def controlled(call: NetworkCall) -> dict[str, int]:
    """The arguments that are outputs of the control network, and which."""
    if call.control is None:
        return {}
    outputs = call.control_output
    if not isinstance(outputs, tuple):
        outputs = tuple(outputs.values()) if isinstance(outputs, Mapping) else (outputs,)
    return {
        key: place
        for key, value in call.arguments.items()
        for place, output in enumerate(outputs)
        if value is not None and _is(value, output)
    }


def _is(value: Any, output: Any) -> bool:
    """Whether a value is an output, or a collection of the same tensors."""
    if isinstance(value, list | tuple) and isinstance(output, list | tuple) and value:
        return len(value) == len(output) and all(_is(a, b) for a, b in zip(value, output, strict=True))
    return value is output


def conditions_of(calling: Calling, turn: Turn) -> list[tuple[Arguments, dict[str, int]]]:
    """The arguments of each branch besides state and t, and which of them come from the control network."""
    conditions = []
    batches = {}
    for number, call in enumerate(turn.calls):
        rows = rows_of(call.arguments[calling.state]) or []
        links = controlled(call)
        rest = {
            key: RowList(value) if calling.listed and isinstance(value, list) and len(value) == len(rows) else value
            for key, value in call.arguments.items()
            if key not in (calling.state, calling.time, *links)
        }
        control = {key: value for key, value in (call.control or {}).items() if key not in (*STATES, *TIMES)}
        extra = _extra(calling.placement, torch.stack(rows))
        batches[number] = Arguments.of({"network": rest, "control": control, "extra": extra}, len(rows)), links
    for branch in calling.branches:
        batch, links = batches[branch.call]
        conditions.append((batch.picked([branch.row]), links))
    return conditions


def _extra(placement: Placement, rows: Tensor) -> Tensor | None:
    """What the pipeline puts beside the latents."""
    if placement.axis is None:
        return None
    axis, end = placement.axis + 1, placement.start + placement.size
    return (
        rows.narrow(axis, end, rows.shape[axis] - end)
        if placement.start == 0
        else rows.narrow(axis, 0, placement.start)
    )
