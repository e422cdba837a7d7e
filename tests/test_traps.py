"""Each trap that users of schedules fall into elsewhere, by its name, and why it cannot happen here.

Most are also tested in substance where they belong; here they stand together, so that none is forgotten.
"""

from __future__ import annotations

import inspect
import json
import warnings

import diffusers
import numpy as np
import pytest
import torch

import sigmatune as st
from exact import ALL_PATHS, gaussian, power_law
from sigmatune import PlanMismatch, SigmaTuneError
from sigmatune.core import rng
from sigmatune.interop import exports, resolution, tables
from sigmatune.interop.diffusers import scheduler, starting_level
from sigmatune.interop.exports.target import numbers_in
from sigmatune.models.network import NetworkDenoiser
from sigmatune.models.scheduler_config import config_of, read_process
from sigmatune.noise import VE, VP, Flow, vp
from sigmatune.schedules import FAMILIES
from sigmatune.solvers import POSITION
from sigmatune.tuning import TuningSettings, Workbench
from sigmatune.tuning.gaussian_optimum import Modes, optimal

SD = vp("scaled_linear", beta_start=0.00085, beta_end=0.012)
EVERY_N = (1, 2, 3, 5, 10, 50, 71, 72, 100, 333, 1000)


def build(name, steps, path=SD, **options):
    return st.build_schedule(name, steps, path, **options)


def pipe_of(theirs):
    return type("Pipe", (), {"scheduler": theirs})()


def sd_scheduler(**options):
    return diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, **options
    )


def plan_on(path=SD, steps=5, solver="dpmpp2m", family="uniform-trailing", **options):
    return st.compile_plan(build(family, steps, path), solver, **options).with_notes(path=path.spec())


def whole_time_model():
    model = NetworkDenoiser(lambda x, t: x, (1, 2, 2), vp(), "epsilon")
    model.integer_time = True
    return model


def test_duplicate_timesteps_after_rounding():
    for steps in EVERY_N:
        made = scheduler(plan_on(steps=steps, solver="euler", family="karras"), pipe_of(sd_scheduler()))
        assert len(set(made.timesteps.tolist())) == steps
    with pytest.raises(SigmaTuneError, match="whole timesteps only"):  # where a network rounds, repeats are refused
        st.compile_plan(build("karras", 200, vp()), "euler", whole_time_model())


def test_silent_dedupe_changing_the_number_of_steps():
    for bad in ([3.0, 1.0, 1.0, 0.0], [3.0, 1.0, 1.0 + 1e-17, 0.0]):
        with pytest.raises(SigmaTuneError, match="twice"):
            st.Schedule(bad)
    assert all(build(name, n).steps == n for name in ("beta", "karras", "uniform-trailing") for n in EVERY_N)


def test_missing_or_doubled_final_zero():
    for bad in ([3.0, 1.0], [3.0, 1.0, 0.0, 0.0]):
        with pytest.raises(SigmaTuneError):
            st.Schedule(bad)
    numbers = numbers_in(exports.export(plan_on(solver="euler"), "comfyui"))
    assert (numbers.count(0.0), numbers[-1], len(numbers)) == (1, 0.0, 6)
    for target in ("k-diffusion", "sd.cpp", "a1111"):
        text = exports.export(plan_on(solver="euler"), target)
        assert exports.read_statement(text)["trailing_zero"]
        assert exports.load(text).schedule.sigmas.tolist().count(0.0) == 1


def test_trailing_by_float_stride_adds_a_step():
    for steps in range(1, 1001, 7):
        t = vp().time(build("uniform-trailing", steps, vp()).sigmas[:-1])
        assert len(t) == steps
        assert t.min() >= 0
    theirs = sd_scheduler(timestep_spacing="trailing")
    wrong = 0
    for steps in range(1, 1001):
        theirs.set_timesteps(steps)
        wrong += len(theirs.timesteps) != steps or int(theirs.timesteps.min()) < 0
    assert wrong > 10, "the trap is real"


def test_leading_never_reaching_sigma_max():
    family = FAMILIES["uniform-leading"]
    assert not family.starts, "it says so of itself"
    assert family.published == ({},), "and a tuned plan is compared with it as its users run it"
    assert build("uniform-leading", 10).sigmas[0] < SD.sigma_max
    assert build("uniform-leading", 1).sigmas[0] == pytest.approx(SD.sigma_max)
    assert all(build(name, n).sigmas[0] == pytest.approx(SD.sigma_max) for name in ("karras", "beta") for n in EVERY_N)


def test_previous_t_from_a_stride_instead_of_the_list():
    """A step ends exactly where the next call asks, for uneven lists too."""
    plan = plan_on(solver="euler", family="karras", steps=7)
    made, model = scheduler(plan, pipe_of(sd_scheduler())), gaussian(SD)
    x = rng.noise(0, [0], 0, model.shape) * made.init_noise_sigma
    for t in made.timesteps:
        sigma = float(SD.sigma(min(float(t), 999.0)))
        alpha, s = (1 + sigma**2) ** -0.5, (1 + sigma**-2) ** -0.5
        x = made.step((x - alpha * model(x, sigma)) / s, t, x).prev_sample
    torch.testing.assert_close(x.double(), st.sample(model, plan, 1), rtol=0, atol=1e-4)


def test_t_and_sigma_from_different_formulas():
    for path in ALL_PATHS.values():
        t = path.time(np.geomspace(path.sigma_min, min(path.sigma_max, 1e4), 50))
        np.testing.assert_allclose(path.time(path.sigma(t)), t, rtol=1e-9, atol=1e-9)
    made = scheduler(plan_on(family="karras", steps=9), pipe_of(sd_scheduler()))
    np.testing.assert_allclose(
        SD.sigma(made.timesteps.double().clip(0, 999).numpy()), made.sigmas[:-1].numpy(), rtol=1e-5
    )


def test_shift_applied_twice_or_to_sigmas_that_were_shifted():
    path = Flow(3.0)
    plan = plan_on(path, 4, "euler")
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    made = scheduler(plan, pipe_of(theirs))
    np.testing.assert_allclose(made.timesteps.numpy() / 1000, [1.0, 0.9, 0.75, 0.5], rtol=1e-6)
    made.set_timesteps(4, sigmas=np.linspace(1.0, 0.25, 4), mu=np.log(3.0))  # what Flux-type pipelines pass
    np.testing.assert_allclose(made.timesteps.numpy() / 1000, [1.0, 0.9, 0.75, 0.5], rtol=1e-6)
    theirs.set_timesteps(sigmas=[1.0, 0.9, 0.75, 0.5])
    assert theirs.sigmas[1] > 0.95, "the trap is real: it shifts what was shifted"
    stock = json.loads(exports.export(plan, "diffusers-stock"))
    assert stock["config"]["shift"] == 1.0
    assert stock["sigmas"] == pytest.approx([1.0, 0.9, 0.75, 0.5])


def test_fixing_a_reference_quirk_silently():
    """The reference's twice shifted last level is a table of its own name; the plain grid is not called so."""
    assert "sd3-ref" in tables.TABLES
    quirk, plain = tables.load("sd3-ref", Flow(3.0), 10), build("uniform-linspace", 10, Flow(3.0))
    assert quirk.family == "sd3-ref"
    assert quirk.sigmas[-2] / plain.sigmas[-2] == pytest.approx(3.0, rel=1e-2)


def test_points_and_steps_and_calls_off_by_one():
    for solver in POSITION.values():
        for steps in (1, 2, 5):
            plan = plan_on(steps=steps, solver=solver.name)
            assert (plan.schedule.points, plan.steps, plan.calls) == (steps + 1, steps, solver.calls(steps))
    made = scheduler(plan_on(steps=5, solver="heun"), pipe_of(sd_scheduler()))
    assert (len(made.timesteps), made.order) == (9, 1)
    with pytest.raises(SigmaTuneError, match="num_inference_steps=9"):
        made.set_timesteps(5)


@pytest.mark.parametrize("steps", [1, 2])
def test_one_step_and_two_steps_undefined(steps):
    for name, family in FAMILIES.items():
        for path in (SD, Flow(3.0), VE()):
            if family.defined_on(path):
                schedule = build(name, steps, path)
                assert schedule.steps == steps
    for solver in POSITION:
        assert torch.isfinite(st.sample(gaussian(SD), plan_on(steps=steps, solver=solver), 1)).all()


def test_one_name_for_two_curves():
    assert not np.array_equal(build("beta", 6).sigmas, build("beta-open", 6).sigmas)
    for known in ("simple", "normal", "sgm_uniform", "ddim_uniform"):  # ComfyUI's names; a schedule says whose they are
        assert build(known, 6).family == "comfy-" + known.replace("_", "-")
    for ambiguous in ("linear", "edm", "uniform"):
        with pytest.raises(SigmaTuneError, match="schedule family"):
            build(ambiguous, 6)


def test_sigma_min_fixed_for_all_numbers_of_steps():
    modes = Modes.of(power_law())
    last = [optimal("euler", n, modes, VE()).sigmas[-2] for n in (2, 4, 8, 16)]
    assert all(np.diff(last) < 0)
    partly = [build("spectral-mixed", n, VE()).sigmas[-2] for n in (2, 32)]
    assert partly[0] != partly[1]


def test_a_schedule_for_one_solver_or_shift_or_guidance_used_with_another(tmp_path):
    plan = plan_on()
    plan.save(tmp_path / "plan.json")
    with pytest.warns(PlanMismatch, match="tuned for the solver dpmpp2m"):
        st.load_plan(tmp_path / "plan.json", solver="heun")
    with pytest.warns(PlanMismatch, match="shift"):
        resolution.convert(plan_on(Flow(3.0)), 5.0)
    flux = scheduler(plan_on(Flow(3.0), 2), pipe_of(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)))
    with pytest.warns(PlanMismatch, match="shifts time by"):
        flux.set_timesteps(2, mu=1.15)
    model = gaussian(SD)
    guided = [st.Guided(model, model, scale) for scale in (2.0, 5.0)]
    for_one = st.compile_plan(build("karras", 4), "euler", guided[0])
    with pytest.warns(PlanMismatch, match="another model"):
        st.sample(guided[1], for_one, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        st.sample(guided[0], for_one, 1)


def test_a_higher_order_last_step_into_sigma_zero():
    """The last step takes the last output and nothing else: D, whatever came before."""
    for name, solver in POSITION.items():
        table = plan_on(steps=4, solver=name, **({solver.noise: 0.0} if solver.noise else {})).coefficients
        end = table.c[-1] @ table.A[-1]
        assert torch.allclose(end, torch.zeros_like(end), atol=1e-12), name
        assert float(table.c[-1] @ table.b[-1]) == pytest.approx(1.0, abs=1e-12), name


def test_zero_terminal_snr_with_eps_prediction():
    with pytest.raises(SigmaTuneError, match="carries no information about the data at sigma = inf"):
        NetworkDenoiser(lambda x, t: x, (1, 2, 2), vp(zero_terminal_snr=True), "epsilon")
    made = scheduler(
        plan_on(vp("scaled_linear", beta_start=0.00085, beta_end=0.012, zero_terminal_snr=True), 3),
        pipe_of(sd_scheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)),
    )
    assert made.timesteps[0] == 999


def test_strength_that_leaves_no_step():
    plan = plan_on(steps=4, family="karras")
    for strength in (0.9, 0.5, 0.2, 0.1, 0.01):
        level = starting_level(plan, strength)
        partial = st.partial(plan, max(level, float(plan.schedule.sigmas[-2])))
        assert partial.calls >= 1
        assert partial.schedule.sigmas[0] >= level
        assert st.partial(plan, 1.0, steps=3).calls == 3, "exactly as many as asked for"


def test_timesteps_rounded_through_half_precision():
    """The list is float32 whatever the latents are; a pipeline that casts t itself is named (test_interop_diffusers)."""
    made = scheduler(plan_on(steps=30, family="karras"), pipe_of(sd_scheduler()))
    x = torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)
    for t in made.timesteps:
        assert t.dtype == torch.float32
        x = made.step(x, t, x).prev_sample
    assert x.dtype == torch.bfloat16
    assert (made.timesteps.to(torch.bfloat16).float() - made.timesteps).abs().max() > 0.5, "the trap is real"


def test_a_scheduler_object_that_changes_between_calls():
    made = scheduler(plan_on(solver="unipc3"), pipe_of(sd_scheduler()))
    config = dict(made.config)
    ends = []
    for _ in range(2):
        made.set_timesteps(5)
        x = torch.ones(1, 1, 2, 2)
        for t in made.timesteps:
            x = made.step(0.5 * x, t, x).prev_sample
        ends.append(x)
    assert torch.equal(*ends)
    assert dict(made.config) == config
    made.set_timesteps(5)
    made.step(x, made.timesteps[0], x)
    made.set_timesteps(5)  # a run that was stopped leaves nothing behind
    assert made.step_index == 0


def test_flags_inherited_across_solvers(tmp_path):
    plan_on(solver="ancestral", eta=0.3).save(tmp_path / "plan.json")
    with pytest.warns(PlanMismatch):
        other = st.load_plan(tmp_path / "plan.json", solver="sde-dpmpp2m")
    assert other.coefficients.tobytes() == plan_on(solver="sde-dpmpp2m").coefficients.tobytes(), "its own defaults"
    with pytest.raises(SigmaTuneError, match="dpmpp2m option"):
        plan_on(solver="dpmpp2m", eta=0.3)
    karras = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, use_karras_sigmas=True
    )
    made, plain = scheduler(plan_on(), pipe_of(karras)), scheduler(plan_on(), pipe_of(sd_scheduler()))
    assert torch.equal(made.sigmas, plain.sigmas), "the flag is kept for the scheduler that has it, and moves no level"
    assert torch.equal(made.timesteps, plain.timesteps)
    assert diffusers.EulerDiscreteScheduler.from_config(made.config).config.use_karras_sigmas


def test_noise_that_depends_on_the_batch_size():
    model = gaussian(SD)
    for solver in ("euler", "ancestral"):
        plan = plan_on(solver=solver)
        alone, together = st.sample(model, plan, indices=[3]), st.sample(model, plan, 5)
        assert torch.equal(alone[0], together[3])


def test_frechet_distance_of_the_best_of_several_seeds():
    """What a figure was computed on is fixed before it is known, and stands beside it: the seed, and rows 0 to n - 1."""
    from sigmatune.evaluation.extractors import extractor
    from sigmatune.evaluation.generation import generate

    model = gaussian(SD)
    sample = generate(model, plan_on(), 8, [extractor("pixels", model.shape)], seed=3)
    assert (sample.origin["seed"], sample.origin["indices"]) == (3, [0, 8])
    assert "seeds" not in inspect.signature(generate).parameters, "there is no choosing among them"


def test_single_prompt_tuning_sold_as_a_model_schedule():
    from tiny_pipelines import FAMILIES as PIPELINES

    family = PIPELINES["sd15"]
    model = st.load(family.pipe(), **family.load)
    with pytest.raises(SigmaTuneError, match="at least 3 different ones, better several hundred, not 1"):
        Workbench(model, TuningSettings(4, 4, 8))


def test_training_snr_weights_from_the_wrong_betas():
    """A model's signal-to-noise ratio is that of the table it was trained on, wherever its scheduler was changed since."""
    trained = sd_scheduler()
    bar = trained.alphas_cumprod.double().numpy()
    for later in (
        diffusers.EulerDiscreteScheduler.from_config(trained.config),
        diffusers.DPMSolverMultistepScheduler.from_config(trained.config),
        scheduler(plan_on(), pipe_of(trained)),
    ):
        path = read_process(config_of(later)).path
        assert isinstance(path, VP)
        np.testing.assert_allclose(path.logsnr(np.arange(1000)), np.log(bar / (1 - bar)), rtol=1e-6, atol=2e-6)
    assert abs(vp().logsnr(500) - SD.logsnr(500)) > 0.1
