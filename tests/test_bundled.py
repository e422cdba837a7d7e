"""The bundled models: small, open to diffusers, and reproducible to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline
from safetensors import safe_open

from sigmatune import load
from sigmatune.core.rng import noise
from sigmatune.core.schedule import Schedule
from sigmatune.models.bundled import bundled_folder
from sigmatune.plan import compile_plan, sample
from sigmatune.schedules import FAMILIES, build
from sigmatune.solvers import POSITION, SOLVERS
from sigmatune.support.errors import SigmaTuneError

MODELS = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "emoji": (3, 32, 32)}
LIMIT = {"digits": 1e6, "cifar10": 20e6, "emoji": 20e6}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    loaded = load(request.param)
    loaded.name = request.param
    return loaded


def test_weights_are_small_half_precision_and_safe(model):
    folder = bundled_folder(model.name)
    files = [file for file in folder.rglob("*") if file.is_file()]
    reference = folder / "reference.npz"  # of the data; the limit is for the model
    assert sum(file.stat().st_size for file in files if file != reference) < LIMIT[model.name]
    assert reference.stat().st_size < 5e6
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".ckpt", ".pkl")]
    with safe_open(folder / "unet" / "diffusion_pytorch_model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}  # noqa: SIM118
    assert model.shape == MODELS[model.name]
    assert "# " in (folder / "README.md").read_text()


def test_a_row_is_bit_equal_for_requested_batches_of_1_7_and_many(model):
    plan = compile_plan(build("karras", 2, model.path), "dpmpp2m", model)
    plan = plan if model.name == "digits" else plan.with_notes(micro_batch=8)  # the others take a second for 16 images
    many = sample(model, plan, plan.micro_batch + 2, seed=5)  # two micro-batches
    assert torch.equal(sample(model, plan, 1, seed=5), many[:1])
    assert torch.equal(sample(model, plan, 7, seed=5), many[:7])
    # The place in the network's batch does not matter either.
    last = plan.micro_batch + 1
    assert torch.equal(sample(model, plan, indices=[last, 2], seed=5), many[[last, 2]])


def test_the_denoiser_denoises(model):
    """Adding a little noise to what the model itself makes and denoising once removes most of it."""
    plan = compile_plan(build("karras", 10, model.path, sigma_max=80), "dpmpp2m", model)
    x0 = sample(model, plan, 4, seed=1, micro_batch=4)
    assert 0.2 < float(x0.std()) < 1.2
    assert float(x0.abs().max()) < 3
    for sigma in (0.1, 0.3):
        eps = noise(9, range(4), 0, model.shape)
        z = (x0 + sigma * eps) / (1 + sigma**2) ** 0.5
        left = (model(z, sigma) - x0).square().mean().sqrt()
        assert float(left) < 0.75 * sigma


def test_it_is_an_ordinary_diffusers_pipeline_and_gives_the_same_images(model):
    """diffusers' own loop, DDIM with 5 trailing steps, on the same noise."""
    pipe = DDPMPipeline.from_pretrained(bundled_folder(model.name))
    unet = pipe.unet.float().eval()
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(5)
    sigmas = model.path.sigma(scheduler.timesteps.numpy())
    plan = compile_plan(Schedule([*sigmas, 0.0]), "euler", model)
    starts = []
    ours = sample(model, plan, 2, seed=3, micro_batch=2, on_step=lambda step: starts.append(step.z.clone()))
    x = starts[0]
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t).sample, t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=0, atol=2e-4)


def one_row_each(steps, model):
    """A schedule of every family, one per row."""
    return Schedule(np.stack([build(name, steps, model.path).sigmas for name, family in FAMILIES.items()
                              if family.defined_on(model.path)]))  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.mark.parametrize(
    ("whole", "solver"),
    [(whole, name) for whole in (False, True) for name, solver in POSITION.items() if not (whole and solver.between)],
)
def test_what_the_network_receives_is_the_plan(solver, whole, digits, monkeypatch):
    """A hook on the real network: t as float32 and the level that the state is scaled for, call by call, row by row.

    One schedule for all rows and one for each; test_solvers.py has N up to 100, on a network that costs nothing.
    """
    model, received = digits, []
    monkeypatch.setattr(model, "integer_time", whole)
    shared = build("karras", 4, model.path)
    with model.network.register_forward_pre_hook(
        lambda module, args, kwargs: received.append((args[0].clone(), args[1])), with_kwargs=True
    ):
        for schedule in (shared, one_row_each(2, model)):
            received.clear()
            plan, rows = compile_plan(schedule, solver, model), schedule.rows or 1
            states = []
            sample(model, plan, rows, micro_batch=rows, on_step=lambda step, into=states: into.append(step.z.clone()))
            q = np.atleast_2d(plan.coefficients.q.numpy())
            assert {t.dtype for _, t in received} == {torch.int64 if whole else torch.float32}
            t = np.stack([t.numpy().astype(np.float64) for _, t in received], axis=1)
            assert t.shape == (rows, SOLVERS[solver].calls(schedule.steps))
            np.testing.assert_allclose(t, model.path.time(q), rtol=1e-6, atol=1e-30)
            if whole:
                assert (t == np.rint(t)).all()
                np.testing.assert_allclose(model.path.sigma(t), q, rtol=1e-6)
            assert all(torch.equal(seen, z) for (seen, _), z in zip(received, states, strict=True))


@pytest.mark.parametrize("solver", [name for name, solver in POSITION.items() if solver.between])
def test_whole_timesteps_refuse_a_solver_that_asks_between_its_levels(solver):
    model = load("digits")
    schedule = build("karras", 5, model.path)
    assert compile_plan(schedule, solver, model).calls > 5
    model.integer_time = True
    with pytest.raises(SigmaTuneError, match=f"^{solver} also asks between .* whole timesteps only"):
        compile_plan(schedule, solver, model)


def test_whole_timesteps_refuse_more_steps_than_levels():
    model = load("digits")
    model.integer_time = True
    with pytest.raises(SigmaTuneError, match="whole timesteps only"):
        compile_plan(build("karras", 300, model.path), "euler", model)
