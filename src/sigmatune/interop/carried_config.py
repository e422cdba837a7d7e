"""The configuration of the scheduler that a plan replaces: kept in ours, so that ``from_config`` brings that scheduler back.

Diffusers hands a configuration from one scheduler to the next:
``EulerDiscreteScheduler.from_config(pipe.scheduler.config)``. So the configuration of
:class:`~sigmatune.interop.diffusers.SigmaTuneScheduler` holds every field of the scheduler before it (betas, shift,
spacing,
...) beside its own. A plan without such a scheduler gets the fields that its noise path means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sigmatune.models.network import process_of
from sigmatune.models.predictions import Prediction
from sigmatune.models.scheduler_config import READERS
from sigmatune.noise import VP, NoisePath, from_spec
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import plain

OWN = ("plan", "prediction_type", "sigma_data", "edm_sign", "seed", "first_index", "num_train_timesteps", "use_flow_sigmas",
       "replaces")  # fmt: skip
"""Fields of our own scheduler."""

STOCK = tuple(sorted(set(READERS) - {"SigmaTuneScheduler"}))
"""The classes whose configurations can be kept."""

DEFAULTS = "_use_default_values"
"""Diffusers' list of the fields that were not given, which each class then fills by itself."""

BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


class PlanFields(dict[str, Any]):
    """The plan in a configuration: a dictionary whose text is short, because diffusers prints configurations."""

    def __repr__(self) -> str:
        return f"<SigmaTune plan of {self.get('calls', '?')} network calls>"


def carried(config: Mapping[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    """The class that a plan replaces, and the fields of its configuration that are not our own.

    Args:
        config: The present scheduler's configuration.
        name: The present scheduler's class; if it is ours, the class that it replaced comes back.
    """
    name = str(config.get("replaces") or "") if name == "SigmaTuneScheduler" else name
    kept = {key: value for key, value in config.items() if key not in OWN and key[:1] != "_"}
    filled = [key for key in config.get(DEFAULTS, ()) if key not in OWN]
    # Ours, which other classes have too: they must not take our value where the scheduler before had none.
    ours = [key for key in ("sigma_data", "use_flow_sigmas") if key not in config or key in config.get(DEFAULTS, ())]
    return name, {**kept, DEFAULTS: [*filled, *ours]}


def meant(path: NoisePath, prediction: Prediction) -> tuple[str, dict[str, Any]]:
    """A class of diffusers and its configuration for models of a path and a prediction type.

    :func:`~sigmatune.models.scheduler_config.read_process` reads the path and the prediction back.

    Raises:
        SigmaTuneError: if no scheduler of diffusers has such a path.
    """
    spec = process_of(path)
    kind, levels = spec["kind"], from_spec(spec).levels
    if kind == "vp":
        betas: dict[str, Any] = {"trained_betas": betas_of(from_spec(spec)).tolist()}
        if "betas" in spec:
            tips: dict[str, Any] = {name: spec[name] for name in ("beta_start", "beta_end") if name in spec}
            betas = {"beta_schedule": BETAS[spec["betas"]]} | tips
            if spec.get("zero_terminal_snr"):
                betas |= {"rescale_betas_zero_snr": True}
        return "EulerDiscreteScheduler", {
            "num_train_timesteps": levels, **betas, "prediction_type": prediction.name, "timestep_spacing": "trailing",
        }  # fmt: skip
    if kind == "flow":
        return "FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": levels, "shift": spec["shift"]}
    ends = {"num_train_timesteps": levels, "sigma_min": spec["sigma_min"], "sigma_max": spec["sigma_max"]}
    if prediction.name == "score":
        return "ScoreSdeVeScheduler", ends
    if prediction.name.startswith("edm(") and spec.get("clock") in ("quarter_log", "atan"):
        data, sign = (field.partition("=")[2] for field in prediction.name[4:-1].split(", "))
        kind = "epsilon" if int(sign) == 1 else "v_prediction"
        name = "EDMEulerScheduler" if spec["clock"] == "quarter_log" else "CosineDPMSolverMultistepScheduler"
        return name, {**ends, "sigma_data": float(data), "prediction_type": kind}
    raise SigmaTuneError(f"no scheduler of diffusers is for models of {spec} that predict {prediction.name}.")


def betas_of(path: NoisePath) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The betas of a VP path's table, (T,), float64."""
    assert isinstance(path, VP)
    bar = path.alphas_cumprod
    return np.asarray(1 - bar / np.append(1.0, bar[:-1]))


def json_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as JSON has them."""
    return {key: plain(value) for key, value in fields.items()}
