"""The nodes. Each is a class by ComfyUI's node contract: INPUT_TYPES, RETURN_TYPES, FUNCTION, CATEGORY.

SIGMAS are a tensor of levels that ends in 0, sigma for models of noise or velocity and tau for flow models, after the shift.
SAMPLER is what SamplerCustom calls; inside ComfyUI it is its own KSAMPLER around the plan's sampler function.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import sigmatune as st
from sigmatune.interop.k_diffusion import sampler, shown, sigmas_of
from sigmatune.noise import VP, Flow

CATEGORY = "sampling/custom_sampling/sigmatune"
PLAN = (
    "STRING",
    {"default": "plan.json", "tooltip": "A plan file of `sigmatune tune` or `sigmatune schedule --plan`."},
)
STEPS = ("INT", {"default": 8, "min": 1, "max": 1000})


def load(file):
    """The plan of a file, or of a text that `sigmatune export` wrote."""
    from sigmatune.interop import exports

    if not Path(file).expanduser().is_file():
        raise st.SigmaTuneError(f"there is no plan file {file}.")
    return exports.load(Path(file).expanduser().read_text(encoding="utf-8"))


def path_of(model):
    """The noise path of a ComfyUI model, from its model_sampling: a table of sigmas, or a flow with its shift."""
    sampling = model.get_model_object("model_sampling")
    if float(sampling.sigma_max) <= 1.0:
        shift = getattr(sampling, "shift", 1.0)
        if type(sampling).__name__.endswith("Flux"):  # its shift is a logarithm
            shift = float(np.exp(shift))
        return Flow(float(shift))
    table = sampling.sigmas.double().cpu().numpy()
    return VP(1 / (1 + table**2))


class Schedule:
    """What nodes that build a schedule for a model share."""

    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "build"
    CATEGORY = CATEGORY

    @staticmethod
    def sigmas(model, family, steps, **options):
        path = path_of(model)
        schedule = st.build_schedule(family, steps, path, **options)
        levels = shown(schedule.sigmas, "flow" if isinstance(path, Flow) else "ve")
        if not np.isfinite(levels).all():
            raise st.SigmaTuneError("this model starts from sigma = inf, which ComfyUI's samplers do not take.")
        return (torch.from_numpy(levels.copy()).float(),)


class LoadPlan:
    """The levels of a plan file."""

    RETURN_TYPES, RETURN_NAMES = ("SIGMAS", "SAMPLER", "INT"), ("sigmas", "sampler", "calls")
    FUNCTION, CATEGORY = "load", CATEGORY

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"plan": PLAN}}

    def load(self, plan):
        found = load(plan)
        return sigmas_of(found), as_sampler(found), found.calls


class PlanSampler:
    """The sampler of a plan: its own steps, learned coefficients included. Give it the plan's own SIGMAS."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("SAMPLER",), "load", CATEGORY

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"plan": PLAN}}

    def load(self, plan):
        return (as_sampler(load(plan)),)


class Tuned(Schedule):
    """A plan's curve of levels at another number of steps; its evidence is for its own."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"plan": PLAN, "steps": STEPS}}

    def build(self, plan, steps):
        found = load(plan)
        schedule = found.schedule.resample(steps)
        return (
            sigmas_of(found if schedule is found.schedule else st.compile_plan(schedule).with_notes(path=found.path)),
        )


class Beta(Schedule):
    """Levels by the quantiles of a Beta distribution over timesteps."""

    @classmethod
    def INPUT_TYPES(cls):
        number = ("FLOAT", {"default": 0.6, "min": 0.01, "max": 10.0, "step": 0.01})
        return {"required": {"model": ("MODEL",), "steps": STEPS, "alpha": number, "beta": number}}

    def build(self, model, steps, alpha, beta):
        return self.sigmas(model, "beta", steps, a=alpha, b=beta)


class KLOptimal(Schedule):
    """Evenly in atan(sigma / c): optimal for Gaussian data of one variance."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",),
                "steps": STEPS,
                "c": ("FLOAT", {"default": 1.0, "min": 0.01, "max": 100.0}),
            }
        }

    def build(self, model, steps, c):
        return self.sigmas(model, "kl-optimal", steps, c=c)


class Spectral(Schedule):
    """Levels that follow the power spectrum of natural images."""

    @classmethod
    def INPUT_TYPES(cls):
        law = {
            "amplitude": (
                "FLOAT",
                {"default": 15.0, "min": 1e-6, "max": 1e6, "tooltip": "P(1) of the power law P(1) k^-slope."},
            ),
            "slope": ("FLOAT", {"default": 2.2, "min": 0.1, "max": 6.0, "step": 0.1}),
            "rings": ("INT", {"default": 32, "min": 1, "max": 4096, "tooltip": "Half of the latents' shorter side."}),
        }
        return {"required": {"model": ("MODEL",), "steps": STEPS, "focus": (["mixed", "frequency", "power"],), **law}}

    def build(self, model, steps, focus, amplitude, slope, rings):
        return self.sigmas(model, f"spectral-{focus}", steps, amplitude=amplitude, slope=slope, rings=rings)


def as_sampler(plan):
    """A SAMPLER: ComfyUI's own KSAMPLER around the plan's function, or, without ComfyUI, an object of the same methods."""
    function = sampler(plan)
    try:
        from comfy.samplers import KSAMPLER
    except ImportError:
        return Sampler(function)
    return KSAMPLER(function)


class Sampler:
    """What SamplerCustom needs of a SAMPLER, for loops outside ComfyUI."""

    def __init__(self, sampler_function):
        self.sampler_function, self.extra_options, self.inpaint_options = sampler_function, {}, {}

    def max_denoise(self, model_wrap, sigmas):
        return True

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        if denoise_mask is not None:
            raise st.SigmaTuneError("masks need ComfyUI itself.")
        sampling = model_wrap.inner_model.model_sampling
        x = sampling.noise_scaling(sigmas[0], noise, latent_image, self.max_denoise(model_wrap, sigmas))
        total = len(sigmas) - 1

        def told(state):
            callback(state["i"], state["denoised"], state["x"], total)

        samples = self.sampler_function(
            model_wrap, x, sigmas, extra_args=extra_args, callback=told if callback else None, disable=disable_pbar
        )
        return sampling.inverse_noise_scaling(sigmas[-1], samples)


NODE_CLASS_MAPPINGS = {
    "SigmaTuneLoadPlan": LoadPlan,
    "SigmaTunePlanSampler": PlanSampler,
    "SigmaTuneTuned": Tuned,
    "SigmaTuneBeta": Beta,
    "SigmaTuneKLOptimal": KLOptimal,
    "SigmaTuneSpectral": Spectral,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "SigmaTuneLoadPlan": "SigmaTune: load plan",
    "SigmaTunePlanSampler": "SigmaTune: plan sampler",
    "SigmaTuneTuned": "SigmaTune: tuned levels at N steps",
    "SigmaTuneBeta": "SigmaTune: Beta levels",
    "SigmaTuneKLOptimal": "SigmaTune: KL-optimal levels",
    "SigmaTuneSpectral": "SigmaTune: spectral levels",
}
