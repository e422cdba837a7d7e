"""Diffusers models: what is on disk becomes the right denoiser, and diffusers' own schedulers agree."""

from __future__ import annotations

import json
import shutil

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDPMPipeline, UNet2DModel

from exact import is_table
from sigmatune.models import load
from sigmatune.models.diffusers_denoiser import DiffusersDenoiser
from sigmatune.models.diffusers_networks import load_diffusers
from sigmatune.models.scheduler_config import READERS, read_process
from sigmatune.noise import VE, VP, Flow, vp
from sigmatune.schedules import FAMILIES, build
from sigmatune.support.errors import SigmaTuneError

SHAPE = (1, 8, 8)


def tiny(**options) -> UNet2DModel:
    torch.manual_seed(0)
    made = UNet2DModel(
        **{
            "sample_size": 8,
            "in_channels": 1,
            "out_channels": 1,
            "block_out_channels": (8, 8),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
            "add_attention": False,
            **options,
        }
    )
    for parameter in made.parameters():  # the default initialisation hardly reacts to t
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def states(n=3, shape=SHAPE):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


def save(folder, unet, scheduler):
    DDPMPipeline(unet=unet, scheduler=scheduler).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False, timestep_spacing="trailing")
    return save(tmp_path_factory.mktemp("pipeline"), tiny(), scheduler)


# ------------------------------------------------------------------------------------------- agreement with diffusers


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_vp_agrees_with_ddim(tmp_path, prediction, betas):
    scheduler = diffusers.DDIMScheduler(prediction_type=prediction, beta_schedule=betas, clip_sample=False)
    unet = tiny()
    model = load_diffusers(save(tmp_path, unet, scheduler))
    scheduler.set_timesteps(1000)
    z = states(1)
    for t in (0, 1, 37, 500, 700):
        output = unet(z, t).sample.detach()
        expected = scheduler.step(output, t, z).pred_original_sample
        got = model(z, float(model.path.sigma(t)))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_v_prediction_agrees_with_ddim_at_zero_snr(tmp_path):
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, clip_sample=False)
    unet = tiny()
    model = load_diffusers(save(tmp_path, unet, scheduler))
    scheduler.set_timesteps(1000)
    z = states(1)
    expected = scheduler.step(unet(z, 999).sample, 999, z).pred_original_sample
    torch.testing.assert_close(model(z, float("inf")), expected.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_agrees_with_edm_euler(tmp_path, prediction):
    scheduler = diffusers.EDMEulerScheduler(sigma_data=0.6, prediction_type=prediction, sigma_max=50.0)
    unet = tiny()
    model = load_diffusers(save(tmp_path, unet, scheduler))
    assert model.path.spec() == VE(0.002, 50.0, "quarter_log").spec()
    assert model.default_schedule == ("karras", {"rho": 7.0})
    scheduler.set_timesteps(6)
    z = states(1)
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x = z * float(np.hypot(1, float(sigma)))
        output = unet(scheduler.scale_model_input(x, t), t).sample
        expected = scheduler.step(output, t, x).pred_original_sample
        level = min(max(float(sigma), 0.002), 50.0)
        torch.testing.assert_close(model(z, level), expected.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("embedding", ["fourier", "positional"])
def test_ve_agrees_with_score_sde(tmp_path, embedding):
    """At the last level the predictor's mean is the denoiser: x + sigma^2 score."""
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=50.0, num_train_timesteps=100)
    unet = tiny(time_embedding_type=embedding)
    model = load_diffusers(save(tmp_path, unet, scheduler))
    assert model.path.spec() == VE(0.01, 50.0, levels=100).spec()
    assert model.value_range == (0.0, 1.0)
    scheduler.set_timesteps(100)
    scheduler.set_sigmas(100)
    sigma = scheduler.sigmas[-1]
    z = states(1)
    x = z * float(np.hypot(1, float(sigma)))
    score = unet(x, sigma * torch.ones(1)).sample
    expected = scheduler.step_pred(score, scheduler.timesteps[-1], x).prev_sample_mean
    torch.testing.assert_close(model(z, 0.01), expected.detach(), rtol=1e-5, atol=1e-5)
    x = z * float(np.hypot(1, 7.0))
    torch.testing.assert_close(
        model(z, 7.0), (x + 49 * unet(x, torch.tensor([7.0])).sample).detach(), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_agrees_with_flow_match_euler(tmp_path, shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    unet = tiny()
    model = load_diffusers(save(tmp_path, unet, scheduler))
    assert model.path.spec() == Flow(shift).spec()
    for steps in (1, 5):
        scheduler.set_timesteps(steps)
        t, tau = scheduler.timesteps[-1], float(scheduler.sigmas[-2])
        sigma = tau / (1 - tau) if tau < 1 else float("inf")
        sigma = max(sigma, model.path.sigma_min)
        z = states(1)
        x = z * float(model.path.state_scale(sigma))
        for earlier in scheduler.timesteps[:-1]:
            scheduler.step(torch.zeros_like(x), earlier, x)
        expected = scheduler.step(unet(x, t).sample, t, x).prev_sample  # its last step arrives at the x0 estimate
        torch.testing.assert_close(model(z, sigma), expected.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(READERS.keys() - {"SigmaTuneScheduler"}))
def test_every_supported_scheduler_is_read_with_its_own_defaults(name):
    try:
        scheduler = getattr(diffusers, name)()
    except ImportError:  # its sampler needs a library; a complete configuration is read without
        like = "EDMEulerScheduler" if name.startswith("Cosine") else "HeunDiscreteScheduler"
        full = dict(getattr(diffusers, like)().config) | {"_class_name": name}
        read, expected = read_process(full).path.spec(), read_process({"_class_name": like}).path.spec()
        assert read == expected | ({"clock": "atan"} if name.startswith("Cosine") else {})
        return
    bare = read_process({"_class_name": name})
    if name.endswith("InverseScheduler"):  # it inverts images and makes none, so its levels are nobody's default
        assert bare.schedule is None
        assert "from data to noise" in bare.unknown
    else:
        assert bare.schedule is not None
        assert bare.schedule[0] in FAMILIES
    assert read_process(dict(scheduler.config) | {"_class_name": name}).path.spec() == bare.path.spec()
    if isinstance(bare.path, VP):
        assert is_table(bare.path, scheduler.alphas_cumprod)


BETAS = {
    "linear": {"beta_schedule": "linear", "beta_end": 0.01, "num_train_timesteps": 400},
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 300},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "trained": {"trained_betas": np.linspace(1e-3, 0.05, 50).tolist(), "num_train_timesteps": 50},
}


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", BETAS)
def test_beta_tables_are_those_of_diffusers(name, zero):
    scheduler = diffusers.DDPMScheduler(**BETAS[name], rescale_betas_zero_snr=zero, prediction_type="v_prediction")
    path = read_process(dict(scheduler.config) | {"_class_name": "DDPMScheduler"}).path
    assert is_table(path, scheduler.alphas_cumprod)


def test_options_that_change_the_reading():
    def read(name="DDPMScheduler", **options):
        return read_process({"_class_name": name, **options})

    assert read(predict_epsilon=False).prediction.name == "sample"
    flow = {"use_flow_sigmas": True, "flow_shift": 3.0}
    made = read("DPMSolverMultistepScheduler", prediction_type="flow_prediction", **flow)
    assert (made.path.spec(), made.prediction.name) == (Flow(3.0).spec(), "flow")
    with pytest.raises(SigmaTuneError, match="a flow model of prediction_type 'epsilon' is not supported"):
        read("DPMSolverMultistepScheduler", **flow)
    assert read("UniPCMultistepScheduler", prediction_type="flow_prediction").prediction.name == "flow"


OWN = {
    "leading": ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    "linspace": ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
    "trailing": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 20.0}),
    "exponential": ("EulerDiscreteScheduler", {"use_exponential_sigmas": True, "sigma_max": 30.0, "sigma_min": 0.1}),
    "edm": ("EDMEulerScheduler", {"rho": 5.0}),
    "flow": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
}


@pytest.mark.parametrize("case", OWN)
def test_the_schedule_of_the_models_makers_is_that_of_diffusers(case):
    name, options = OWN[case]
    scheduler = getattr(diffusers, name)(**options)
    scheduler.set_timesteps(10)
    process = read_process(dict(scheduler.config) | {"_class_name": name})
    assert process.schedule is not None
    family, own = process.schedule
    sigmas = build(family, 10, process.path, **own).sigmas
    theirs = scheduler.sigmas.double().numpy()
    if case == "flow":
        theirs = np.append(theirs[:-1] / np.maximum(1 - theirs[:-1], 1e-300), 0.0)
        assert sigmas[0] == np.inf
        sigmas, theirs = sigmas[1:], theirs[1:]
    np.testing.assert_allclose(sigmas[:-1], theirs[:-1], rtol=2e-3 if case == "trailing" else 2e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("EulerDiscreteScheduler", {"use_beta_sigmas": True}),
        ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}),
        ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ],
)
def test_a_schedule_that_is_no_family_of_ours_is_not_passed_off_as_one(name, options):
    family, own = read_process({"_class_name": name, **options}).schedule
    assert family == "diffusers", "the class makes its levels itself"
    assert options.items() <= own["config"].items()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "without _class_name is not supported"),
        (
            {"_class_name": "VQDiffusionScheduler"},
            "'VQDiffusionScheduler' is not supported; supported are CogVideoX",
        ),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "zigzag"}, "'zigzag' is not supported"),
        ({"_class_name": "DDPMScheduler", "prediction_type": "vibes"}, "'vibes' is not supported"),
        ({"_class_name": "DDPMScheduler", "num_train_timesteps": "many"}, "must be a whole number from 2"),
        ({"_class_name": "DDPMScheduler", "trained_betas": [0.1]}, "at least two"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "sample"}, "EDM model"),
        ({"_class_name": "EDMEulerScheduler", "sigma_data": -1}, "sigma_data"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "continuous"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, "use_dynamic_shifting"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 0}, "shift"),
    ],
)
def test_configurations_that_are_not_supported(config, message):
    with pytest.raises(SigmaTuneError, match=message) as caught:
        read_process(config)
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------------------- on the disk


def test_a_pipeline_folder(pipeline):
    model = load(str(pipeline))
    assert isinstance(model, DiffusersDenoiser)
    assert (model.shape, model.dtype, model.integer_time) == (SHAPE, torch.float32, False)
    assert (model.default_schedule[0], model.value_range) == ("diffusers", (-1.0, 1.0))
    assert model.default_schedule[1]["config"]["timestep_spacing"] == "trailing"
    assert model.path.spec() == vp().spec()
    network = model.network
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    z = states().requires_grad_(True)  # no no_grad inside: whoever tunes by gradient needs it
    (gradient,) = torch.autograd.grad(model(z, 0.7).sum(), z)
    assert bool(gradient.abs().sum() > 0)


def test_rows_may_have_levels_of_their_own(pipeline):
    model = load(pipeline)
    sigma = torch.tensor([0.02, 1.0, 150.0], dtype=torch.float64)
    alone = torch.cat([model(z[None], level) for z, level in zip(states(), sigma.tolist(), strict=True)])
    torch.testing.assert_close(model(states(), sigma), alone, rtol=1e-4, atol=1e-5)


def test_the_flat_layout_of_2022(pipeline, tmp_path):
    for file in ("unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"):
        shutil.copy(pipeline / file, tmp_path)
    assert load(tmp_path).fingerprint() == load(pipeline).fingerprint()


def test_a_bare_unet_needs_its_process(pipeline):
    model = load(pipeline / "unet", path=vp(), prediction="v_prediction")
    assert model.fingerprint() == load(pipeline).fingerprint()
    assert model.default_schedule is None
    for given in ({}, {"path": vp()}, {"prediction": "epsilon"}):
        with pytest.raises(SigmaTuneError, match="pass path= and prediction="):
            load(pipeline / "unet", **given)


def test_what_is_passed_wins_over_the_configuration(pipeline):
    model = load(pipeline, prediction="epsilon", sample_size=(8, 16))
    assert model.shape == (1, 8, 16)
    assert model.prediction.name == "epsilon"
    assert model.fingerprint() != load(pipeline).fingerprint()
    assert model(states(1, (1, 8, 16)), 1.0).shape == (1, 1, 8, 16)


def test_float16_files_compute_in_float32(tmp_path):
    scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction")
    model = load(save(tmp_path, tiny().half(), scheduler))
    assert next(model.network.parameters()).dtype == torch.float32
    exact = DiffusersDenoiser(tiny().half().float(), vp(), "v_prediction")
    torch.testing.assert_close(model(states(), 0.5), exact(states(), 0.5))
    assert load(tmp_path, dtype=torch.float64).dtype == torch.float64
    assert load(tmp_path, dtype=torch.bfloat16)(states(), 0.5).dtype == torch.float32


def test_a_single_variant_is_found(pipeline, tmp_path):
    shutil.copytree(pipeline, tmp_path / "model")
    weights = tmp_path / "model/unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert load(tmp_path / "model").fingerprint() == load(pipeline).fingerprint()
    shutil.copy(
        weights.with_name("diffusion_pytorch_model.fp16.safetensors"), weights.with_name("other.ema.safetensors")
    )
    assert load(tmp_path / "model").fingerprint() == load(pipeline).fingerprint()
    weights.with_name("other.ema.safetensors").rename(weights.with_name("diffusion_pytorch_model.ema.safetensors"))
    with pytest.raises(SigmaTuneError, match=r"must hold diffusion_pytorch_model.safetensors"):
        load(tmp_path / "model")


def test_shards_whose_variant_stands_after_the_number(pipeline, tmp_path):
    """As newer versions of diffusers write them."""
    unet = UNet2DModel.from_pretrained(pipeline / "unet")
    shutil.copytree(pipeline, tmp_path / "model")
    folder = tmp_path / "model" / "unet"
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(folder, variant="fp16", max_shard_size="20KB", safe_serialization=True)
    names = sorted(file.name for file in folder.glob("*.safetensors"))
    assert len(names) > 1
    for file in folder.glob("*.safetensors"):
        number = file.name.split(".")[-2 if "-of-" in file.name.split(".")[-2] else -3]
        assert "-of-" in number
        file.rename(folder / f"diffusion_pytorch_model{number[number.index('-') :]}.fp16.safetensors")
    from sigmatune.models.source import weights_variant

    assert weights_variant(folder) == "fp16"


def test_a_learned_variance_is_ignored(tmp_path):
    unet = tiny(out_channels=2)
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range")
    model = load(save(tmp_path, unet, scheduler))
    z, t = states(1), 300
    sigma = float(model.path.sigma(t))
    expected = z * np.hypot(1, sigma) - sigma * unet(z, t).sample[:, :1]
    torch.testing.assert_close(model(z, sigma), expected.detach(), rtol=1e-5, atol=1e-5)


def test_learned_time_embeddings_know_whole_timesteps_only(tmp_path):
    unet = tiny(time_embedding_type="learned", num_train_timesteps=1000)
    model = load(save(tmp_path, unet, diffusers.DDPMScheduler(prediction_type="sample")))
    assert model.integer_time
    sigma = float(model.snap(np.array([1.0]))[0])
    t = round(float(model.path.time(sigma)))
    torch.testing.assert_close(model(states(1), sigma), unet(states(1), torch.tensor([t])).sample.detach())
    with pytest.raises(SigmaTuneError, match="snap"):
        model(states(1), 1.0)
    with pytest.raises(SigmaTuneError, match="embeddings"):
        DiffusersDenoiser(tiny(time_embedding_type="learned", num_train_timesteps=10), vp(), "sample")
    with pytest.raises(SigmaTuneError, match="VP path"):
        DiffusersDenoiser(unet, Flow(), "flow")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_class_embeds": 10}, "label="),
        ({"out_channels": 3}, "output as input channels"),
        ({"sample_size": None}, "sample_size="),
        ({"time_embedding_type": "fourier"}, "fourier"),
    ],
)
def test_networks_that_are_not_supported(options, message):
    with pytest.raises(SigmaTuneError, match=message):
        DiffusersDenoiser(tiny(**options), vp(), "v_prediction")


def test_noise_prediction_with_zero_terminal_snr_is_refused(tmp_path):
    scheduler = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="epsilon")
    with pytest.raises(SigmaTuneError, match="sigma = inf"):
        load(save(tmp_path, tiny(), scheduler))


# ------------------------------------------------------------------------------------------------------- what is none


def edited(pipeline, tmp_path):
    return shutil.copytree(pipeline, tmp_path / "model")


def refusal(folder) -> str:
    with pytest.raises(SigmaTuneError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def test_a_pickle_is_never_opened(pipeline, tmp_path, monkeypatch):
    folder = edited(pipeline, tmp_path)
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    torch.save(tiny().state_dict(), folder / "unet/diffusion_pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("a pickle was opened"))
    message = refusal(folder)
    assert "pickled weights only" in message
    assert "safe_serialization=True" in message


@pytest.mark.parametrize(
    ("file", "field", "value", "cure"),
    [
        ("unet/config.json", "norm_num_groups", 0, "do not fit together, so copy or download both again"),
        ("unet/config.json", "layers_per_block", "one", "do not fit together, so copy or download both again"),
        ("scheduler/scheduler_config.json", "beta_start", "small", "correct it, or pass path= and prediction="),
        ("scheduler/scheduler_config.json", "trained_betas", "none", "correct it, or pass path= and prediction="),
    ],
)
def test_a_configuration_that_libraries_choke_on_is_refused_with_a_cure(pipeline, tmp_path, file, field, value, cure):
    folder = edited(pipeline, tmp_path)
    config = folder / file
    config.write_text(json.dumps(json.loads(config.read_text()) | {field: value}))
    assert cure in refusal(folder)


def test_folders_that_are_no_model(pipeline, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "not a diffusers model" in refusal(tmp_path / "empty")
    (tmp_path / "file.safetensors").write_bytes(b"x")
    assert "it is damaged or no .safetensors file" in refusal(tmp_path / "file.safetensors")
    assert "no folder" in refusal(tmp_path / "absent")

    folder = edited(pipeline, tmp_path)
    weights, config = folder / "unet/diffusion_pytorch_model.safetensors", folder / "unet/config.json"
    text = config.read_text()
    config.write_text("{")
    assert "cannot be read" in refusal(folder)
    config.write_text("[]")
    assert "JSON object" in refusal(folder)
    config.write_text(json.dumps(json.loads(text) | {"_class_name": "UNet2DConditionModel"}))
    assert "only UNet2DModel" in refusal(folder)
    config.write_text(json.dumps(json.loads(text) | {"block_out_channels": [8, 16]}))
    refusal(folder)
    config.write_text(text)
    (folder / "scheduler/scheduler_config.json").write_text('{"_class_name": "Mine"}')
    assert "'Mine' is not supported" in refusal(folder)
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "copy or download the whole folder again" in refusal(folder)
    weights.unlink()
    assert "holds no weights" in refusal(folder)


def test_weights_that_lack_a_tensor_are_refused(pipeline, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = edited(pipeline, tmp_path)
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["conv_in.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    assert "conv_in.weight" in refusal(folder)


def test_the_hub_gives_json_and_safetensors_or_one_sentence(pipeline, monkeypatch):
    import huggingface_hub

    asked = {}

    def download(repo, *, revision, allow_patterns, local_files_only):
        asked.update(repo=repo, revision=revision, patterns=allow_patterns)
        return str(pipeline)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda _, filename, **rest: str(pipeline / filename))
    model = load("someone/some-model", revision="abc")
    assert model.fingerprint() == load(pipeline).fingerprint()
    assert (asked["repo"], asked["revision"]) == ("someone/some-model", "abc")
    assert all("safetensors" in p or p.endswith(".json") for p in asked["patterns"])

    def fail(*args, **options):
        raise ConnectionError("the network is\nunreachable")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    message = refusal("someone/some-model")
    assert "no folder someone/some-model and the hub does not provide it: the network is." in message


def test_devices_that_are_not_here_are_refused(pipeline):
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(SigmaTuneError, match="cannot be used here"):
            load(pipeline, device=device)
    assert load(pipeline, device="auto").shape == SHAPE


def test_what_we_load_diffusers_loads_too(pipeline):
    again = DDIMPipeline.from_pretrained(pipeline)
    own = load(pipeline).network
    for name, weight in again.unet.state_dict().items():
        assert torch.equal(weight, own.state_dict()[name])
    # Not bit for bit: here the memory is laid out for the CPU, which adds up in another order.
    assert torch.allclose(again.unet(states(), 5).sample, own(states(), 5).sample, atol=1e-5)
