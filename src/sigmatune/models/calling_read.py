r"""Reads from a watched run how a pipeline calls its network.

The weights of the branches are found by least squares from the outputs that were seen, so that order, sign and number
of branches need no knowledge of the pipeline. What differs from one turn of the loop to the next is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from sigmatune.models.calling import (
    STATES,
    TIMES,
    Branch,
    Calling,
    Placement,
    controlled,
    output_of,
    rows_of,
)
from sigmatune.models.capture import Seen, Turn
from sigmatune.support.errors import SigmaTuneError

Tensor = torch.Tensor


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
    first = seen.turns[0]
    assert first.sample is not None
    arguments = first.calls[0].arguments
    time = next((key for key in TIMES if arguments.get(key) is not None), None)
    position = next(
        ((key, place) for key, value in arguments.items() if (place := _placed(value, first.sample)) is not None), None
    )
    if time is None or position is None:
        raise SigmaTuneError(f"a {name} calls its network in an unknown way: the arguments lack a state or a timestep.")
    sent = torch.as_tensor(arguments[time])
    clock, backward = _clock(name, float(sent.reshape(-1)[0]), first.t, levels)
    if sent.ndim > 1 and not bool((sent == sent.reshape(-1)[0]).all()):
        raise SigmaTuneError(f"a {name} sends another t for each part of an image, which is not supported.")
    control = first.calls[0].control or {}
    given = next((control[key] for key in STATES if control.get(key) is not None), None)
    if given is not None and given.shape[1:] != first.sample.shape[1:]:
        raise SigmaTuneError(
            f"a {name} hands its control network something else than its latents, which is not supported."
        )
    state, placement = position
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
    for turn in seen.turns[1:]:
        _check_same(name, calling, first, turn)
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


def _outputs(turn: Turn, answer: Placement) -> list[tuple[int, int, Tensor]]:
    """(call, row, output) of every branch of a step, (1, ...) each."""
    assert turn.sample is not None
    like = tuple(turn.sample.shape[1:])
    return [
        (number, row, answer.of(output[row : row + 1], like).float())
        for number, call in enumerate(turn.calls)
        for output in [output_of(call.output)]
        for row in range(len(output))
    ]


def _guided(name: str, plain: Calling, turn: Turn, scale: float, rescale: float) -> Calling:
    """The calling with its branches and weights."""
    assert turn.sample is not None
    assert turn.guided is not None
    like = tuple(turn.sample.shape[1:])
    target = turn.guided[:1].float()
    if target.shape[1:] != like:
        target = target[:, : like[0]] if target.numel() > turn.sample[0].numel() else target.reshape(1, *like)
    raw = output_of(turn.calls[0].output)[0]
    answers = [Placement()]
    if raw.numel() != turn.sample[0].numel():
        answers = [
            Placement(None, axis, start, size)
            for axis, size in _longer(raw.shape, like)
            for start in (0, raw.shape[axis] - size)
        ]
    for answer in answers:
        rows = _outputs(turn, answer)
        outputs = [output for _, _, output in rows]
        for kind, share, weights in _candidates(outputs, target, scale, rescale):
            branches = tuple(Branch(call, row, weight) for (call, row, _), weight in zip(rows, weights, strict=True))
            calling = replace(plain, answer=answer, branches=branches, kind=kind, share=share)
            if _close(calling.combined(outputs), target, turn.calls[0].output):
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
    pairs = (
        [[1 - scale, scale], [scale, 1 - scale], [scale - 1, -scale], [-scale, scale - 1]] if len(outputs) == 2 else []
    )
    tried = [("std", rescale, weights) for weights in pairs if rescale]
    tried.append(("sum", 1.0, [snapped(weight) for weight in fitted]))
    tried += [(kind, 1.0, weights) for weights in pairs for kind in ("norm", "sum")]
    if abs(abs(sum(fitted)) - 1) <= 0.02:
        tried.append(("sum", 1.0, fitted))
    return tried


def _close(combined: Tensor, target: Tensor, output: Any) -> bool:
    allowed = 20 * _tolerance(output_of(output)) * float(target.abs().max())
    return bool((combined - target).abs().max() <= allowed)


def _check_same(name: str, calling: Calling, first: Turn, later: Turn) -> None:
    """Refuses what acts in the pipeline's loop."""
    problem = f"the {name} changes from step to step"
    if len(first.calls) != len(later.calls):
        raise SigmaTuneError(
            f"{problem} how often it calls its network, which a plan does not know; leave that option out."
        )
    for one, other in zip(first.calls, later.calls, strict=True):
        for key in one.arguments:
            if key in (calling.state, calling.time) or key in controlled(one):
                continue
            if not _equal(one.arguments[key], other.arguments.get(key)):
                raise SigmaTuneError(f"{problem} the argument {key} of its network, which is not supported.")
        for key in one.control or {}:
            changes = not _equal((one.control or {})[key], (other.control or {}).get(key))
            if changes and key not in (*TIMES, *STATES):
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
    return one is other or (type(one) is type(other) and (bool(one == other) or callable(one)))
