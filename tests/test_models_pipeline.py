"""Diffusers pipelines as denoisers: what the pipeline sends and computes is what the denoiser sends and computes."""

from __future__ import annotations

import copy
import functools
import inspect
import re
import warnings
from collections import Counter

import diffusers
import numpy as np
import pytest
import torch

import sigmatune as st
from sigmatune import SigmaTuneError
from sigmatune.core import rng
from sigmatune.core.condition import Condition
from sigmatune.core.loop import run
from sigmatune.core.saved_weights import saved
from sigmatune.core.wrappers import Counted, Observed
from sigmatune.models.capture import network_of
from sigmatune.models.scheduler_config import config_of, read_process
from sigmatune.noise import Flow, vp
from sigmatune.tuning import TuningSettings, Workbench, guard
from tiny_pipelines import FAMILIES, PROMPTS, SD_BETAS, SIZE, mask, picture, sd2_v, sd_adapter

INF = float("inf")
SETTINGS = TuningSettings(6, 6, 8, evaluations=4, reference_steps=8, micro_batch=4)
WORDS = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("cat", "dog", "tree")]


def extra_of(name):
    if name == "sd-inpaint":
        return {"image": picture(2), "mask_image": mask()}
    return {"image": picture(2)} if FAMILIES[name].image else {}


def load(name, **options):
    family = FAMILIES[name]
    pipe = family.pipe()
    return pipe, st.load(pipe, **{**family.load, **extra_of(name), **options})


def sample(model, plan, *rows, micro_batch=2, **options):
    """Images of a few rows; the plan's own 16 rows per network call would be padding here."""
    return st.sample(model, plan, *rows, micro_batch=micro_batch, **options)


@pytest.fixture
def brief(little, monkeypatch):
    """Little work for what tunes, and a guard that soon takes its reference for converged or not."""
    monkeypatch.setattr(guard, "MOST_REFERENCE_STEPS", 2 * SETTINGS.reference_steps)


class Stepped:
    """Records what a pipeline's own scheduler is handed: (network's t, latents, guided output)."""

    def __init__(self, pipe):
        self.sent, self.pairs = [], []
        network = network_of(pipe)

        def keep(module, args, kwargs):
            t = kwargs["timestep"] if "timestep" in kwargs else args[1]
            self.sent.append(float(torch.as_tensor(t).reshape(-1)[0]))

        self.hook = network.register_forward_pre_hook(keep, with_kwargs=True)
        plain = pipe.scheduler.step

        def step(output, t, sample, *args, **kwargs):
            self.pairs.append((output.clone(), sample.clone()))
            return plain(output, t, sample, *args, **kwargs)

        step.__signature__ = inspect.signature(plain)
        pipe.scheduler.step = step


@pytest.mark.filterwarnings("ignore:a StableDiffusionInpaintPipeline changes its latents")
@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_denoiser_is_what_the_pipeline_computes(name):
    """With the pipeline's own scheduler: (t, sigma) at the network, guidance, and the prediction, at three steps."""
    pipe, model = load(name)
    if name == "sd15":  # its own scheduler, PNDM, hands on a mixture of outputs
        pipe.scheduler = diffusers.DDIMScheduler(**SD_BETAS, clip_sample=False, steps_offset=1)
    if name == "pixart":
        pipe.scheduler = diffusers.DDIMScheduler(clip_sample=False)
    if FAMILIES[name].build in (
        FAMILIES["sd-img2img"].build,
        FAMILIES["sd-inpaint"].build,
        FAMILIES["sd-controlnet"].build,
    ):
        pipe.scheduler = diffusers.DDIMScheduler(**SD_BETAS, clip_sample=False, steps_offset=1)
    seen = Stepped(pipe)
    call = {**FAMILIES[name].call, **extra_of(name)}
    if "image" in call and "strength" in inspect.signature(type(pipe).__call__).parameters:
        call["strength"] = 1.0
    pipe(**call, num_inference_steps=3, generator=torch.Generator().manual_seed(0))
    seen.hook.remove()
    scheduler = pipe.scheduler
    assert len(seen.pairs) == 3
    for i, (sent, (said, latents)) in enumerate(zip(seen.sent, seen.pairs, strict=True)):
        scale = 1.0
        t = sent * model.clock
        sigma = float(model.path.sigma(t))
        if "sigmas" in vars(scheduler) and isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
            assert t / 1000 == pytest.approx(float(scheduler.sigmas[i]), rel=1e-6)
        elif isinstance(scheduler, diffusers.EulerDiscreteScheduler):
            assert sigma == pytest.approx(float(scheduler.sigmas[i]), rel=1e-5)
            scale = (1 + sigma**2) ** -0.5
        else:
            bar = scheduler.alphas_cumprod[int(t)].double()
            assert sigma == pytest.approx(float(((1 - bar) / bar).sqrt()), rel=1e-5)
        x, output = scale * latents[:1], said[:1, : latents.shape[1]]
        levels = torch.full((1, *[1] * (x.ndim - 1)), sigma, dtype=torch.float64)
        expected = model.prediction.x0(output, x, levels)
        z = x / float(model.path.state_scale(sigma))
        torch.testing.assert_close(model(z, sigma), expected, rtol=0, atol=1e-4 * max(1.0, float(expected.abs().max())))


def test_the_noise_path_and_the_prediction_are_the_pipelines():
    assert load("sd15")[1].path.spec() == vp("scaled_linear", beta_start=0.00085, beta_end=0.012).spec()
    assert np.isinf(load("sd2-v")[1].path.sigma_max)
    assert load("sd2-v")[1].prediction.name == "v_prediction"
    assert load("sd3")[1].path == Flow(3.0)
    # Flux: mu on the line through (256, base_shift) and (4096, max_shift), of 16 patches of 2 x 2 latents
    mu = 0.5 + (16 - 256) * (1.15 - 0.5) / (4096 - 256)
    assert load("flux")[1].path.shift_by == pytest.approx(np.exp(mu), rel=1e-12)
    assert load("flux", height=32, width=32)[1].path.shift_by > np.exp(mu)
    linear = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    with pytest.raises(SigmaTuneError, match="shift for each resolution"):
        read_process(config_of(linear))


# ------------------------------------------------------------------------------------------------------------ guidance


def test_guidance_is_on_inside_its_interval_and_costs_two_there():
    _, everywhere = load("sd15")
    _, none = load("sd15", guidance=1.0)
    _, model = load("sd15", interval=(0.5, 5.0))
    z = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    sizes = []
    network = network_of(model.pipe)
    hook = network.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(len(kwargs["sample"])), with_kwargs=True
    )
    for sigma, like, cost in ((5.1, none, 1), (5.0, everywhere, 2), (1.0, everywhere, 2), (0.5, none, 1)):
        sizes.clear()
        found = model(z, sigma)
        assert (model.calls_at(sigma), sizes) == (cost, [2 * cost])
        torch.testing.assert_close(found, like(z, sigma), rtol=0, atol=1e-4)
    hook.remove()
    assert (everywhere(z, 1.0) - none(z, 1.0)).abs().max() > 1e-3
    # Rows of one batch at levels inside and outside
    mixed = model(z, torch.tensor([6.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(mixed, torch.cat([none(z[:1], 6.0), everywhere(z[1:], 1.0)]), rtol=0, atol=1e-4)
    plan = st.compile_plan(st.Schedule([10.0, 3.0, 0.4, 0.0]), "euler", model)
    assert plan.network_calls(model) == 1 + 2 + 1
    assert model.guidance == {"scale": 3.0, "interval": [0.5, 5.0]}


def test_a_pipelines_own_guidance_is_the_default():
    assert load("sd15", guidance=None)[1].scale == 7.5
    assert load("dit", guidance=None)[1].scale == 4.0
    assert load("flux")[1].scale == 1.0


def test_flux_leads_away_from_a_negative_prompt_in_a_call_of_its_own():
    pipe, model = load("flux", guidance=2.0, negative_prompt="blur")
    plan = st.compile_plan(st.build_schedule("uniform-trailing", 3, model.path), "euler", model)
    pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)
    eps = rng.noise(0, [0], 0, model.shape)
    call = {**FAMILIES["flux"].call, "true_cfg_scale": 2.0, "negative_prompt": "blur", "latents": eps}
    found = pipe(**call, num_inference_steps=3)[0]
    torch.testing.assert_close(found, sample(model, plan, 1), rtol=0, atol=1e-4)
    assert model.calls_at(1.0) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sd15", {"guidance": None, "guidance_scale": 3.0}),
        ("dit", {"guidance": None, "guidance_scale": 3.0}),
        ("sd3", {"guidance": 3.0, "guidance_scale": 3.0}),
        ("flux", {"true_cfg_scale": 3.0}),
    ],
)
def test_the_pipelines_own_name_of_guidance_is_heard(name, options):
    assert load(name, **options)[1].scale == 3.0


def test_rescaled_guidance_is_what_the_pipeline_computes():
    pipe, model = load("sdxl", guidance_rescale=0.7)
    plan = st.compile_plan(st.build_schedule("uniform-trailing", 3, model.path), "euler", model)
    pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)
    eps = rng.noise(0, [0], 0, model.shape)
    found = pipe(**FAMILIES["sdxl"].call, guidance_rescale=0.7, latents=eps, num_inference_steps=3)[0]
    torch.testing.assert_close(found, sample(model, plan, 1), rtol=0, atol=1e-4)
    assert (sample(load("sdxl")[1], plan, 1) - found).abs().max() > 1e-2


def test_latents_are_decoded_with_the_mean_and_deviation_of_their_channels():
    pipe, model = load("sdxl")
    plan = st.compile_plan(st.build_schedule("uniform-trailing", 2, model.path), "euler", model)
    pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)
    eps, call = rng.noise(0, [0], 0, model.shape), {**FAMILIES["sdxl"].call, "output_type": "pt"}
    pipe.vae.register_to_config(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 1.0, 0.5])
    try:
        found = pipe(**call, latents=eps, num_inference_steps=2)[0]
        decoded = model.decode(sample(model, plan, 1))
    finally:
        pipe.vae.register_to_config(latents_mean=None, latents_std=None)
    torch.testing.assert_close(found, (decoded / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-4)


def test_a_compiled_network_is_the_same_model():
    pipe, model = load("sd3")  # a smaller one than a UNet
    plain = pipe.transformer
    pipe.transformer = torch.compile(plain, backend="eager")
    try:
        compiled = st.load(pipe, **FAMILIES["sd3"].load)
        assert type(pipe.transformer).__name__ == "OptimizedModule", "the pipeline is as it was"
        z = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(compiled(z, 1.0), model(z, 1.0), rtol=0, atol=1e-5)
        assert compiled.fingerprint() == model.fingerprint()
        plan = st.compile_plan(st.build_schedule("uniform-trailing", 2, model.path), "euler", compiled)
        pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)
        pipe(**FAMILIES["sd3"].call, num_inference_steps=2)
    finally:
        pipe.transformer = plain


def _in_peft(unet, folder):
    import peft

    return peft.get_peft_model(unet, peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))


def _offloaded(unet, folder):
    import accelerate

    return accelerate.cpu_offload(unet, execution_device=torch.device("cpu"))


def _on_disk(unet, folder):
    import accelerate

    accelerate.disk_offload(unet, folder, execution_device=torch.device("cpu"))
    return unet


def _in_groups(unet, folder):
    cpu = torch.device("cpu")
    unet.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    return unet


def _in_eight_bits(unet, folder):
    unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    return unet


@pytest.mark.parametrize("wrap", [_offloaded, _on_disk, _in_groups, _in_peft, _in_eight_bits])
def test_an_offloaded_adapted_or_rounded_network_runs_as_in_its_pipeline(wrap, tmp_path):
    """Offloading changes no weight, so the model stays the same one; adapters and rounding make another."""
    family, model = FAMILIES["sd15"], load("sd15")[1]
    pipe = copy.deepcopy(family.pipe())
    pipe.set_progress_bar_config(disable=True)
    pipe.unet = wrap(pipe.unet, tmp_path)
    wrapped = st.load(pipe, **family.load)
    same = wrap in (_offloaded, _on_disk, _in_groups)
    assert (wrapped.fingerprint() == model.fingerprint()) is same
    plan = st.compile_plan(st.Schedule([10.0, 1.0, 0.2, 0.0]), "dpmpp2m", wrapped)
    images = sample(wrapped, plan, 1)
    assert torch.equal(images, sample(model, plan.with_notes(fingerprint=None), 1)) is same
    pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)
    call = {**family.call, "output_type": "latent"}
    latents = pipe(**call, latents=rng.noise(0, [0], 0, model.shape), num_inference_steps=3)[0]
    torch.testing.assert_close(latents, images, rtol=1e-4, atol=1e-3)


def test_a_network_whose_rounding_depends_on_the_batch_is_refused_before_tuning():
    """Dynamic quantisation rounds activations by the range of the whole batch."""
    pipe = copy.deepcopy(FAMILIES["sd15"].pipe())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe.unet = torch.ao.quantization.quantize_dynamic(pipe.unet, {torch.nn.Linear}, dtype=torch.qint8)
    model = st.load(pipe, **{**FAMILIES["sd15"].load, "prompts": WORDS})
    assert model.fingerprint() != load("sd15")[1].fingerprint()
    with pytest.raises(SigmaTuneError, match="batch"):
        st.tune(model, 4, progress=False)


def test_a_weight_without_data_that_no_hook_holds_is_named():
    with pytest.raises(SigmaTuneError, match=r"the weight weight has no data"):
        dict(saved(layer := torch.nn.Linear(2, 2, device="meta", bias=False), layer.state_dict()))


# ---------------------------------------------------------------------------------------------------------- conditions


@pytest.mark.parametrize("threads", [1, 2])
def test_row_i_has_prompt_i_whatever_the_batch(threads, one_thread):
    pipe, model = load("sd15", prompts=WORDS[:4])
    plan = st.compile_plan(st.Schedule([10.0, 2.0, 0.5, 0.0]), "dpmpp2m", model)
    torch.set_num_threads(threads)
    together, rounding = sample(model, plan, 7, micro_batch=3), 0 if threads == 1 else 1e-4
    for i in (0, 3, 5):
        own = sample(model, plan, indices=[i], micro_batch=3)[0]
        torch.testing.assert_close(own, together[i], rtol=0, atol=rounding)
        alone = st.load(pipe, **{**PROMPTS, "prompts": [WORDS[i % 4]]})
        torch.testing.assert_close(sample(alone, plan, indices=[i])[0], together[i], rtol=0, atol=1e-4)
    assert (together[2] - sample(alone, plan, indices=[2])[0]).abs().max() > 1e-3
    with pytest.raises(SigmaTuneError, match="select rows"):
        model(torch.zeros(2, *model.shape), 1.0)
    with pytest.raises(SigmaTuneError, match="set up for 3 rows and got 2"):
        model.rows([0, 1, 2])(torch.zeros(2, *model.shape), 1.0)


def test_wrappers_pass_rows_on():
    _, model = load("sd15", prompts=WORDS[:2])
    plan = st.compile_plan(st.Schedule([10.0, 1.0, 0.0]), "euler", model)
    seen = []
    counted = Counted(model)
    watched = Observed(counted, lambda z, sigma, x0: seen.append(len(z)))
    found = run(plan.coefficients, watched, indices=[1], micro_batch=2)
    torch.testing.assert_close(found, sample(model, plan, indices=[1], micro_batch=2), rtol=0, atol=0)
    assert (counted.calls, counted.images, seen) == (4, 8, [2, 2])
    assert watched.conditions() == model.conditions() != ""


def test_prompts_are_encoded_once():
    pipe = FAMILIES["sd15"].pipe()
    calls = []
    hook = pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    model = st.load(pipe, **{**PROMPTS, "prompts": WORDS})
    encoded = len(calls)
    assert encoded == 2 * len(WORDS), "each prompt, and what guidance leads away from, as the pipeline does it"
    sample(model, st.compile_plan(st.Schedule([10.0, 1.0, 0.0]), "euler", model), 8)
    hook.remove()
    assert len(calls) == encoded


def test_prompts_that_tune_choose_and_judge_are_disjoint():
    _, model = load("sd15", prompts=WORDS)
    bench = Workbench(model, SETTINGS)
    used = {
        split: {bench.model._entries.place(i) for i in SETTINGS.rows(split)}
        for split in ("tuning", "validation", "held_out")
    }
    assert sum(Counter(i for rows in used.values() for i in rows).values()) == len(WORDS)
    assert [len(rows) for rows in used.values()] == [2, 2, 2]
    assert bench.model.conditioning == {"conditions": {"tuning": 2, "validation": 2, "held_out": 2}}
    assert bench.model.fingerprint() == model.fingerprint(), "the plan is for the model, not for its prompts"
    assert bench.model.conditions() != model.conditions()
    with pytest.raises(SigmaTuneError, match="at least 3 different ones, better several hundred, not 2"):
        Workbench(load("sd15", prompts=WORDS[:2])[1], SETTINGS)


@pytest.mark.parametrize(("name", "options"), [("sd15", {"prompts": WORDS}), ("dit", {"labels": [0, 1, 2]})])
def test_tune_tunes_with_guidance_on_other_prompts_than_it_judges_on(name, options, brief):
    pipe, model = load(name, **options)
    seen = Counter()
    plain = Condition.place

    def watched(self, index):
        place = plain(self, index)
        seen[index, place] += 1
        return place

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Condition, "place", watched)
        # without the estimate that progress begins with: it times calls before the conditions are split
        plan = st.tune(model, calls=4, solver="euler", method="static", settings=SETTINGS, progress=False)
    assert plan.steps == 2, "two evaluations per call"
    assert plan.tuned_for["guidance"] == {"scale": 3.0, "interval": [0.0, "inf"]}
    assert sum(plan.tuned_for["conditions"].values()) == len(next(iter(options.values())))
    of = {split: {c for (i, c) in seen if i in SETTINGS.rows(split)} for split in ("tuning", "validation", "held_out")}
    assert all(of.values())
    assert not of["tuning"] & of["validation"]
    assert not (of["tuning"] | of["validation"]) & of["held_out"]
    pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)  # and it runs where it came from
    pipe(**FAMILIES[name].call, num_inference_steps=plan.calls)


def test_every_stage_of_tuning_knows_the_rows(tmp_path, brief):
    _, model = load("dit", labels=[0, 1, 2])
    for method in ("discretisation", "trajectory", "gradient"):
        plan = st.tune(model, calls=4, solver="euler", method=method, settings=SETTINGS, store=tmp_path)
        assert plan.steps == 2


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("sd15", {"prompts": None}, "needs a list of prompts="),
        ("sd15", {"prompts": "a cat"}, "needs a list of prompts="),
        ("sd15", {"prompts": ["a", "b", "a"]}, "'a' is given twice"),
        ("sd15", {"labels": [1]}, "takes prompts"),
        ("dit", {"prompts": ["a"], "labels": None}, "takes labels"),
        ("ddim", {"prompts": ["a"]}, "takes no condition"),
        ("ddim", {"guidance": 2.0}, "has no guidance"),
        ("dit", {"negative_prompt": "a"}, "takes no negative prompt"),
        ("sd15", {"interval": (2.0, 1.0)}, "interval of levels"),
        ("sd15", {"prompts": [3]}, "does not run with these arguments"),
        ("sd15", {"hight": 16}, "did you mean 'height'"),
        ("sd15", {"guidance": 2.0, "guidance_scale": 3.0}, "contradict each other"),
        ("sdxl", {"denoising_end": 0.5}, "denoising_end= of a StableDiffusionXLPipeline has no effect"),
        ("sd15", {"eta": 0.5}, "the plan decides"),
        ("sd15", {"num_inference_steps": 7}, "the plan decides"),
        ("sd-img2img", {"strength": 0.3}, "st.partial"),
        ("sd-controlnet", {"guess_mode": True}, "acts in the pipeline's loop"),
        ("sd-controlnet", {"control_guidance_end": 0.5}, "acts in the pipeline's loop"),
    ],
)
def test_what_does_not_fit_the_pipeline_is_refused(name, options, reason):
    with pytest.raises(SigmaTuneError, match=re.escape(reason)):
        load(name, **options)


def test_a_pipeline_whose_clock_is_unknown_is_refused():
    pipe = FAMILIES["sd3"].pipe()

    class Backwards(diffusers.StableDiffusion3Pipeline):
        def __call__(self, **call):
            x = torch.ones(1, 8, 8, 8)
            self.scheduler.set_timesteps(call["num_inference_steps"])
            parts = {"encoder_hidden_states": torch.ones(1, 4, 32), "pooled_projections": torch.ones(1, 32)}
            output = self.transformer(hidden_states=x, timestep=torch.tensor([0.37]), **parts, return_dict=False)[0]
            return self.scheduler.step(output, self.scheduler.timesteps[0], x)

    other = Backwards(**pipe.components)
    other.__class__.__call__.__signature__ = inspect.signature(diffusers.StableDiffusion3Pipeline.__call__)
    with pytest.raises(SigmaTuneError, match="time variable is not supported"):
        st.load(other, prompts=["a"], guidance=1.0)


def test_the_residuals_of_an_adapter_count():
    pipe = sd_adapter()
    first, same, other = (st.load(pipe, **PROMPTS, image=picture(number), **SIZE) for number in (1, 1, 2))
    x = rng.noise(0, [0], 0, first.shape)
    assert first(x, 1.0).equal(same(x, 1.0))
    assert not torch.allclose(first(x, 1.0), other(x, 1.0), rtol=0, atol=1e-3)


class Sounding(diffusers.StableDiffusion3Pipeline):
    """Denoises a second state with a copy of its scheduler, as LTX-2 does for sound; or keeps a part, as inpainting does."""

    kept = half = False

    @functools.wraps(diffusers.StableDiffusion3Pipeline.__call__)
    def __call__(self, **call):
        x, second = torch.ones(2, 1, 8, 8, 8)
        copied = copy.deepcopy(self.scheduler)
        for scheduler in (self.scheduler, copied):
            scheduler.set_timesteps(call["num_inference_steps"])
        parts = {"encoder_hidden_states": torch.ones(1, 4, 32), "pooled_projections": torch.ones(1, 32)}
        for t in self.scheduler.timesteps:
            output = self.transformer(hidden_states=x, timestep=t.expand(1), **parts, return_dict=False)[0]
            x = self.scheduler.step(output, t, x, return_dict=False)[0]
            if self.half:
                x = x.bfloat16().float()
            if self.kept:
                x = torch.cat([x[..., :4], torch.ones(1, 8, 8, 4)], dim=-1)
            elif not self.half:
                second = copied.step(output, t, second, return_dict=False)[0]
        return x, second


def test_a_cast_of_the_latents_between_two_calls_is_no_edit():
    pipe = Sounding(**FAMILIES["sd3"].pipe().components)
    pipe.half = True
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        st.load(pipe, prompts=["a"], guidance=1.0)


@pytest.mark.parametrize("kept", [False, True])
def test_a_pipeline_whose_loop_does_more_runs_a_plan_and_is_no_model_in_silence(kept):
    pipe = Sounding(**FAMILIES["sd3"].pipe().components)
    pipe.kept = kept
    told = (
        pytest.warns(UserWarning, match="a Sounding changes its latents between two calls")
        if kept
        else pytest.raises(SigmaTuneError, match="a Sounding denoises a second state")
    )
    with told:
        st.load(pipe, prompts=["a"], guidance=1.0)
    path = read_process(config_of(pipe.scheduler)).path
    plan = st.compile_plan(st.build_schedule("uniform-trailing", 3, path), "dpmpp2m").with_notes(path=path.spec())
    pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)
    with torch.no_grad():
        image, sound = pipe(num_inference_steps=3)
    assert image.isfinite().all()
    assert not image.equal(torch.ones_like(image))
    if not kept:
        assert sound.equal(image)  # the copy steps by itself, on the same plan


# --------------------------------------------------------------------------------------------- files, command line, real


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sd")
    sd2_v().save_pretrained(place, safe_serialization=True)
    return place


def test_a_folder_becomes_the_same_denoiser(folder):
    _, model = load("sd2-v")
    loaded = st.load(folder, **PROMPTS, **SIZE)
    z = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded(z, 1.0), model(z, 1.0), rtol=0, atol=1e-6)
    assert loaded.pixel_shape == (3, 16, 16)


def test_pickled_weights_are_refused(folder, tmp_path):
    import shutil

    broken = shutil.copytree(folder, tmp_path / "pickled")
    file = broken / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, broken / "unet" / "diffusion_pytorch_model.bin")
    file.unlink()
    with pytest.raises(SigmaTuneError, match="cannot be loaded"):
        st.load(broken, **PROMPTS)


def test_tune_and_sample_on_the_command_line(run, folder, tmp_path, brief):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(WORDS) + "\n\n")
    small = [
        "--tuning",
        4,
        "--validation",
        4,
        "--held-out",
        8,
        "--evaluations",
        2,
        "--micro-batch",
        4,
        "--method",
        "static",
    ]
    options = ["--prompts", prompts, "--guidance", 2, "--interval", 0.3, 4, "--negative-prompt", "blur"]
    code, _, err = run(
        "tune", folder, "--calls", 4, "--solver", "euler", *small, *options, "-o", "plan.json", "--no-report"
    )
    assert code == 0, err
    plan = st.load_plan(tmp_path / "plan.json")
    assert plan.tuned_for["guidance"] == {"scale": 2.0, "interval": [0.3, 4.0]}
    assert plan.tuned_for["conditions"] == {"tuning": 2, "validation": 1, "held_out": 3}
    code, _, err = run("sample", folder, "plan.json", "-n", 3, *options, "-o", "grid.png")
    assert code == 0, err
    for wrong, reason in (
        (["--prompts", tmp_path / "none.txt"], "takes a text file with one prompt per line"),
        (["--labels", 1, 2], "takes prompts"),
    ):
        code, _, err = run("sample", folder, "plan.json", *wrong)
        assert code == 2
        assert reason in err
    code, _, err = run("sample", "digits", "plan.json", "--prompts", prompts)
    assert code == 2
    assert "unconditional" in err


def test_the_bundled_latent_model_is_tuned_in_its_latents():
    """On something real: the search is at least level with the best default, on held-out noises and labels."""
    model = st.load("cifar10-latent", labels=list(range(10)), guidance=1.5)
    assert (model.shape, model.pixel_shape) == ((4, 8, 8), (3, 32, 32))
    settings = TuningSettings(8, 8, 16, evaluations=12, reference_steps=16, micro_batch=8)
    plan = st.tune(model, calls=8, solver="euler", method="search", settings=settings)
    assert plan.steps == 4
    assert plan.evidence["error_ratio"]["low"] <= 1
    images = model.decode(sample(model, plan, 4))
    assert images.shape == (4, 3, 32, 32)
    assert images.abs().mean() < 1.5
