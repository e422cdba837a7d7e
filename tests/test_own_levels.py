"""The makers' own default of every scheduler class of diffusers: its levels to 1e-6, or unknown with the reason."""

from __future__ import annotations

import inspect
import warnings

import diffusers
import numpy as np
import pytest
import torch

import sigmatune as st
from sigmatune import SigmaTuneError
from sigmatune.models.scheduler_config import READERS, config_of, read_process
from sigmatune.noise import VE, VP

OPTIONS = [
    {},
    {"timestep_spacing": "linspace"},
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"timestep_spacing": "trailing"},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
    {"use_lu_lambdas": True},
    {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
    {"shift": 3.0},
    {"shift": 3.0, "shift_terminal": 0.1},
    {"interpolation_type": "log_linear"},
    {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    {"sigma_schedule": "exponential"},
    {"final_sigmas_type": "sigma_min"},
    {"lambda_min_clipped": -5.1},
    {"snr_shift_scale": 1.0},
]

UNKNOWN = {
    "DDIMInverseScheduler": "from data to noise",
    "DPMSolverMultistepInverseScheduler": "from data to noise",
    "DPMSolverSDEScheduler": "torchsde",
}
"""Classes that are read, but whose levels are not known here."""


def classes() -> list[type]:
    found = []
    for name in sorted(dir(diffusers)):
        kind = getattr(diffusers, name) if name.endswith("Scheduler") and name[:4] != "Flax" else None
        if isinstance(kind, type) and name != "SchedulerMixin":
            found.append(kind)
    return found


SLOW = ("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler")
"""Classes that search their tables for every timestep as they are made; with options they have fewer timesteps."""


def variants(kind: type):
    takes = set(inspect.signature(kind.__init__).parameters)
    for options in OPTIONS:
        if set(options) <= takes:
            fewer = {"num_train_timesteps": 100} if options and kind.__name__ in SLOW else {}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    yield options, kind(**options, **fewer)
            except ValueError:  # this class refuses the combination
                continue


def levels_of(scheduler, steps: int) -> np.ndarray | None:
    """What a run of the scheduler would be at, found by mixing ones and zeros with ``add_noise``; None where it cannot tell."""
    scheduler.set_timesteps(steps)
    one, zero = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    found = []
    for t in scheduler.timesteps:
        if hasattr(scheduler, "scale_noise"):
            data, noise = (float(scheduler.scale_noise(x, t[None], eps)) for x, eps in ((one, zero), (zero, one)))
        else:
            data, noise = (float(scheduler.add_noise(x, eps, t[None])) for x, eps in ((one, zero), (zero, one)))
        found.append(noise / data if data else np.inf)
    kept = [level for i, level in enumerate(found) if i == 0 or level != found[i - 1]]
    return np.array(kept) if len(kept) == steps else None


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_levels_are_the_classs_own_or_unknown_with_the_reason(kind):
    name = kind.__name__
    if name not in READERS:
        with pytest.raises(SigmaTuneError, match="is not supported; supported are"):
            read_process({"_class_name": name})
        return
    if (
        name in ("DPMSolverSDEScheduler", "CosineDPMSolverMultistepScheduler")
        and not diffusers.utils.is_torchsde_available()
    ):
        pytest.skip("its class needs torchsde")
    compared = 0
    for options, scheduler in variants(kind):
        process = read_process(config_of(scheduler))
        if process.schedule is None:
            assert name in UNKNOWN or "walk" in process.unknown or "makes" in process.unknown, (
                options,
                process.unknown,
            )
            assert UNKNOWN.get(name, "") in process.unknown
            continue
        family, given = process.schedule
        for steps in (2, 3, 8):
            if name == "PNDMScheduler" and steps < 4:  # it takes at least four steps in some spacings
                continue
            found = st.build_schedule(family, steps, process.path, **given).sigmas[:-1]
            expected = expected_levels(name, scheduler, steps, process.path)
            if expected is None:
                continue
            # torch computes the table of zero terminal SNR, and EDM's levels, with rounding of its own in float32
            zero = isinstance(process.path, VP) and np.isinf(process.path.sigma_max)
            first = 1 if np.isinf(found[0]) else 0  # infinity is written as 4096 by some
            np.testing.assert_allclose(
                found[first:],
                expected[first:],
                rtol=1e-5 if zero else 2e-6 if isinstance(process.path, VE) else 1e-6,
                err_msg=f"{options}, {steps} steps",
            )
            compared += 1
    assert compared or name in UNKNOWN or name == "ScoreSdeVeScheduler"


def expected_levels(name: str, scheduler, steps: int, path) -> np.ndarray | None:
    if isinstance(path, VE):
        if name == "ScoreSdeVeScheduler":
            return None
        scheduler.set_timesteps(steps)
        return scheduler.sigmas[:steps].double().numpy()
    rounds = name == "SASolverScheduler" and any(
        scheduler.config[f"use_{kind}_sigmas"] for kind in ("karras", "exponential", "beta", "flow")
    )
    if rounds or name == "FlowMatchHeunDiscreteScheduler":  # add_noise looks up a rounded t, or finds the wrong one
        scheduler.set_timesteps(steps)
        levels = scheduler.sigmas.double().numpy()
        levels = levels[np.append(True, np.diff(levels) != 0)][:steps]
        with np.errstate(divide="ignore"):
            return 1 / (1 / levels - 1) if not isinstance(path, VP) else levels
    if name == "PNDMScheduler":
        scheduler.set_timesteps(steps)
        t = np.unique(scheduler._timesteps)[::-1].astype(int)
        bar = scheduler.alphas_cumprod.double().numpy()[t]
        return np.sqrt((1 - bar) / bar)
    return levels_of(scheduler, steps)


def test_what_was_wrong_once():
    """The last level at N = 8 was that of another class's spacing."""
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    cases = [
        (diffusers.DPMSolverMultistepScheduler(**betas, timestep_spacing="linspace"), 0.40),
        (diffusers.UniPCMultistepScheduler(**betas, timestep_spacing="linspace"), 0.40),
        (diffusers.DEISMultistepScheduler(**betas, timestep_spacing="leading"), 0.37),
        (diffusers.FlowMatchEulerDiscreteScheduler(shift_terminal=0.1), 1 / 9),
    ]
    for scheduler, last in cases:
        process = read_process(config_of(scheduler))
        family, given = process.schedule
        assert st.build_schedule(family, 8, process.path, **given).sigmas[-2] == pytest.approx(last, rel=0.03)


def test_a_flow_pipelines_own_list_is_its_default():
    from tiny_pipelines import FAMILIES

    model = st.load(FAMILIES["flux"].pipe(), **FAMILIES["flux"].load)
    family, given = model.default_schedule
    found = st.build_schedule(family, 5, model.path, **given).sigmas
    np.testing.assert_allclose(found[1:], st.build_schedule("uniform-trailing", 5, model.path).sigmas[1:], rtol=1e-6)
