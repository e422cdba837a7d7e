r"""What a plan is for: the record in its file's ``tuned_for``, in words, and where a use of the plan differs from it.

A person sets the **steps** of a pipeline (``num_inference_steps``), one for every call of the plan. What they cost are
**network evaluations**: one per call, and two where classifier-free guidance is on,

.. math:: \text{evaluations} = \sum_k (1 + [a < \sigma_k \le b]) \quad \text{with guidance on in } (a, b].

The record may come from a stranger's file. A part of it that is not what SigmaTune writes counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sigmatune.core.denoiser import Denoiser
from sigmatune.models.prediction_fields import record_of
from sigmatune.models.predictions import Prediction
from sigmatune.noise import Array
from sigmatune.support import card
from sigmatune.support.errors import shown

Record = Mapping[str, Any] | None

MOST_CONDITIONS = 1000
"""Most prompts or labels that a plan remembers."""

QUOTED_PROMPTS = 3
"""How many of them a description quotes."""


def made_for(model: Denoiser) -> dict[str, Any]:
    """What any plan records of its model, JSON-ready: what its network predicts."""
    prediction = next((predicted for part in model.parts() if (predicted := getattr(part, "prediction", None))), None)
    return {"prediction": record_of(prediction)} if isinstance(prediction, Prediction) else {}


def remembered(model: Denoiser) -> dict[str, Any]:
    """The options of :func:`sigmatune.load` that a tuned plan records, JSON-ready; the first prompts or labels of many."""
    kept = {
        name: list(value[:MOST_CONDITIONS]) if isinstance(value, list | tuple) else value
        for name, value in model.loaded_with.items()
    }
    return {"load": kept} if kept else {}


def load_options(record: Record) -> dict[str, Any]:
    """The options with which :func:`sigmatune.load` makes the model of a plan again: prompts, labels, guidance, size.

    Args:
        record: The plan's ``tuned_for``.
    """
    kept = _mapping(record, "load")
    given = {name: value for name, value in kept.items() if isinstance(name, str)}
    if isinstance(interval := given.get("interval"), list):
        given["interval"] = tuple(float(end) for end in interval if _number(end) is not None)
        if len(given["interval"]) != 2:
            del given["interval"]
    return given


def guidance_of(record: Record) -> tuple[float, float, float] | None:
    """Scale and interval (w, a, b) of the guidance that a plan was tuned with; None without, or where it is not recorded."""
    stated = _mapping(record, "guidance")
    scale, ends = _number(stated.get("scale")), stated.get("interval", [0.0, "inf"])
    low, high = map(_number, ends) if isinstance(ends, list | tuple) and len(ends) == 2 else (None, None)
    return None if scale is None or low is None or high is None else (scale, low, high)


def evaluations(q: Array, record: Record) -> int:
    """Network evaluations per image, those of the most expensive row.

    Args:
        q: The levels of a plan's calls, (K,) or (R, K).
        record: The plan's ``tuned_for``.
    """
    guidance = guidance_of(record)
    if guidance is None or guidance[0] == 1:
        return int(q.shape[-1])
    _, low, high = guidance
    return int((1 + ((q > low) & (q <= high))).sum(axis=-1).max())


def cost_words(q: Array, record: Record) -> str:
    """What a plan's steps in a pipeline cost, in words: ``4 steps, 8 network evaluations per image under guidance 7.5``."""
    calls, spent = int(q.shape[-1]), evaluations(q, record)
    said = f"{card.count(calls, 'step')}, {card.count(spent, 'network evaluation')} per image"
    guidance = guidance_of(record)
    return said if guidance is None or spent == calls else f"{said} under guidance {guidance[0]:g}"


def words(record: Record) -> str:
    """What a plan was tuned for, in a few words; "" where it was not."""
    stated = record if isinstance(record, Mapping) else {}
    if not isinstance(stated.get("calls"), int):
        return ""
    guidance = guidance_of(record)
    parts = [f"{card.count(stated['calls'], 'network evaluation')} per image", card.line(stated.get("solver", ""), 40)]
    parts += [f"guidance {guidance[0]:g}" + _between(guidance[1:])] if guidance else ["no guidance"]
    parts += [f"samples of {_sides(stated['shape'])}"] if _sides(stated.get("shape")) else []
    size = [_mapping(record, "load").get(name) for name in ("height", "width")]
    parts += [f"{size[0]} x {size[1]} pixels"] if all(isinstance(side, int) for side in size) else []
    measure = _mapping(record, "measure").get("name")
    parts += [f"measure {card.line(measure, 40)}"] if isinstance(measure, str) else []
    return ", ".join(part for part in parts if part)


def condition_words(record: Record) -> str:
    """The prompts or labels that a plan was tuned with, in a few words; "" without."""
    for name in ("prompts", "labels"):
        given = _mapping(record, "load").get(name)
        if isinstance(given, list) and given:
            quoted = ", ".join(shown(one, 30) for one in given[:QUOTED_PROMPTS])
            more = f" and {len(given) - QUOTED_PROMPTS:,} more" if len(given) > QUOTED_PROMPTS else ""
            return f"{card.count(len(given), name.removesuffix('s'))}: {quoted}{more}"
    return ""


def prediction_words(record: Record) -> str:
    """What the network predicts; "" where it is not recorded."""
    stated = _mapping(record, "prediction")
    return card.line(stated.get("name", ""), 40)


def differences(record: Record, model: Denoiser) -> list[str]:
    """In which respects a model is not what a plan was tuned for, a clause each: guidance, the shape of its samples.

    Args:
        record: The plan's ``tuned_for``.
        model: The model that is to run the plan.
    """
    stated = record if isinstance(record, Mapping) else {}
    if "guidance" not in stated or "converted" in stated:
        return []
    theirs = {} if model.guidance is None else {"guidance": model.guidance}
    return different(stated, guidance=guidance_of(theirs), shape=model.shape)


def different(record: Record, *, guidance: tuple[float, float, float] | None, shape: Sequence[int] | None) -> list[str]:
    """As :func:`differences`, for a guidance (w, a, b) and a shape of samples; None for a shape that is not known."""
    stated = record if isinstance(record, Mapping) else {}
    ours, said = guidance_of(stated), []
    if _active(ours) != _active(guidance):
        said.append(f"for {_guided(ours)}, not {_guided(guidance)}")
    tuned_shape = stated.get("shape")
    if shape is not None and _sides(tuned_shape) and list(shape) != list(tuned_shape or ()):
        said.append(f"for samples of {_sides(tuned_shape)}, not {_sides(shape)}")
    return said


def _active(guidance: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
    return None if guidance is None or guidance[0] == 1 else guidance


def _guided(guidance: tuple[float, float, float] | None) -> str:
    active = _active(guidance)
    return "no guidance" if active is None else f"guidance {active[0]:g}{_between(active[1:])}"


def _between(ends: Sequence[float]) -> str:
    low, high = ends
    return "" if low <= 0 and high == float("inf") else f" between sigma {low:g} and {high:g}"


def _sides(shape: Any) -> str:
    known = isinstance(shape, list | tuple) and bool(shape) and all(isinstance(side, int) for side in shape)
    return " x ".join(map(str, shape)) if known else ""


def _mapping(record: Record, name: str) -> Mapping[str, Any]:
    part = record.get(name) if isinstance(record, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _number(value: Any) -> float | None:
    if value == "inf":
        return float("inf")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
