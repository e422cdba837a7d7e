r"""How a pipeline calls its network, read from a watched run: state, t, conditions, and guidance as a sum of outputs.

In one turn of its loop a pipeline calls its network once or several times, each on one or several rows: with the prompt, without
it, with an image alone. Call these rows *branches*. What reaches the scheduler is

.. math:: f = \sum_j c_j f_j, \quad f_w = f_u + w (f_c - f_u): \; c = (1 - w, w),

and the weights :math:`c_j` are found by least squares from the outputs that were seen, so that order, sign and number of branches
need no knowledge of the pipeline. Two kinds of guidance that are no such sum are recognised, too: ``guidance_rescale``, which
mixes in :math:`f \operatorname{std}(f_c) / \operatorname{std}(f)`, and that of Qwen-Image, which scales f to the norm of
:math:`f_c` along the channels. What else differs from step to step is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from sigmatune.models.arguments import Arguments, RowList
from sigmatune.models.capture import NetworkCall, Seen, Step
from sigmatune.support.errors import SigmaTuneError

Tensor = torch.Tensor
TIMES = ("timestep", "timesteps", "t")


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
            return total * (main.norm(dim=-1, keepdim=True) / total.norm(dim=-1, keepdim=True))
        axes = list(range(1, total.ndim))
        same = total * (main.std(dim=axes, keepdim=True) / total.std(dim=axes, keepdim=True))
        return self.share * same + (1 - self.share) * total


def calling_of(name: str, seen: Seen, levels: int, scale: float, rescale: float) -> Calling:
    """Reads a watched run.

    Args:
        name: The pipeline's class, for messages.
        seen: The run.
        levels: T.
        scale: The scale of guidance that was asked for.
        rescale: ``guidance_rescale``.

    Raises:
        SigmaTuneError: if the pipeline calls its network in an unknown way.
    """
    first = seen.steps[0]
    assert first.sample is not None
    arguments = first.calls[0].arguments
    time = next((key for key in TIMES if arguments.get(key) is not None), None)
    found = next(
        ((key, place) for key, value in arguments.items() if (place := _placed(value, first.sample)) is not None), None
    )
    if time is None or found is None:
        raise SigmaTuneError(f"a {name} calls its network in an unknown way: the arguments lack a state or a timestep.")
    sent = torch.as_tensor(arguments[time])
    clock, backward = _clock(name, float(sent.reshape(-1)[0]), first.t, levels)
    if sent.ndim > 1 and not bool((sent == sent.reshape(-1)[0]).all()):
        raise SigmaTuneError(f"a {name} sends another t for each part of an image, which is not supported.")
    control = first.calls[0].control or {}
    given = next((control[key] for key in ("sample", "hidden_states") if control.get(key) is not None), None)
    if given is not None and given.shape[1:] != first.sample.shape[1:]:
        raise SigmaTuneError(
            f"a {name} hands its control network something else than its latents, which is not supported."
        )
    state, placement = found
    plain = Calling(
        state,
        time,
        isinstance(arguments[state], list),
        placement,
        Placement(),
        clock,
        backward,
        tuple(sent.shape[1:]),
        (),
    )
    calling = _guided(name, plain, first, scale, rescale)
    for step in seen.steps[1:]:
        _check_same(name, calling, first, step)
    return calling


def _clock(name: str, sent: float, t: float, levels: int) -> tuple[float, bool]:
    ways = [(1.0, False), (1000.0, False), (1000.0, True), (1.0, True)]
    for clock, backward in ways:
        meant = ((levels - t) if backward else t) / clock
        if abs(meant - sent) <= 5e-3 * abs(sent) + 1e-9:
            return clock, backward
    raise SigmaTuneError(
        f"a {name} sends {sent:g} to its network where its scheduler says t = {t:g}; that time variable is not supported."
    )


def rows_of(value: Any) -> list[Tensor] | None:
    """The rows of a batch, which is a tensor or a list of tensors."""
    if isinstance(value, list) and value and all(isinstance(x, Tensor) for x in value):
        return list(value)
    return list(value.unbind(0)) if isinstance(value, Tensor) and value.ndim > 1 and value.is_floating_point() else None


def _tolerance(x: Tensor) -> float:
    return 3e-2 if x.dtype in (torch.float16, torch.bfloat16) else 1e-4


def _placed(value: Any, sample: Tensor) -> Placement | None:
    """Where a batch holds the latents, up to a factor; None if it does not."""
    rows = rows_of(value)
    if rows is None:
        return None
    row, x = rows[0].float(), sample[0].float()

    def holds(part: Tensor) -> bool:
        factor = float((part * x).sum() / (x * x).sum().clamp_min(1e-30))
        return float((part - factor * x).abs().max()) <= _tolerance(rows[0]) * float(part.abs().max()) and factor != 0

    if row.numel() == x.numel():
        same = row.shape == x.shape
        return Placement(None if same else tuple(row.shape)) if holds(row.reshape(x.shape)) else None
    for axis, size in _longer(row.shape, x.shape):
        for start in (0, row.shape[axis] - size):
            if holds(row.narrow(axis, start, size)):
                return Placement(None, axis, start, size)
    return None


def _longer(shape: Sequence[int], of: Sequence[int]) -> list[tuple[int, int]]:
    """The one axis along which a shape is longer than another, with the other's size; none if they differ otherwise."""
    if len(shape) != len(of):
        return []
    axes = [(axis, of[axis]) for axis in range(len(of)) if shape[axis] != of[axis]]
    return axes if len(axes) == 1 and shape[axes[0][0]] > axes[0][1] else []


def output_of(value: Any) -> Tensor:
    """The rows that a network returned, (B, ...)."""
    first = value[0] if isinstance(value, tuple) else getattr(value, "sample", value)
    return torch.stack(list(first)) if isinstance(first, list) else first


def _outputs(step: Step, answer: Placement) -> list[tuple[int, int, Tensor]]:
    """(call, row, output) of every branch of a step, (1, ...) each."""
    assert step.sample is not None
    like = tuple(step.sample.shape[1:])
    return [
        (number, row, answer.of(output[row : row + 1], like).float())
        for number, call in enumerate(step.calls)
        for output in [output_of(call.output)]
        for row in range(len(output))
    ]


def _guided(name: str, plain: Calling, step: Step, scale: float, rescale: float) -> Calling:
    """The calling with its branches and weights."""
    assert step.sample is not None
    assert step.guided is not None
    like = tuple(step.sample.shape[1:])
    target = step.guided[:1].float()
    if target.shape[1:] != like:
        target = target[:, : like[0]] if target.numel() > step.sample[0].numel() else target.reshape(1, *like)
    raw = output_of(step.calls[0].output)[0]
    answers = [Placement()]
    if raw.numel() != step.sample[0].numel():
        answers = [
            Placement(None, axis, start, size)
            for axis, size in _longer(raw.shape, like)
            for start in (0, raw.shape[axis] - size)
        ]
    for answer in answers:
        found = _outputs(step, answer)
        outputs = [output for _, _, output in found]
        for kind, share, weights in _candidates(outputs, target, scale, rescale):
            branches = tuple(Branch(call, row, weight) for (call, row, _), weight in zip(found, weights, strict=True))
            calling = replace(plain, answer=answer, branches=branches, kind=kind, share=share)
            if _close(calling.combined(outputs), target, step.calls[0].output):
                return calling
    raise SigmaTuneError(f"the guidance of a {name} is not supported; pass guidance=1.")


def _candidates(
    outputs: Sequence[Tensor], target: Tensor, scale: float, rescale: float
) -> list[tuple[str, float, list[float]]]:
    """(kind, share, weights) to try."""
    A = torch.stack([output.double().reshape(-1) for output in outputs], dim=1)
    fitted = torch.linalg.lstsq(A, target.double().reshape(-1, 1)).solution.reshape(-1).tolist()
    usual = [sign * w for sign in (1, -1) for w in (1.0, 0.0, scale, 1 - scale, 1 + scale)]

    def snapped(weight: float) -> float:
        near = min(usual, key=lambda w: abs(w - weight))
        return near if abs(near - weight) <= 0.02 * max(1.0, abs(near)) else weight

    # A rescaled sum is a sum, too, in a single step: the more special kind first.
    pairs = ([1 - scale, scale], [scale, 1 - scale]) if len(outputs) == 2 else ()
    found = [("std", rescale, weights) for weights in pairs if rescale]
    found.append(("sum", 1.0, [snapped(weight) for weight in fitted]))
    found += [(kind, 1.0, weights) for weights in pairs for kind in ("norm", "sum")]
    if abs(abs(sum(fitted)) - 1) <= 0.02:
        found.append(("sum", 1.0, fitted))
    return found


def _close(found: Tensor, target: Tensor, output: Any) -> bool:
    allowed = 20 * _tolerance(output_of(output)) * float(target.abs().max())
    return bool((found - target).abs().max() <= allowed)


def _check_same(name: str, calling: Calling, first: Step, later: Step) -> None:
    """Refuses what acts in the pipeline's loop."""
    problem = f"the {name} changes from step to step"
    if len(first.calls) != len(later.calls):
        raise SigmaTuneError(
            f"{problem} how often it calls its network, which a plan does not know; leave that option out."
        )
    for one, other in zip(first.calls, later.calls, strict=True):
        for key in one.arguments:
            if key in (calling.state, calling.time) or key in _controlled(one):
                continue
            if not _equal(one.arguments[key], other.arguments.get(key)):
                raise SigmaTuneError(f"{problem} the argument {key} of its network, which is not supported.")
        for key in one.control or {}:
            changes = not _equal((one.control or {})[key], (other.control or {}).get(key))
            if changes and key not in (*TIMES, "sample", "hidden_states"):
                raise SigmaTuneError(f"{problem} the argument {key} of its control network, which is not supported.")
    assert later.guided is not None
    outputs = [output for _, _, output in _outputs(later, calling.answer)]
    target = later.guided[:1].float()
    target = target[:, : outputs[0].shape[1]].reshape(outputs[0].shape)
    if not _close(calling.combined(outputs), target, later.calls[0].output):
        raise SigmaTuneError(
            f"{problem} its guidance, which is not supported; leave that option out or pass guidance=1."
        )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool((one == other).all())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return one is other or type(one) is type(other) and (bool(one == other) or callable(one))


def _controlled(call: NetworkCall) -> dict[str, tuple[int, ...] | int]:
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


def conditions_of(calling: Calling, step: Step) -> list[tuple[Arguments, dict[str, int]]]:
    """The arguments of each branch besides state and t, and which of them come from the control network."""
    found = []
    batches = {}
    for number, call in enumerate(step.calls):
        rows = rows_of(call.arguments[calling.state]) or []
        links = {key: place for key, place in _controlled(call).items()}
        rest = {
            key: RowList(value) if calling.listed and isinstance(value, list) and len(value) == len(rows) else value
            for key, value in call.arguments.items()
            if key not in (calling.state, calling.time, *links)
        }
        control = {
            key: value for key, value in (call.control or {}).items() if key not in ("sample", "hidden_states", *TIMES)
        }
        extra = _extra(calling.placement, torch.stack(rows))
        batches[number] = Arguments.of({"network": rest, "control": control, "extra": extra}, len(rows)), links
    for branch in calling.branches:
        batch, links = batches[branch.call]
        found.append((batch.picked([branch.row]), links))
    return found


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
