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
from sigmatune.interop.carried_config import json_fields, meant
from sigmatune.interop.exports.target import HEADER, ExportTarget, Samplers, stated_plan, statement
from sigmatune.models.network import process_of
from sigmatune.models.prediction_fields import fields_of, recorded
from sigmatune.models.predictions import Prediction, predictions
from sigmatune.noise import Array, NoisePath
from sigmatune.plan import Plan
from sigmatune.plan import file as plan_file
from sigmatune.plan.file import loads as read_plan
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.reading import parsed

STOCK_NAMES = {"vp": "EulerDiscreteScheduler", "flow": "FlowMatchEulerDiscreteScheduler"}
NO_PATH = (
    "a scheduler needs the plan's noise path, which this plan does not record; make the plan for a model, as by "
    "`sigmatune schedule ... --model MODEL --plan FILE`."
)


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
        raise SigmaTuneError(NO_PATH)
    path = noise.from_spec(plan.path)
    kind = process_of(path)["kind"]
    chosen = _prediction(plan, kind, prediction)
    name, data, sign = fields_of(chosen)
    replaces, fields = meant(path, chosen) if kind != "ve" or chosen.name != "sample" else ("", {})
    scheduler = SigmaTuneScheduler(
        plan=json.loads(plan_file.dumps(plan)),
        prediction_type=name,
        sigma_data=data,
        edm_sign=sign,
        num_train_timesteps=path.levels,
        replaces=replaces,
    )
    ours = set(scheduler.config)
    scheduler.register_to_config(**{key: value for key, value in json_fields(fields).items() if key not in ours})
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


def write_stock(plan: Plan, *, prediction: str = "") -> str:
    """Writes the class, the configuration and the argument of a stock scheduler, as JSON.

    The configuration states everything that changes levels, timesteps or the scale of the start noise, so that
    ``Class.from_config(pipe.scheduler.config, **config)`` runs the plan whatever the pipeline's own scheduler was; only what
    the model predicts comes from there.

    Args:
        plan: A plan of Euler steps with its noise path.
        prediction: What the model predicts, to stand in the configuration, too.

    Raises:
        SigmaTuneError: if no stock scheduler runs the plan.
    """
    if plan.path is None:
        raise SigmaTuneError(NO_PATH)
    path = noise.from_spec(plan.path)
    kind = process_of(path)["kind"]
    if kind not in STOCK_NAMES:
        raise SigmaTuneError(f"no stock scheduler of diffusers takes levels of a {kind} model; export it to diffusers.")
    stated = statement(plan, "diffusers-stock", Samplers({"euler": STOCK_NAMES[kind]}))
    stated["trailing_zero"] = kind == "vp"
    sigmas = plan.schedule.sigmas
    with np.errstate(divide="ignore"):
        shown = sigmas if kind == "vp" else (1 / (1 + 1 / sigmas))[:-1]
    if not np.isfinite(shown).all():
        raise SigmaTuneError("EulerDiscreteScheduler takes finite levels, and this plan starts from sigma = inf.")
    config: dict[str, Any] = (
        _vp_config(path, sigmas) if kind == "vp" else {**_FLOW_CONFIG, "num_train_timesteps": path.levels}
    )
    if prediction and kind == "vp":
        config["prediction_type"] = predictions[prediction].name
    fields = {
        HEADER.strip(): stated,
        "scheduler": STOCK_NAMES[kind],
        "config": config,
        "sigmas": shown.tolist(),
        "use": f"pipe.scheduler = diffusers.{STOCK_NAMES[kind]}.from_config(pipe.scheduler.config, **config); pipe(..., "
        "sigmas=sigmas)",
    }
    return json.dumps(fields, indent=2) + "\n"


_SPACINGS: dict[str, Any] = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_FLOW_CONFIG: dict[str, Any] = {
    "shift": 1.0, "use_dynamic_shifting": False, "shift_terminal": None, "invert_sigmas": False,
    "stochastic_sampling": False, **_SPACINGS,
}  # fmt: skip


def _vp_config(path: NoisePath, sigmas: Array) -> dict[str, Any]:
    """The table of a VP path for EulerDiscreteScheduler, whose start noise is the first sigma's with trailing spacing."""
    process = process_of(path)
    config: dict[str, Any] = {
        "num_train_timesteps": path.levels, "trained_betas": None, "rescale_betas_zero_snr": False,
        "timestep_spacing": "trailing", "timestep_type": "discrete", "interpolation_type": "linear",
        "final_sigmas_type": "zero", **_SPACINGS,
    }  # fmt: skip
    if process.get("zero_terminal_snr"):
        before = float(noise.from_spec(process).sigma(path.levels - 2.0))
        if sigmas[0] > before:
            raise SigmaTuneError(
                f"EulerDiscreteScheduler ends a table of zero terminal SNR at another level and runs none above {before:.4g}."
            )
        config["rescale_betas_zero_snr"] = True
    names = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
    if process.get("betas") in names:
        ends: dict[str, Any] = {key: process[key] for key in ("beta_start", "beta_end") if key in process}
        return {**config, "beta_schedule": names[process["betas"]], **ends}
    table = np.asarray(process["alphas_cumprod"], dtype=np.float64)
    return {**config, "trained_betas": (1 - table / np.append(1.0, table[:-1])).tolist()}


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
    if json.loads(write_stock(plan))["sigmas"] != given or not isinstance(fields.get("config"), dict):
        raise SigmaTuneError("the levels in this diffusers-stock export are not those that it states.")
    return plan


def _plain(values: Sequence[Any]) -> list[float]:
    return [float(value) for value in values]


TARGET = ExportTarget("diffusers", write, read, "scheduler_config.json of SigmaTuneScheduler: every plan")
STOCK = ExportTarget("diffusers-stock", write_stock, read_stock, "class and sigmas= of a stock scheduler: Euler plans")
