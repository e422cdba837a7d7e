"""A plan's state machine around latents that a pipeline holds, and may edit, between two network calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from sigmatune.core.loop import Machine
from sigmatune.interop.native import Native, dtype_of, first_state
from sigmatune.interop.pipeline_checks import check_use
from sigmatune.plan import purpose
from sigmatune.support.errors import SigmaTuneError

Tensor = torch.Tensor
Draw = Callable[[int, int, torch.dtype], Tensor]
"""(call, channel, dtype) -> noise of the latents' shape; call -1 is the start."""


def _unknown() -> None:
    """No pipeline is known."""


class PipelineMachine:
    """Advances a pipeline's latents, which are the first tensor of the state.

    Args:
        native: The plan's table in the model's scaling.
        record: What the plan was tuned for.

    Attributes:
        pipe: Returns the pipeline, if it is known and still there.
    """

    def __init__(self, native: Native, record: Mapping[str, Any] | None = None) -> None:
        self.record = record
        self.pipe: Callable[[], Any] = _unknown
        self.table = native.table
        self.pairs = list(zip(native.u.tolist(), native.v.tolist(), strict=True))
        self.machine: Machine | None = None

    def reset(self) -> None:
        """Drops the state; the next call begins a run."""
        self.machine = None

    def wrong_steps(self, asked: int | None) -> SigmaTuneError:
        """The error for another number of steps than the plan's; it says what they cost, too."""
        q = self.table.q.numpy()
        said = purpose.cost_words(q, self.record)
        return SigmaTuneError(f"this plan has {said}; pass num_inference_steps={len(q)} to the pipeline, not {asked}.")

    @torch.no_grad()
    def advance(self, k: int, output: Tensor, sample: Tensor, draw: Draw) -> Tensor:
        """Returns the latents after call k, in their dtype.

        Args:
            k: Index of the call.
            output: The network's output, (B, C, ...); channels beyond those of the latents are not used.
            sample: The latents that the network received, (B, C, ...).
            draw: The noise of the plan.
        """
        if self.machine is None:
            check_use(self.record, self.pipe(), sample)
        machine = self._prepared(sample, draw)
        x = machine.S[0]
        u, v = self.pairs[k]
        output = output if output.shape[1] == sample.shape[1] else output[:, : sample.shape[1]]
        D = (output.to(x.dtype) * v).add_(x, alpha=u)
        del x
        machine.advance(k, D, lambda m: draw(k, m, machine.dtype))
        return machine.S[0].to(sample.dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Without the pipeline: a weak reference is not for copies, nor for files."""
        return {**self.__dict__, "pipe": _unknown}

    def _prepared(self, sample: Tensor, draw: Draw) -> Machine:
        """The machine with the pipeline's current latents, edits included, as its first tensor."""
        machine = self.machine
        if machine is None:
            dtype = dtype_of(self.table, sample)
            machine = self.machine = Machine(self.table, dtype, sample.device, sample.ndim - 1, fused=True)
            machine.owned = False
            machine.S = first_state(self.table, sample.to(dtype), lambda m: draw(-1, m, dtype))
        elif sample.dtype == machine.dtype:
            machine.S[0] = sample
        elif not torch.equal(sample, machine.S[0].to(sample.dtype)):  # unchanged: the unrounded state counts
            machine.S[0] = sample.to(machine.dtype)
        return machine
