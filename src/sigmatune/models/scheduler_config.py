"""Reads the noise path and the prediction type out of a diffusers ``scheduler_config.json``.

The file describes the model's training process and, mixed with it, its authors' sampler. Only the process counts here.
``clip_sample``, ``thresholding``, ``variance_type`` and the solver's own options say how *that sampler* post-processes
an estimate; the denoiser is the network's estimate itself, unclipped, so that tuning sees a smooth function.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sigmatune.models.own_levels import built, own_levels
from sigmatune.models.prediction_fields import prediction_of
from sigmatune.models.predictions import Prediction, edm, predictions
from sigmatune.noise import VE, VP, Flow, NoisePath, vp
from sigmatune.noise import beta_tables as tables
from sigmatune.noise import from_spec as noise_path
from sigmatune.support.errors import SigmaTuneError, reason
from sigmatune.support.options import plain

Config = Mapping[str, Any]

logger = logging.getLogger(__name__)

MOST_LEVELS = 1_000_000
"""Most timesteps of a table; more would only fill memory."""

PROBED = 10
"""Number of steps at which a scheduler has to make its levels for them to count as known."""

RESPACED = ("karras_sigmas", "exponential_sigmas", "beta_sigmas")


@dataclass(frozen=True)
class Process:
    """The process in a scheduler's configuration.

    Args:
        path: The noise path.
        prediction: What the network predicts.
        schedule: The schedule family of the authors' sampler, with its options; None if its levels are unknown.
        value_range: The range of the data.
        unknown: Why there is no schedule.
    """

    path: NoisePath
    prediction: Prediction
    schedule: tuple[str, Mapping[str, Any]] | None
    value_range: tuple[float, float] = (-1.0, 1.0)
    unknown: str = ""


def read_process(config: Config, *, shift: float | None = None) -> Process:
    """Reads a scheduler configuration.

    Args:
        config: The content of ``scheduler_config.json``; absent fields take the scheduler class's own defaults.
        shift: The shift of a flow model's time, where it depends on the resolution (``use_dynamic_shifting``) or is another
            than the configuration's.

    Raises:
        SigmaTuneError: for a scheduler, beta table or prediction type that is not supported, naming those that are.
    """
    name = str(config.get("_class_name", ""))
    if name not in READERS:
        scheduler = f"the scheduler {name!r} is" if name else "a scheduler_config.json without _class_name is"
        raise SigmaTuneError(
            f"{scheduler} not supported; supported are {', '.join(sorted(READERS))}, or pass path= and prediction=."
        )
    try:
        full = _defaults(name) | {key: value for key, value in config.items() if value is not None}
        return _known(READERS[name](full if shift is None else {**full, "known_shift": shift}))
    except SigmaTuneError:
        raise
    except KeyError as error:
        raise SigmaTuneError(f"the configuration of the scheduler {name} lacks {error}.") from None
    except (TypeError, ValueError) as error:
        raise SigmaTuneError(
            f"the configuration of the scheduler {name} cannot be read ({reason(error)}); correct it, or pass path= "
            "and prediction=."
        ) from None


def _known(process: Process) -> Process:
    """The process without a schedule that this scheduler cannot make, with the reason."""
    if process.schedule is None or process.schedule[0] != "diffusers":
        return process
    try:
        own_levels(process.schedule[1]["config"], PROBED, process.path)
    except SigmaTuneError as error:
        logger.info("the model's own default is not known: %s", error)
        return replace(process, schedule=None, unknown=str(error))
    return process


def config_of(scheduler: Any) -> dict[str, Any]:
    """The configuration of a scheduler in memory, with the name of its class, which diffusers adds when it writes one."""
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


def _defaults(name: str) -> dict[str, Any]:
    """The class's own defaults; none for a class whose sampler needs a library that is not installed."""
    import diffusers

    if name == "SigmaTuneScheduler":
        return {}
    signature = inspect.signature(getattr(diffusers, name).__init__)
    return {key: p.default for key, p in signature.parameters.items() if p.default is not inspect.Parameter.empty}


def _vp(config: Config) -> Process:
    if config["prediction_type"] == "flow_prediction" or config.get("use_flow_sigmas"):
        return _flow({**config, "shift": config.get("flow_shift", 1.0)})
    if config.get("timestep_type", "discrete") != "discrete":
        raise SigmaTuneError(
            "a VP scheduler with timestep_type 'continuous' is not supported; pass path= and prediction=."
        )
    kind = "sample" if config.get("predict_epsilon") is False else config["prediction_type"]  # the name before 2023
    kind = "sample" if kind == "original_sample" else kind
    supported = ("epsilon", "v_prediction", "sample")
    if kind not in supported:
        raise SigmaTuneError(f"prediction_type {kind!r} is not supported here; supported are {', '.join(supported)}.")
    return Process(_vp_path(config), predictions[kind], _vp_schedule(config))


def _vp_path(config: Config) -> VP:
    levels, kind = config["num_train_timesteps"], config["beta_schedule"]
    if not isinstance(levels, int) or not 2 <= levels <= MOST_LEVELS:
        raise SigmaTuneError(
            f"num_train_timesteps of the scheduler must be a whole number from 2 to {MOST_LEVELS:,}, not {levels!r}."
        )
    ends = {"beta_start": config["beta_start"], "beta_end": config["beta_end"]}
    zero = bool(config.get("rescale_betas_zero_snr"))
    trained = config.get("trained_betas")
    if trained is None and kind in ("linear", "scaled_linear"):
        return vp(kind, levels=levels, zero_terminal_snr=zero, **ends)
    if trained is None and kind == "squaredcos_cap_v2":
        return vp("cosine", levels=levels, zero_terminal_snr=zero)
    if trained is not None:
        table = np.asarray(trained, dtype=np.float32)
    elif kind == "sigmoid":
        table = tables.sigmoid(config["beta_start"], config["beta_end"], levels)
    elif kind == "laplace":
        table = tables.laplace(levels)
    else:
        raise SigmaTuneError(
            f"beta_schedule {kind!r} is not supported; supported are linear, scaled_linear, squaredcos_cap_v2, sigmoid, "
            "laplace and trained_betas."
        )
    return VP(tables.alphas_cumprod(table, zero_terminal_snr=zero))


LEADING = ("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "EulerAncestralDiscrete", "EulerDiscrete", "HeunDiscrete",
           "LMSDiscrete", "PNDM")  # fmt: skip
"""Classes whose leading timesteps are those of our family uniform-leading: every floor(T / N)-th."""


def _own(config: Config, **options: Any) -> tuple[str, Mapping[str, Any]]:
    """What the class itself makes of its configuration."""
    public = {key: plain(value) for key, value in config.items() if key[:1] != "_" and key != "known_shift"}
    return "diffusers", {"config": {"_class_name": config["_class_name"], **public}, **options}


def _cogvideox(config: Config) -> Process:
    """VP whose signal-to-noise ratio is divided by ``snr_shift_scale``; the table is the one that the class computes."""
    kind = config["prediction_type"]
    if kind not in ("epsilon", "v_prediction", "sample"):
        raise SigmaTuneError(
            f"prediction_type {kind!r} is not supported here; supported are epsilon, v_prediction, sample."
        )
    table = np.asarray(built({key: plain(value) for key, value in config.items()}).alphas_cumprod, dtype=np.float64)
    return Process(VP(table), predictions[kind], _own(config))


def _vp_schedule(config: Config) -> tuple[str, Mapping[str, Any]] | None:
    respaced = any(config.get(f"use_{kind}") for kind in (*RESPACED, "lu_lambdas"))
    plain_name = str(config["_class_name"]).removesuffix("Scheduler") in LEADING
    if plain_name and not respaced and config.get("timestep_spacing", "leading") == "leading":
        return "uniform-leading", {"steps_offset": config.get("steps_offset", 0)}
    return _own(config)


def _score(config: Config) -> Process:
    path = VE(config["sigma_min"], config["sigma_max"], levels=config["num_train_timesteps"])
    return Process(path, predictions["score"], ("log-uniform", {}), (0.0, 1.0))


def _edm(config: Config) -> Process:
    signs = {"epsilon": 1, "v_prediction": -1}
    kind = config["prediction_type"]
    if kind not in signs:
        raise SigmaTuneError(
            f"an EDM model of prediction_type {kind!r} is not supported; supported are {', '.join(signs)}."
        )
    clock: Literal["quarter_log", "atan"] = "atan" if "Cosine" in config["_class_name"] else "quarter_log"
    path = VE(config["sigma_min"], config["sigma_max"], clock, config["num_train_timesteps"])
    exponential = config["sigma_schedule"] == "exponential"
    karras = "karras", {"rho": float(config.get("rho", 7.0))}
    return Process(path, edm(config["sigma_data"], sign=signs[kind]), ("log-uniform", {}) if exponential else karras)


def _flow(config: Config) -> Process:
    known = config.get("known_shift")
    kind = config.get("prediction_type") or "flow_prediction"
    if kind not in ("flow_prediction", "sample"):
        raise SigmaTuneError(
            f"a flow model of prediction_type {kind!r} is not supported; supported are flow_prediction, sample."
        )
    if config.get("invert_sigmas"):
        raise SigmaTuneError("a flow scheduler with invert_sigmas is not supported: its time runs the other way.")
    if config.get("use_dynamic_shifting") and known is None:
        raise SigmaTuneError(
            "a flow scheduler with use_dynamic_shifting has a shift for each resolution; load the pipeline with its height and "
            "width, or pass path=Flow(shift) and prediction='flow'."
        )
    path = Flow(config["shift"] if known is None else known, config["num_train_timesteps"])
    return Process(path, predictions[kind], _own(config))


def _sigmatune(config: Config) -> Process:
    """Our own scheduler: its plan's noise path."""
    path, kind = noise_path(config["plan"]["noise_path"]), config["prediction_type"]
    replaced = {**config, "_class_name": config.get("replaces") or ""}
    if replaced["_class_name"] in READERS and replaced["_class_name"] != "SigmaTuneScheduler":
        shift = getattr(path, "shift_by", None)
        given = {key: value for key, value in replaced.items() if key not in ("plan", "use_flow_sigmas")}
        return replace(read_process(given, shift=shift), path=path)
    prediction = prediction_of(kind, config.get("sigma_data"), config.get("edm_sign", 1))
    return Process(path, prediction, None, unknown="the scheduler holds a plan and not what it replaced")


READERS: dict[str, Callable[[Config], Process]] = {
    **dict.fromkeys(
        (
            "DDIMInverseScheduler",
            "DDIMParallelScheduler",
            "DDIMScheduler",
            "DDPMParallelScheduler",
            "DDPMScheduler",
            "DEISMultistepScheduler",
            "DPMSolverMultistepInverseScheduler",
            "DPMSolverMultistepScheduler",
            "DPMSolverSDEScheduler",
            "DPMSolverSinglestepScheduler",
            "EulerAncestralDiscreteScheduler",
            "EulerDiscreteScheduler",
            "HeunDiscreteScheduler",
            "KDPM2AncestralDiscreteScheduler",
            "KDPM2DiscreteScheduler",
            "LCMScheduler",
            "LMSDiscreteScheduler",
            "PNDMScheduler",
            "SASolverScheduler",
            "TCDScheduler",
            "UniPCMultistepScheduler",
        ),
        _vp,
    ),
    "SigmaTuneScheduler": _sigmatune,
    "ScoreSdeVeScheduler": _score,
    **dict.fromkeys(("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"), _cogvideox),
    **dict.fromkeys(("CosineDPMSolverMultistepScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"), _edm),
    **dict.fromkeys(
        ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler"), _flow
    ),
}
"""Readers by the scheduler's class name."""
