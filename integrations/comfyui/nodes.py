"""The nodes. Each is a class by ComfyUI's node contract: INPUT_TYPES, RETURN_TYPES, FUNCTION, CATEGORY.

SIGMAS are a tensor of levels that ends in 0, sigma for models of noise or velocity and tau for flow models, after the shift.
SAMPLER is what SamplerCustom calls; inside ComfyUI it is its own KSAMPLER around the plan's sampler function, which checks the
model before it runs and sends exactly the plan's timesteps.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import numpy as np
import torch

import sigmatune as st
from sigmatune.interop import exports
from sigmatune.interop.image_start import starting_level
from sigmatune.interop.k_diffusion import shown, sigmas_of
from sigmatune.interop.ksampler import plan_ksampler
from sigmatune.interop.model_sampling import check_model, interpolated, path_of, start_level
from sigmatune.noise import VP, Flow

try:
    import folder_paths
except ImportError:  # outside ComfyUI
    folder_paths = None

CATEGORY = "sampling/custom_sampling/sigmatune"
FOLDER = "sigmatune_plans"
"""The folder of models/ whose plans the nodes list."""

BY_PATH = "(the path above)"
REFUSE, KEEP = "refuse", "keep the levels"
PLAN = (
    "STRING",
    {
        "default": "plan.json",
        "tooltip": "A plan file of `sigmatune tune` or `sigmatune schedule --plan`: a path, or a name in "
        f"models/{FOLDER}. A changed file is read again.",
    },
)
STEPS = ("INT", {"default": 8, "min": 1, "max": 1000, "tooltip": "The number of steps; there is one more sigma."})
MODEL = ("MODEL", {"tooltip": "The model whose noise levels are built."})


def plans():
    """The files of models/sigmatune_plans, which is registered as one of ComfyUI's folders of models."""
    if folder_paths is None:
        return []
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
    return [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith((".json", ".txt", ".py"))]


def file_of(plan, file=BY_PATH):
    """The file that a node's inputs name."""
    plans()
    name = plan if file in (None, "", BY_PATH) else file
    path = Path(name).expanduser()
    if not path.is_file() and folder_paths is not None:
        listed = folder_paths.get_full_path(FOLDER, name)
        path = path if listed is None else Path(listed)
    if not path.is_file():
        raise st.SigmaTuneError(f"there is no plan file {name}.")
    return path


def load(plan, file=BY_PATH):
    """The plan of a file, or of a text that `sigmatune export` wrote."""
    return exports.load(file_of(plan, file).read_text(encoding="utf-8"))


class OfFile:
    """What nodes that read a plan file share: the choice of the file, and that a changed file is another input."""

    CATEGORY = CATEGORY

    @staticmethod
    def chosen():
        return ([BY_PATH, *plans()], {"tooltip": f"A file of models/{FOLDER}, instead of the path."})

    @classmethod
    def IS_CHANGED(cls, plan, file=BY_PATH, **_):
        return hashlib.sha256(file_of(plan, file).read_bytes()).hexdigest()

    @classmethod
    def VALIDATE_INPUTS(cls, plan=None, file=BY_PATH):
        if plan is None:  # another node's output, not known before the run
            return True
        try:
            load(plan, file)
        except (OSError, st.SigmaTuneError) as error:
            return str(error)
        return True


class LoadPlan(OfFile):
    """The levels and the sampler of a plan file."""

    DESCRIPTION = (
        "Reads a plan. Connect SIGMAS and SAMPLER to SamplerCustom or SamplerCustomAdvanced. With the model connected, a plan "
        "that was made for another kind of model, another table of levels or another shift is refused here; without, when "
        "sampling starts."
    )
    RETURN_TYPES, RETURN_NAMES = ("SIGMAS", "SAMPLER", "INT"), ("sigmas", "sampler", "calls")
    OUTPUT_TOOLTIPS = (
        "The plan's levels, ending in 0.",
        "The plan's own steps, learned coefficients included.",
        "Network calls of a run, those of guidance not counted.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        denoise = {
            "default": 1.0, "min": 0.01, "max": 1.0, "step": 0.01,
            "tooltip": "Below 1 the plan starts at the noise level of that share of the model's time, for image to image.",
        }  # fmt: skip
        shift = {
            "tooltip": "For flow models with another shift than the plan's. The network receives the plan's levels."
        }
        optional = {"file": cls.chosen(), "model": MODEL, "denoise": ("FLOAT", denoise)}
        return {"required": {"plan": PLAN}, "optional": {**optional, "other_shift": ([REFUSE, KEEP], shift)}}

    def load(self, plan, file=BY_PATH, model=None, denoise=1.0, other_shift=REFUSE):
        loaded, top = load(plan, file), None
        if model is not None:
            sampling = model.get_model_object("model_sampling")
            check_model(loaded, sampling, other_shift=other_shift == KEEP)
            top = start_level(loaded, sampling)
        if denoise < 1:
            loaded = st.partial(loaded, starting_level(loaded, denoise))
        return sigmas_of(loaded, top), as_sampler(loaded, other_shift=other_shift == KEEP), loaded.calls


class PlanSampler(OfFile):
    """The sampler of a plan: its own steps, learned coefficients included. Give it the plan's own SIGMAS."""

    DESCRIPTION = "The sampler alone. It accepts the plan's SIGMAS, complete or cut by SplitSigmas."
    RETURN_TYPES, FUNCTION = ("SAMPLER",), "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"plan": PLAN}, "optional": {"file": cls.chosen()}}

    def load(self, plan, file=BY_PATH):
        return (as_sampler(load(plan, file)),)


class Tuned(OfFile):
    """A plan's curve of levels at another number of steps; its evidence is for its own."""

    DESCRIPTION = "A plan's curve of levels at another number of steps, for ComfyUI's own samplers."
    RETURN_TYPES, FUNCTION = ("SIGMAS",), "build"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"plan": PLAN, "steps": STEPS}, "optional": {"file": cls.chosen()}}

    def build(self, plan, steps, file=BY_PATH):
        loaded = load(plan, file)
        schedule = loaded.schedule.resample(steps)
        if schedule is not loaded.schedule:
            loaded = st.compile_plan(schedule).with_notes(path=loaded.path)
        return (sigmas_of(loaded),)


class ExactTimesteps:
    """The model without ComfyUI's rounding, for ComfyUI's own samplers."""

    DESCRIPTION = (
        "On models of a table of steps (SD 1.5, SDXL) ComfyUI rounds t to whole steps and starts from slightly more noise than "
        "the first sigma says. The model of this node does neither. The plan's own sampler needs no such node."
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "patch", CATEGORY

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL", {"tooltip": "The model that the sampler runs."})}}

    def patch(self, model):
        sampling, model = copy.deepcopy(model.get_model_object("model_sampling")), model.clone()
        path, scaling = path_of(sampling), sampling.noise_scaling
        if isinstance(path, VP):
            sampling.timestep = interpolated(path)
            sampling.noise_scaling = lambda sigma, noise, latent, max_denoise=False: scaling(sigma, noise, latent)
        model.add_object_patch("model_sampling", sampling)
        return (model,)


class Schedule:
    """What nodes that build a schedule for a model share."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("SIGMAS",), "build", CATEGORY

    @staticmethod
    def sigmas(model, family, steps, **options):
        path = path_of(model.get_model_object("model_sampling"))
        schedule = st.build_schedule(family, steps, path, **options)
        levels = shown(schedule.sigmas, "flow" if isinstance(path, Flow) else "ve")
        if not np.isfinite(levels).all():
            raise st.SigmaTuneError("this model starts from sigma = inf, which ComfyUI's samplers do not take.")
        return (torch.from_numpy(levels.copy()).float(),)


class Beta(Schedule):
    """Levels by the quantiles of a Beta distribution over timesteps."""

    DESCRIPTION = "Levels by the quantiles of a Beta(alpha, beta) distribution over the model's timesteps."

    @classmethod
    def INPUT_TYPES(cls):
        number = {"default": 0.6, "min": 0.01, "max": 10.0, "step": 0.01}
        alpha = ("FLOAT", {**number, "tooltip": "Below 1: more levels at the noisy end."})
        beta = ("FLOAT", {**number, "tooltip": "Below 1: more levels at the clean end."})
        return {"required": {"model": MODEL, "steps": STEPS, "alpha": alpha, "beta": beta}}

    def build(self, model, steps, alpha, beta):
        return self.sigmas(model, "beta", steps, a=alpha, b=beta)


class KLOptimal(Schedule):
    """Evenly in atan(sigma / c): optimal for Gaussian data of one variance."""

    DESCRIPTION = "Levels evenly in atan(sigma / c)."

    @classmethod
    def INPUT_TYPES(cls):
        c = {"default": 1.0, "min": 0.01, "max": 100.0, "tooltip": "The standard deviation of the data."}
        return {"required": {"model": MODEL, "steps": STEPS, "c": ("FLOAT", c)}}

    def build(self, model, steps, c):
        return self.sigmas(model, "kl-optimal", steps, c=c)


class Spectral(Schedule):
    """Levels that follow the power spectrum of natural images."""

    DESCRIPTION = (
        "Levels at which frequencies of the data's power law P(1) k^-slope drown in noise, one after the other."
    )

    @classmethod
    def INPUT_TYPES(cls):
        power = {"default": 15.0, "min": 1e-6, "max": 1e6, "tooltip": "P(1) of the power law P(1) k^-slope."}
        slope = {"default": 2.2, "min": 0.1, "max": 6.0, "step": 0.1, "tooltip": "Its exponent."}
        rings = {"default": 32, "min": 1, "max": 4096, "tooltip": "Half of the latents' shorter side."}
        law = {"amplitude": ("FLOAT", power), "slope": ("FLOAT", slope), "rings": ("INT", rings)}
        return {"required": {"model": MODEL, "steps": STEPS, "focus": (["mixed", "frequency", "power"],), **law}}

    def build(self, model, steps, focus, amplitude, slope, rings):
        return self.sigmas(model, f"spectral-{focus}", steps, amplitude=amplitude, slope=slope, rings=rings)


def as_sampler(plan, *, other_shift=False):
    """A SAMPLER: ComfyUI's own KSAMPLER around the plan's function, or, without ComfyUI, an object of the same methods."""
    try:
        from comfy.samplers import KSAMPLER
    except ImportError:
        return plan_ksampler(plan, other_shift=other_shift)
    return plan_ksampler(plan, KSAMPLER, other_shift=other_shift)


NODES = {
    "SigmaTuneLoadPlan": (LoadPlan, "SigmaTune: load plan"),
    "SigmaTunePlanSampler": (PlanSampler, "SigmaTune: plan sampler"),
    "SigmaTuneTuned": (Tuned, "SigmaTune: tuned levels at N steps"),
    "SigmaTuneExactTimesteps": (ExactTimesteps, "SigmaTune: exact timesteps"),
    "SigmaTuneBeta": (Beta, "SigmaTune: Beta levels"),
    "SigmaTuneKLOptimal": (KLOptimal, "SigmaTune: KL-optimal levels"),
    "SigmaTuneSpectral": (Spectral, "SigmaTune: spectral levels"),
}
NODE_CLASS_MAPPINGS = {key: cls for key, (cls, _) in NODES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {key: name for key, (_, name) in NODES.items()}
