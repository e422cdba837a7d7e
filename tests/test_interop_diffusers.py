"""A plan in real diffusers pipelines: the network receives the file's (t, sigma), and the images are those of st.sample."""

from __future__ import annotations

import functools
import inspect
import json
import subprocess
import sys
import warnings
from contextlib import contextmanager

import diffusers
import numpy as np
import pytest
import torch

import sigmatune as st
from sigmatune import PlanMismatch, SigmaTuneError
from sigmatune.core import rng
from sigmatune.core.unrolled import rolled, unrolled
from sigmatune.interop.diffusers import SigmaTuneScheduler, scheduler, starting_level
from sigmatune.interop.native import native
from sigmatune.models.capture import network_of
from sigmatune.models.predictions import predictions
from sigmatune.noise import from_spec
from sigmatune.plan import Plan
from sigmatune.solvers import POSITION
from tiny_pipelines import FAMILIES, Family, mask, picture

SOLVER = {1: "dpmpp2m", 2: "unipc2", 5: "heun", 8: "dpmpp3m", 50: "dpmpp2m"}
NAMES = [name for name in FAMILIES if name != "sd-inpaint"]


def model_of(family: Family, pipe):
    return st.load(pipe, **family.load, **({"image": picture(2)} if family.image else {}))


def plan_of(model, steps, solver="dpmpp2m", **options):
    plan = st.compile_plan(st.build_schedule("uniform-trailing", steps, model.path), solver, model, **options)
    return plan.with_notes(micro_batch=2)  # a single row is padded, and by no more than needed


@functools.cache
def source(kind):
    return inspect.getsource(kind)


@contextmanager
def our_noise(pipe, model, monkeypatch, seed=0):
    """The pipeline draws its start noise where st.sample does."""

    scale = pipe.scheduler.init_noise_sigma
    if any(name in source(type(pipe)) for name in ("init_noise_sigma", "add_noise(", "scale_noise(")):
        scale = 1.0  # it does so itself, or mixes an image in; DDIM, DDPM and DiT pipelines leave their start noise as it is

    def drawn(shape, **_):
        eps = scale * rng.noise(seed, range(shape[0]), rng.START, model.shape)
        if eps.ndim == 3 and len(shape) == 4:  # Flux packs it later
            eps = pipe._unpack_latents(eps, *model.size, pipe.vae_scale_factor)
        assert tuple(eps.shape) == tuple(shape)
        return eps

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[type(pipe).__module__], "randn_tensor", drawn)
        yield


@contextmanager
def recorded(pipe):
    """The t that the network receives, call by call."""
    network, seen = network_of(pipe), []

    def keep(module, args, kwargs):
        t = kwargs["timestep"] if "timestep" in kwargs else args[1]
        seen.append(float(torch.as_tensor(t).reshape(-1)[0]))

    hook = network.register_forward_pre_hook(keep, with_kwargs=True)
    yield seen
    hook.remove()


def images(family: Family, pipe, plan, **call):
    found = pipe(**{**family.call, "output_type": "pt", **call}, num_inference_steps=plan.calls, return_dict=False)[0]
    return found if isinstance(found, torch.Tensor) else torch.from_numpy(found).permute(0, 3, 1, 2)


def in_unit_range(model, x):
    return (model.decode(x) / 2 + 0.5).clamp(0, 1)


@pytest.fixture(autouse=True)
def _no_surprises():
    with warnings.catch_warnings():
        warnings.simplefilter("error", PlanMismatch)
        yield


@pytest.fixture(scope="module")
def sd():
    pipe = FAMILIES["sd15"].pipe()
    model = model_of(FAMILIES["sd15"], pipe)
    return pipe, model, plan_of(model, 4)


def numbers_of_steps() -> list[tuple[str, int]]:
    """Every family with one number of steps in turn; a UNet, a transformer of its own latents and a start image with all."""
    few = [1, 2, 5, 8]
    for i, name in enumerate(NAMES):
        for steps in few if name in ("sd15", "flux", "sd3-img2img") else [few[i % 4]]:
            yield pytest.param(name, steps)
        yield pytest.param(name, 50, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "steps"), numbers_of_steps())
def test_a_pipelines_images_are_those_of_sample(name, steps, monkeypatch):
    family = FAMILIES[name]
    pipe = family.pipe()
    model = model_of(family, pipe)
    plan = plan_of(model, steps, SOLVER[steps])
    pipe.scheduler = made = scheduler(plan, pipe)
    call, start = {}, {}
    if family.image:
        call = {"image": picture(2), "strength": 1.0}
        kept = []
        for method in ("add_noise", "scale_noise"):
            plain = getattr(made, method)
            monkeypatch.setattr(made, method, lambda x, *rest, plain=plain: (kept.append(x), plain(x, *rest))[1])
    with our_noise(pipe, model, monkeypatch), recorded(pipe) as sent:
        found = images(family, pipe, plan, **call)
    if family.image:
        x0 = kept[0]
        start = {"x0": pipe._pack_latents(x0, *x0.shape) if len(model.shape) == 2 else x0}
    expected = in_unit_range(model, st.sample(model, plan, 1, **start))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert found.std() > 0.01
    # (t, sigma) at the network
    q = plan.coefficients.q.numpy()
    t = np.array(sent) * model.clock
    np.testing.assert_allclose(t, model.path.time(q), rtol=1e-6)
    with np.errstate(divide="ignore"):  # tau = sigma / (1 + sigma) is finite where sigma is not
        np.testing.assert_allclose(1 / (1 + 1 / model.path.sigma(t)), 1 / (1 + 1 / q), rtol=1e-6)


@pytest.mark.parametrize("solver", [*POSITION, "reduced-oba", "reduced-obab", "phase-em", "sscs", "conjugate"])
def test_every_solver_of_the_registry(solver, sd, monkeypatch):
    pipe, model, _ = sd
    plan = plan_of(model, 4, solver)
    pipe.scheduler = scheduler(plan, pipe, seed=0)
    with our_noise(pipe, model, monkeypatch):
        found = images(FAMILIES["sd15"], pipe, plan)
    torch.testing.assert_close(found, in_unit_range(model, st.sample(model, plan, 1)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["sd2-v", "dit", "flux"])
def test_learned_coefficients(name, monkeypatch):
    """All outputs are kept, the network's input is another sum of them in each call, and the levels asked at may differ."""
    family = FAMILIES[name]
    pipe = family.pipe()
    model = model_of(family, pipe)
    plain = plan_of(model, 5)
    form = unrolled(plain.coefficients)
    generator = torch.Generator().manual_seed(0)
    W = form.W * (1 + 0.1 * torch.randn(form.W.shape, generator=generator, dtype=torch.float64))
    plan = Plan(plain.schedule, "custom", rolled(form._replace(W=W)), plain.path, plain.fingerprint)
    pipe.scheduler = scheduler(plan, pipe)
    with our_noise(pipe, model, monkeypatch):
        found = images(family, pipe, plan)
    expected = in_unit_range(model, st.sample(model, plan, 1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (expected - in_unit_range(model, st.sample(model, plain, 1))).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:a StableDiffusionInpaintPipeline changes its latents")
@pytest.mark.parametrize("solver", ["euler", "dpmpp2m", "heun"])
def test_inpainting_edits_the_latents_between_calls_and_the_edits_count(solver, monkeypatch):
    """Against the state machine in float64 with the pasting written out."""
    family = FAMILIES["sd-inpaint"]
    pipe = family.pipe()
    call = {"image": picture(2), "mask_image": mask(), "strength": 1.0}
    model = st.load(pipe, **family.load, **call)
    plan = plan_of(model, 4, solver)
    pipe.scheduler = made = scheduler(plan, pipe)
    kept = []
    plain = made.add_noise
    monkeypatch.setattr(made, "add_noise", lambda x, *rest: (kept.append(x), plain(x, *rest))[1])
    with our_noise(pipe, model, monkeypatch):
        found = images(family, pipe, plan, output_type="latent", **call)
    x0, eps = kept[0].double(), rng.noise(0, [0], 0, model.shape, dtype=torch.float64)
    inside = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    inside[..., :4] = 1
    c = plan.coefficients
    S = [float(c.start[i, 0]) * eps for i in range(c.width)]
    for k in range(plan.calls):
        D = model(S[0].float(), float(c.q[k])).double()
        S = [sum(float(c.A[k, i, j]) * S[j] for j in range(c.width)) + float(c.b[k, i]) * D for i in range(c.width)]
        last = k + 1 == plan.calls
        alpha, s = (1.0, 0.0) if last else (float((1 + c.q[k + 1] ** 2) ** -0.5), float((1 + c.q[k + 1] ** -2) ** -0.5))
        S[0] = (1 - inside) * (alpha * x0 + s * eps) + inside * S[0]
    torch.testing.assert_close(found.double(), S[0], rtol=0, atol=2e-4)


# --------------------------------------------------------------------------------------------- starting from an image


@pytest.mark.parametrize("name", ["sd-img2img", "sd3-img2img", "flux-img2img"])
def test_a_partial_plan_at_strength_1(name, monkeypatch):
    family = FAMILIES[name]
    pipe = family.pipe()
    model = model_of(family, pipe)
    whole = plan_of(model, 8)
    plan = st.partial(whole, starting_level(whole, 0.6))
    pipe.scheduler = made = scheduler(plan, pipe)
    kept = []
    for method in ("add_noise", "scale_noise"):
        plain = getattr(made, method)
        monkeypatch.setattr(made, method, lambda x, *rest, plain=plain: (kept.append(x), plain(x, *rest))[1])
    with our_noise(pipe, model, monkeypatch), recorded(pipe) as sent:
        found = images(family, pipe, plan, image=picture(2), strength=1.0)
    x0 = pipe._pack_latents(kept[0], *kept[0].shape) if len(model.shape) == 2 else kept[0]
    torch.testing.assert_close(found, in_unit_range(model, st.sample(model, plan, 1, x0=x0)), rtol=0, atol=1e-4)
    assert len(sent) == plan.calls < whole.calls


def test_twice_the_steps_at_strength_one_half_is_the_partial_plan_too(monkeypatch):
    """For pipelines that ignore the image at strength 1, such as inpainting."""
    family = FAMILIES["sd-img2img"]
    pipe = family.pipe()
    model = model_of(family, pipe)
    plan = st.partial(plan_of(model, 8), 2.0)
    pipe.scheduler = scheduler(plan, pipe)
    both = []
    for steps, strength in ((plan.calls, 1.0), (2 * plan.calls, 0.5)):
        with our_noise(pipe, model, monkeypatch), recorded(pipe) as sent:
            generator = torch.Generator().manual_seed(0)
            call = {"image": picture(2), "strength": strength, "generator": generator, "num_inference_steps": steps}
            both.append(pipe(**{**family.call, **call})[0])
        assert len(sent) == plan.calls
    assert torch.equal(*both)


def test_a_strength_is_a_noise_level_whatever_the_grid_and_the_number_of_steps():
    model = model_of(FAMILIES["sd15"], FAMILIES["sd15"].pipe())
    levels = set()
    for steps in (1, 4, 30):
        for name in ("karras", "uniform-trailing", "log-uniform"):
            plan = st.compile_plan(st.build_schedule(name, steps, model.path), "euler", model)
            levels.add(starting_level(plan, 0.5))
            assert starting_level(plan, 1.0) == plan.schedule.sigmas[0]
    assert levels == {float(model.path.at_position(500.0))}
    for strength in (0.0, -1.0, 1.1):
        with pytest.raises(SigmaTuneError, match="strength lies in"):
            starting_level(plan, strength)


def test_a_cut_list_is_refused():
    family = FAMILIES["sd-img2img"]
    pipe = family.pipe()
    plan = plan_of(model_of(family, pipe), 4)
    pipe.scheduler = scheduler(plan, pipe)
    with pytest.raises(SigmaTuneError, match="strength=1"):
        images(family, pipe, plan, image=picture(2), strength=0.5)


# ---------------------------------------------------------------------------------------- what a pipeline can rely on


def test_two_calls_in_a_row_give_the_same_images():
    family = FAMILIES["sd15"]
    pipe = family.pipe()
    plan = plan_of(model_of(family, pipe), 5, "unipc3")
    pipe.scheduler = scheduler(plan, pipe)
    first, second = (images(family, pipe, plan, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("solver", ["unipc2", "sde-dpmpp2m"])
def test_the_noise_of_a_row_does_not_depend_on_its_neighbours(solver, monkeypatch):
    family = FAMILIES["sd15"]
    pipe = family.pipe()
    model = model_of(family, pipe)
    plan = plan_of(model, 4, solver)
    pipe.scheduler = scheduler(plan, pipe, seed=3)
    with our_noise(pipe, model, monkeypatch, seed=3):
        three, one = (images(family, pipe, plan, num_images_per_prompt=n) for n in (3, 1))
    torch.testing.assert_close(three[:1], one, rtol=0, atol=1e-4)
    expected = in_unit_range(model, st.sample(model, plan, 3, seed=3))
    torch.testing.assert_close(three, expected, rtol=0, atol=1e-4)


def test_without_a_seed_noise_comes_from_the_pipelines_generator():
    family = FAMILIES["sd15"]
    pipe = family.pipe()
    plan = plan_of(model_of(family, pipe), 4, "ancestral")
    pipe.scheduler = scheduler(plan, pipe)
    first, second, other = (images(family, pipe, plan, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_saved_scheduler_and_a_saved_pipeline_run_the_same_plan(tmp_path):
    family = FAMILIES["sd2-v"]
    pipe = family.pipe()
    model = model_of(family, pipe)
    plan = plan_of(model, 3, "sde-dpmpp2m", eta=0.4)
    pipe.scheduler = made = scheduler(plan, pipe, seed=5)
    made.save_pretrained(tmp_path / "scheduler")
    again = SigmaTuneScheduler.from_pretrained(tmp_path / "scheduler")
    assert again.plan.coefficients.tobytes() == plan.coefficients.tobytes()
    assert again.config.seed == 5
    assert np.isinf(again.plan.schedule.sigmas[0])
    expected = images(family, pipe, plan, generator=torch.Generator().manual_seed(0))
    pipe.save_pretrained(tmp_path / "pipeline", safe_serialization=True)
    loaded = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline", use_safetensors=True)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded.scheduler) is SigmaTuneScheduler
    found = images(family, loaded, plan, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    # and a denoiser of that pipeline has the same path
    assert st.load(loaded, **family.load).path.spec() == model.path.spec()


@pytest.mark.parametrize("name", ["sd15", "sd2-v", "sd3", "pixart", "flux"])
def test_the_configuration_that_a_plan_replaces_comes_back(name):
    """``Class.from_config(pipe.scheduler.config)`` is the habit by which people change schedulers."""
    pipe = FAMILIES[name].pipe()
    before = pipe.scheduler
    plan = plan_of(model_of(FAMILIES[name], pipe), 2)
    pipe.scheduler = made = scheduler(scheduler(plan, pipe).plan, pipe)
    pipe.scheduler = scheduler(plan, pipe)  # a plan in place of a plan
    for kind in before.compatibles:
        if kind.__name__ != "DPMSolverSDEScheduler":  # needs a package that is not here
            assert received(kind, pipe.scheduler.config) == received(kind, before.config)
    direct, through = (dict(type(before).from_config(one.config).config) for one in (before, pipe.scheduler))
    assert {name: through[name] for name in direct_keys(type(before))} == {
        name: direct[name] for name in direct_keys(type(before))
    }
    assert set(made.compatibles) == set(before.compatibles)
    assert hasattr(made, "alphas_cumprod") == hasattr(made, "betas") == hasattr(before, "alphas_cumprod")
    if hasattr(before, "betas"):
        torch.testing.assert_close(made.betas[:-1], before.betas[:-1], rtol=2e-3, atol=0)
        torch.testing.assert_close(made.alphas_cumprod[:-1], before.alphas_cumprod[:-1], rtol=1e-5, atol=1e-7)


def direct_keys(kind):
    return set(inspect.signature(kind.__init__).parameters) - {"self"}


def received(kind, config):
    """What ``kind.from_config`` passes to the constructor, some of which take a tenth of a second."""
    parameters = inspect.signature(kind.__init__).parameters
    return {name: parameters[name].default for name in direct_keys(kind)} | kind.extract_init_dict(dict(config))[0]


def test_an_edm_configuration_comes_back():
    theirs = diffusers.EDMEulerScheduler(
        sigma_min=0.01, sigma_max=100.0, sigma_data=0.7, prediction_type="v_prediction"
    )
    pipe = type("Pipe", (), {"scheduler": theirs})()
    plan = st.compile_plan(st.Schedule([50.0, 1.0, 0.0]), "euler")
    back = diffusers.EDMEulerScheduler.from_config(scheduler(plan, pipe).config)
    for name in ("sigma_min", "sigma_max", "sigma_data", "prediction_type"):
        assert back.config[name] == theirs.config[name]


def test_a_saved_pipeline_loads_in_a_fresh_process_after_one_import(tmp_path):
    family = FAMILIES["dit"]  # its pipeline imports least
    pipe = family.pipe()
    pipe.scheduler = scheduler(plan_of(model_of(family, pipe), 2), pipe)
    pipe.save_pretrained(tmp_path, safe_serialization=True)
    code = (
        "import sigmatune, sys; assert 'diffusers' not in sys.modules; from diffusers import DiffusionPipeline; "
        f"print(DiffusionPipeline.from_pretrained({str(tmp_path)!r}).scheduler.plan.calls)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2", done.stderr[-300:]


def test_a_pipeline_that_would_lose_the_plan_is_not_saved(tmp_path):
    pipe = FAMILIES["ddim"].pipe()
    pipe.scheduler = scheduler(plan_of(model_of(FAMILIES["ddim"], pipe), 2), pipe)
    with pytest.raises(SigmaTuneError, match="a DDIMPipeline puts a scheduler of its own"):
        pipe.save_pretrained(tmp_path / "lost")


@pytest.mark.parametrize("where", ["cpu", "balanced"])
def test_a_pipeline_that_is_loaded_by_a_device_map(where, tmp_path):
    family = FAMILIES["sd15"]
    pipe = family.pipe()
    plan = plan_of(model_of(family, pipe), 4, "unipc2")
    pipe.save_pretrained(tmp_path, safe_serialization=True)
    pipe.scheduler = scheduler(plan, pipe)
    expected = images(family, pipe, plan, generator=torch.Generator().manual_seed(0))
    placed = type(pipe).from_pretrained(tmp_path, device_map=where, use_safetensors=True)
    placed.set_progress_bar_config(disable=True)
    placed.scheduler = scheduler(plan, placed)
    found = images(family, placed, plan, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_compiled_network_and_a_compiled_step():
    family = FAMILIES["sd15"]
    pipe = family.pipe()
    model = model_of(family, pipe)
    plan = plan_of(model, 3)
    pipe.scheduler = made = scheduler(plan, pipe)
    expected = images(family, pipe, plan, generator=torch.Generator().manual_seed(0))
    plain, pipe.unet = pipe.unet, torch.compile(pipe.unet, backend="eager")
    made.step = torch.compile(made.step, backend="eager")
    try:
        found = images(family, pipe, plan, generator=torch.Generator().manual_seed(0))
    finally:
        pipe.unet = plain
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_half_precision_latents_do_not_round_the_state():
    """What the pipeline sees is rounded; between the calls the state is float32, so errors do not add up."""
    family = FAMILIES["sd15"]
    pipe = family.pipe()
    model = model_of(family, pipe)
    plan = plan_of(model, 40)
    made, eps = scheduler(plan, pipe), torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
    start, output = ((weight * eps).to(torch.bfloat16) for weight in (made.init_noise_sigma, 0.9))
    ends = []
    for dtype in (torch.float32, torch.bfloat16):
        made.set_timesteps(plan.calls)
        x = start.to(dtype)
        for t in made.timesteps:
            x = made.step(output.to(dtype), t, x, return_dict=False)[0]
            assert x.dtype == dtype
        ends.append(x)
    assert torch.equal(ends[0].to(torch.bfloat16), ends[1])


def test_models_of_edm_and_score_and_x0():
    """Their schedulers scale the network's input, or give sigma as t."""
    for theirs in (
        diffusers.EDMEulerScheduler(sigma_min=0.01, sigma_max=50.0, sigma_data=0.7),
        diffusers.ScoreSdeVeScheduler(sigma_min=0.02, sigma_max=100.0),
        diffusers.DDPMScheduler(prediction_type="sample"),
    ):
        pipe = type("Pipe", (), {"scheduler": theirs})()
        from sigmatune.models.network import NetworkDenoiser
        from sigmatune.models.scheduler_config import config_of, read_process

        process = read_process(config_of(theirs))
        weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))

        def network(x, t, weight=weight):
            return torch.tanh(torch.einsum("cd,ndhw->nchw", weight, x)) * torch.cos(t.float().reshape(-1, 1, 1, 1))

        model = NetworkDenoiser(network, (3, 4, 4), process.path, process.prediction)
        plan = plan_of(model, 6)
        made = scheduler(plan, pipe)
        x = rng.noise(0, [0], 0, model.shape) * made.init_noise_sigma
        for t in made.timesteps:
            x = made.step(network(made.scale_model_input(x, t), t), t, x).prev_sample
        torch.testing.assert_close(x, st.sample(model, plan, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", list(POSITION))
def test_a_step_holds_no_more_than_the_width_and_two_tensors(solver, sd):
    """Besides the latents that the pipeline holds, here those that the step before returned, and the network's output."""
    from test_plan import Live

    pipe, model, _ = sd
    plan = plan_of(model, 4, solver)
    made = scheduler(plan, pipe, seed=0)
    shape = (2, 4, 16, 16)
    x, output = torch.randn(shape), torch.randn(shape)
    kept = x.clone(), output.clone()
    with Live(x.numel()) as live:
        for t in made.timesteps:
            x = made.step(output, t, x, return_dict=False)[0]
    assert live.peak - 1 <= plan.coefficients.width + 2, live.peak
    assert torch.equal(output, kept[1]), "the network's output is the pipeline's"
    made.set_timesteps(plan.calls)
    first = kept[0].clone()
    made.step(output, made.timesteps[0], first)
    assert torch.equal(first, kept[0]), "the latents are the pipeline's"


def test_its_overhead_is_at_most_half_of_diffusers_own():
    from test_documents import results

    for row in results("overhead")["rows"]:
        assert row["ratio"] <= 0.5, row


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"num_inference_steps": 7}, "num_inference_steps=4"),
        ({"num_inference_steps": 4, "timesteps": [900, 500, 100, 1]}, "neither timesteps= nor sigmas="),
        ({"num_inference_steps": 4, "sigmas": [10.0, 3.0, 1.0, 0.2]}, "neither timesteps= nor sigmas="),
    ],
)
def test_lists_and_numbers_that_are_not_the_plans(sd, call, reason):
    pipe, _, plan = sd
    pipe.scheduler = scheduler(plan, pipe)
    with pytest.raises(SigmaTuneError, match=reason):
        pipe(**{**FAMILIES["sd15"].call, **call})


def test_steps_out_of_order_and_options_of_other_samplers(sd):
    pipe, model, plan = sd
    made = scheduler(plan, pipe)
    x = torch.zeros(1, *model.shape)
    with pytest.raises(SigmaTuneError, match="not the time of call 0"):
        made.step(x, made.timesteps[1], x)
    with pytest.raises(SigmaTuneError, match="belong to another sampler"):
        made.step(x, made.timesteps[0], x, eta=0.5)
    for t in made.timesteps:
        x = made.step(x, t, x).prev_sample
    with pytest.raises(SigmaTuneError, match="iterate once over"):
        made.step(x, made.timesteps[-1], x)


def test_a_plan_of_another_noise_path(sd):
    plan = sd[2]
    for name in ("sd3", "dit"):
        with pytest.raises(SigmaTuneError, match="noise path"):
            scheduler(plan, FAMILIES[name].pipe())


def test_a_plan_without_a_path_takes_the_pipelines(sd):
    pipe, model, plan = sd
    made = scheduler(st.compile_plan(plan.schedule, "dpmpp2m"), pipe)
    assert made.plan.path == model.path.spec()
    with pytest.raises(SigmaTuneError, match="outside the model's range"):
        scheduler(st.compile_plan(st.Schedule([80.0, 1.0, 0.0])), pipe)


def test_one_schedule_per_row_cannot_run_where_one_t_is_sent(sd):
    pipe, model, plan = sd
    rows = st.compile_plan(st.Schedule(np.stack([plan.schedule.sigmas] * 2)), "euler", model)
    with pytest.raises(SigmaTuneError, match="one t for the whole batch"):
        scheduler(rows, pipe)


def test_learned_coefficients_do_not_start_from_an_image(sd):
    pipe, _, plan = sd
    learned = Plan(plan.schedule, "custom", rolled(unrolled(plan.coefficients)), plan.path, plan.fingerprint)
    with pytest.raises(SigmaTuneError, match="own levels"):
        st.partial(learned, 3.0)
    made = scheduler(learned, pipe)
    with pytest.raises(SigmaTuneError, match="start from an image"):
        made.add_noise(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), made.timesteps[:1])


def test_an_input_that_forgets_the_first_tensor_is_refused(sd):
    _, model, plan = sd
    form = unrolled(plan.coefficients)
    rho = form.rho.clone()
    rho[2] = 0
    with pytest.raises(SigmaTuneError, match="does not depend on the first tensor"):
        native(rolled(form._replace(rho=rho)), model.path, predictions["epsilon"])


def test_a_plan_for_another_resolution_warns():
    pipe = FAMILIES["flux"].pipe()
    family = FAMILIES["flux"]
    plan = plan_of(model_of(family, pipe), 2)
    pipe.scheduler = scheduler(plan, pipe)
    with pytest.warns(PlanMismatch, match="shifts time by"):
        pipe(**{**family.call, "height": 32, "width": 32}, num_inference_steps=2)


def test_a_pipeline_that_rounds_t_is_named():
    pipe = FAMILIES["flux"].pipe()
    plan = plan_of(model_of(FAMILIES["flux"], pipe), 3)
    dtypes = {name: part.dtype for name, part in pipe.components.items() if hasattr(part, "dtype")}
    pipe.to(torch.bfloat16)
    try:
        with pytest.warns(PlanMismatch, match="rounds t to torch.bfloat16, by up to"):
            scheduler(plan, pipe)
    finally:
        pipe.to(torch.float32)
    assert set(dtypes.values()) == {torch.float32}


def test_a_pipeline_that_does_not_scale_its_start_is_named():
    pipe = FAMILIES["sd3"].pipe()
    model = model_of(FAMILIES["sd3"], pipe)
    plan = st.compile_plan(st.Schedule([5.0, 1.0, 0.0]), "euler", model)
    with pytest.warns(PlanMismatch, match="does not scale its start noise"):
        made = scheduler(plan, pipe)
    pipe.scheduler = made
    eps = rng.noise(0, [0], 0, model.shape)
    found = images(FAMILIES["sd3"], pipe, plan, latents=eps * made.init_noise_sigma, output_type="latent")
    torch.testing.assert_close(found, st.sample(model, plan, 1), rtol=0, atol=1e-4)


def test_the_configuration_is_the_plan_file(sd):
    pipe, _, plan = sd
    made = scheduler(plan, pipe)
    assert json.loads(json.dumps(made.config["plan"]))["sigmas"] == plan.schedule.sigmas.tolist()
    assert from_spec(made.config["plan"]["noise_path"]).spec() == plan.path


def test_lcms_pipelines_may_say_how_many_steps_their_own_levels_are_a_part_of():
    family = FAMILIES["sd15"]
    pipe = family.pipe()
    made = scheduler(plan_of(model_of(family, pipe), 4), pipe)
    made.set_timesteps(4, original_inference_steps=50)
    told = made.timesteps.clone()
    made.set_timesteps(4)
    assert made.timesteps.equal(told)
