"""Diffusers: the configuration of our scheduler, which runs every plan; or a stock scheduler with a list, if one fits.

Two stock schedulers accept any list and keep it: EulerDiscreteScheduler (VP and VE; its list ends in the 0) and
FlowMatchEulerDiscreteScheduler (flow; it appends the 0, and shifts its list, so its own shift has to be 1).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from sigmatune import noise
from sigmatune.interop.exports.target import HEADER, ExportTarget, Samplers, stated_plan, statement
from sigmatune.models.network import process_of
from sigmatune.models.prediction_fields import fields_of, recorded
from sigmatune.models.predictions import Prediction, predictions
from sigmatune.plan import Plan
from sigmatune.plan import file as plan_file
from sigmatune.plan.file import loads as read_plan
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.reading import parsed

STOCK_NAMES = {"vp": "EulerDiscreteScheduler", "flow": "FlowMatchEulerDiscreteScheduler"}


def write(plan: Plan, *, prediction: str = "") -> str:
    """Writes ``scheduler_config.json`` for a pipeline's folder.

    Args:
        plan: A plan with its noise path.
        prediction: The model's prediction type, for a plan that does not record it; else it has to be the recorded one.

    Raises:
        SigmaTuneError: if it is unknown, not the plan's or not of its noise path, or a pipeline cannot run the plan.
    """
    from sigmatune.interop.diffusers import SigmaTuneScheduler

    if plan.path is None:
        raise SigmaTuneError("a scheduler needs the plan's noise path; make the plan for a model.")
    path = noise.from_spec(plan.path)
    kind = process_of(path)["kind"]
    name, data, sign = fields_of(_prediction(plan, kind, prediction))
    scheduler = SigmaTuneScheduler(
        plan=json.loads(plan_file.dumps(plan)),
        prediction_type=name,
        sigma_data=data,
        edm_sign=sign,
        num_train_timesteps=path.levels,
        use_flow_sigmas=kind == "flow",
    )
    return str(scheduler.to_json_string())


def _prediction(plan: Plan, kind: str, given: str) -> Prediction:
    """What the network predicts: as the plan records it, as given, or the only one that its noise path allows."""
    known = recorded(plan.tuned_for)
    chosen = predictions[given] if given else known or (predictions["flow"] if kind == "flow" else None)
    if chosen is None:
        also = " or edm" if kind == "ve" else ""
        raise SigmaTuneError(
            f"this plan does not record what its model predicts; pass it, such as --prediction {_example(kind)}{also}, or "
            "make the plan with --model."
        )
    if known is not None and known.name.partition("(")[0] != chosen.name.partition("(")[0]:
        raise SigmaTuneError(
            f"the plan's model predicts {known.name}, not {chosen.name}; leave out --prediction, the plan records it."
        )
    if kind not in chosen.paths:
        fitting = ", ".join(name for name, one in predictions.items() if kind in one.paths)
        raise SigmaTuneError(
            f"a model of the noise path {kind} does not predict {chosen.name}; it is one of {fitting}."
        )
    return known or chosen


def _example(kind: str) -> str:
    return {"vp": "epsilon or v_prediction", "ve": "score", "flow": "flow"}.get(kind, "sample")


def read(text: str) -> Plan:
    """Reads the plan out of such a configuration."""
    try:
        plan = parsed(text)["plan"]
    except SigmaTuneError:
        raise
    except (KeyError, TypeError):
        raise SigmaTuneError("this is not a configuration of a SigmaTuneScheduler.") from None
    return read_plan(json.dumps(plan))


def write_stock(plan: Plan) -> str:
    """Writes the class, the configuration and the argument of a stock scheduler, as JSON."""
    path = None if plan.path is None else process_of(noise.from_spec(plan.path))
    kind = "vp" if path is None else path["kind"]
    if kind not in STOCK_NAMES:
        raise SigmaTuneError(f"no stock scheduler of diffusers takes levels of a {kind} model; export it to diffusers.")
    stated = statement(plan, "diffusers-stock", Samplers({"euler": STOCK_NAMES[kind]}))
    stated["trailing_zero"] = kind == "vp"
    sigmas = plan.schedule.sigmas
    with np.errstate(divide="ignore"):
        shown = sigmas if kind == "vp" else (1 / (1 + 1 / sigmas))[:-1]
    if not np.isfinite(shown).all():
        raise SigmaTuneError("EulerDiscreteScheduler takes finite levels, and this plan starts from sigma = inf.")
    config = {"shift": 1.0, "use_dynamic_shifting": False} if kind == "flow" else {}
    fields = {
        HEADER.strip(): stated,
        "scheduler": STOCK_NAMES[kind],
        "config": config,
        "sigmas": shown.tolist(),
    }
    return json.dumps(fields, indent=2) + "\n"


def read_stock(text: str) -> Plan:
    """Reads it back."""
    try:
        fields = parsed(text)
        stated, given = dict(fields[HEADER.strip()]), _plain(fields["sigmas"])
    except SigmaTuneError:
        raise
    except (ValueError, KeyError, TypeError):
        raise SigmaTuneError("this is not an export to a stock scheduler of diffusers.") from None
    plan = stated_plan(stated)
    if json.loads(write_stock(plan))["sigmas"] != given:
        raise SigmaTuneError("the levels in this diffusers-stock export are not those that it states.")
    return plan


def _plain(values: Sequence[Any]) -> list[float]:
    return [float(value) for value in values]


TARGET = ExportTarget("diffusers", write, read, "scheduler_config.json of SigmaTuneScheduler: every plan")
STOCK = ExportTarget("diffusers-stock", write_stock, read_stock, "class and sigmas= of a stock scheduler: Euler plans")
