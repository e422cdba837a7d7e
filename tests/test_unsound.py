"""NaN and infinity never become an image, a feature or a file: one sentence says where they came from and what to try."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors.torch import load_file, save_file

import sigmatune as st
from exact import gaussian
from sets import noise_pictures
from sigmatune import compile_plan, schedules
from sigmatune.core.guidance import Guided
from sigmatune.core.wrappers import Wrapper
from sigmatune.evaluation.evaluate import Wanted, figures
from sigmatune.evaluation.extractors.base import Extractor, FeatureSpace
from sigmatune.evaluation.generation import generate, pictures
from sigmatune.evaluation.reference_set import Reference, measure
from sigmatune.evaluation.reference_set import load as load_reference
from sigmatune.models.network import NetworkDenoiser
from sigmatune.plan import sample
from sigmatune.spectra.sources import open_images
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.pixels import to_pixels
from sigmatune.training import checkpoint, previews
from sigmatune.training.export import fitting
from sigmatune.training.plan_levels import Trainable
from sigmatune.training.run import train
from sigmatune.training.run_options import Hooks
from sigmatune.workflows.image_grids import save_images, side_by_side
from tiny_pipelines import sd15
from training import recipe, trainer, written


class Broken(Wrapper):
    """Returns a bad value for one row from some call on."""

    def __init__(self, inner, value=float("nan"), row=2, call=3):
        super().__init__(inner)
        self.value, self.row, self.call, self.seen = value, row, call, 0

    def denoise(self, z, sigma):
        x0 = self.inner(z, sigma)
        self.seen += 1
        if (self.seen - 1) % 5 + 1 >= self.call and len(x0) > self.row:
            x0 = x0.clone()
            x0[self.row, ..., 0] = self.value
        return x0


def plan_of(model, steps=5, solver="euler"):
    return compile_plan(schedules.build("karras", steps, model.path), solver, model)


@pytest.fixture
def broken(tiny, tmp_path):
    """A folder with one NaN weight."""
    folder = tmp_path / "broken"
    shutil.copytree(tiny, folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.weight"].view(-1)[3] = float("nan")
    save_file(weights, file)
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("solver", ["euler", "dpmpp2m", "ancestral"])
def test_a_sample_is_refused_with_its_call_and_row(value, solver):
    model = gaussian()
    plan = plan_of(model, solver=solver)
    with pytest.raises(
        SigmaTuneError, match=r"NaN or infinity in call 3 of 5 \(sigma .*\), image 12; check the function"
    ) as e:
        sample(Broken(model, value), plan, indices=range(10, 16))
    assert len(str(e.value)) <= 300
    assert sample(Broken(model, value, row=99), plan, 4).isfinite().all()


def test_guided_and_started_samples_are_refused():
    model = gaussian()
    with pytest.raises(SigmaTuneError, match="in call 3 of 5"):
        sample(Guided(Broken(model), model, 2.0), plan_of(model).with_notes(fingerprint=None), 4)
    x0 = torch.zeros(4, 1, 8, 8)
    x0[1, 0, 0, 0] = float("inf")
    with pytest.raises(SigmaTuneError, match="image 1 of x0 holds NaN"):
        sample(model, plan_of(model), 4, x0=x0)


def test_what_to_try_depends_on_the_weights():
    linear = torch.nn.Linear(2, 2)
    made = [
        NetworkDenoiser(linear, (2,), gaussian().path, "sample", dtype=dtype)
        for dtype in (torch.float16, torch.float32)
    ]
    assert "arithmetic overflows: load it with dtype=torch.float32" in made[0].remedy()
    assert "check its conditions" in made[1].remedy()
    with torch.no_grad():
        linear.bias[1] = float("inf")
    assert "its weight bias holds NaN or infinity" in made[1].remedy()


@pytest.mark.parametrize(
    "command",
    [
        ("sample", "broken", "plan.json", "-n", 4, "-o", "x.npz"),
        ("sample", "broken", "plan.json", "-n", 4, "-o", "x.png"),
        ("sample", "broken", "--solver", "euler", "--calls", 2, "-o", "x.png"),
        ("evaluate", "broken", "--plan", "plan.json", "-n", 8, "--reference", "data.npz", "--metrics", "fd",
         "--extractor", "pixels"),
        ("bench", "broken", "--families", "karras", "--solvers", "euler", "--calls", 2, "-n", 8, "--reference", "data.npz",
         "--extractor", "pixels"),
        ("tune", "broken", "--calls", 2, "-o", "x.json"),
        ("analyze", "broken", "-n", 2, "--steps", 2, "-o", "x.npz"),
        ("finetune", "broken", "--data", "data.npz", "--calls", 2, "--rounds", 1, "--images", 8, "--batch", 4, "-o", "x"),
    ],
)  # fmt: skip
def test_one_bad_weight_leaves_nothing_behind(broken, tiny, run, tmp_path, command):
    np.savez(tmp_path / "data.npz", images=noise_pictures(64, shape=(8, 8, 1)))
    model = st.load(str(tiny))
    plan_of(model, 2).with_notes(fingerprint=None).save(tmp_path / "plan.json")
    before = {file.name for file in tmp_path.iterdir()}
    code, _, err = run(*command)
    assert code == 2, err
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1, err
    assert "conv_in.weight" in told[0]
    assert "NaN or infinity" in told[0]
    assert len(told[0]) < 300 + len(str(tmp_path))
    left = {file.name for file in tmp_path.iterdir()} - before
    assert not left, left


def test_a_decoder_that_overflows_is_refused_everywhere(tmp_path, monkeypatch):
    pipe = sd15()
    model = st.load(pipe, prompts=["a", "b"], guidance=1.0)
    plan = plan_of(model, 2)
    x = sample(model, plan, 2)
    assert model.decode(x).isfinite().all()
    decoder = pipe.vae.decoder.conv_out
    with torch.no_grad():
        kept = decoder.weight.clone()
        decoder.weight.mul_(3e38).mul_(3e38).clamp_(-3e38, 3e38)  # finite, and what it makes is not
    with pytest.raises(
        SigmaTuneError, match="autoencoder returned NaN or infinity for image 0: float32 overflows in it; load"
    ):
        model.decode(x)
    extractor = Means()
    with pytest.raises(SigmaTuneError, match="autoencoder returned NaN or infinity"):
        generate(model, plan, 2, [extractor], folder=tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.np*")) if (tmp_path / "run").exists() else True
    with torch.no_grad():
        decoder.weight.copy_(kept)
        decoder.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(SigmaTuneError, match=r"weight decoder.conv_out.weight is not finite"):
        model.decode(x)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_picture_is_drawn_or_written(tmp_path, value):
    images = torch.zeros(3, 3, 4, 4)
    images[1, 0, 2, 2] = value
    with pytest.raises(SigmaTuneError, match="image 1 holds NaN or infinity, so it is not an image"):
        to_pixels(images)
    for name, data in (("a.png", images), ("a.npz", images), ("b.npz", torch.cat([images] * 2, dim=1))):
        with pytest.raises(SigmaTuneError, match="image 1 holds NaN or infinity"):
            save_images(data, tmp_path / name)
    with pytest.raises(SigmaTuneError, match="image 1"):
        previews.write(tmp_path / "deep" / "p.png", images, (-1.0, 1.0))
    with pytest.raises(SigmaTuneError, match="image 1"):
        side_by_side([("rows", images)], "title")
    assert not list(tmp_path.iterdir())


class Means(Extractor):
    """The mean of an image, or what a test wants instead."""

    name, version, default = "means", "1", ("mean",)
    spaces = {"mean": FeatureSpace(1, "pixels")}  # noqa: RUF012
    bad: float | None = None

    def features(self, pictures):
        found = pictures.float().flatten(1).mean(dim=1, keepdim=True)
        if self.bad is not None:
            found[3] = self.bad
        return {"mean": found}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_feature_is_unsound(value):
    extractor = Means()
    extractor.bad = value
    with pytest.raises(SigmaTuneError, match="extractor means returned NaN or infinity for image 3 in its space mean"):
        pictures(open_images(noise_pictures(8)), [extractor])


def test_no_reference_is_unsound(tmp_path):
    class Large(Means):
        def features(self, pictures):
            return {name: values * 1e4 for name, values in super().features(pictures).items()}

    images = open_images(noise_pictures(8))
    known = measure(images, [Large()])
    with pytest.raises(SigmaTuneError, match=r"means/mean/rows of the reference .* does not fit into half precision"):
        known.save(tmp_path / "r.npz", half=True)
    assert not list(tmp_path.iterdir())
    known.save(tmp_path / "r.npz")
    assert_array_equal(
        load_reference(tmp_path / "r.npz").statistics["means", "mean"].rows, known.statistics["means", "mean"].rows
    )
    with np.load(tmp_path / "r.npz") as stored:
        arrays = dict(stored)
    arrays["means/mean/rows"][2] = np.nan
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.raises(SigmaTuneError, match=r"NaN or infinity in means/mean; measure the reference again"):
        load_reference(tmp_path / "r.npz")


def test_no_figure_is_unsound(monkeypatch):
    wanted = Wanted.of(["fd"], Means())
    images = open_images(noise_pictures(8))
    known = measure(images, wanted.extractors)
    seen = pictures(images, wanted.extractors)
    assert isinstance(known, Reference)
    assert np.isfinite(figures(seen, wanted, known)[0].estimate.value)
    monkeypatch.setattr("sigmatune.statistics.frechet.Gaussian.distance", lambda *_: float("nan"))
    with pytest.raises(SigmaTuneError, match="fd in the space mean is nan"):
        figures(seen, wanted, known)


def test_training_keeps_no_broken_weights(tmp_path):
    source = written(tmp_path)
    one = trainer(tmp_path / "run", source)
    one.run(until=3)
    with torch.no_grad():
        next(iter(one.bare.parameters())).fill_(float("nan"))
    one.step += 1
    with pytest.raises(
        SigmaTuneError, match=r"became NaN or infinite by step 4; the last good checkpoint is .*of step 3; try a"
    ):
        one.save()
    assert checkpoint.peek(tmp_path / "run").step == 3


def test_the_log_holds_no_infinity(tmp_path):
    one = trainer(tmp_path / "run", written(tmp_path))
    one._open_logs()
    one.step, one.norm = 1, torch.tensor(float("inf"))
    one._log([torch.tensor(1.0)], 1.0, Hooks())
    text = (tmp_path / "run" / "log.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["norm"] is None


def test_a_preview_that_fails_says_how_to_go_on(tmp_path, monkeypatch):
    one = recipe(previews={"every": 8, "n": 2, "calls": 2})

    def unsound(*_):
        raise SigmaTuneError("the model returned NaN or infinity.")

    monkeypatch.setattr("sigmatune.training.training_task.sample", lambda *_, **__: unsound())
    with pytest.raises(
        SigmaTuneError, match=r"a preview failed: the model returned NaN or infinity; previews.every=0 trains without"
    ):
        train(one, tmp_path / "run", source=written(tmp_path), device="cpu")
    assert not list((tmp_path / "run").rglob("*.png"))


def test_weights_that_do_not_fit_are_refused():
    network = torch.nn.Linear(2, 2)
    fitting(network, torch.float16, "cure")
    with torch.no_grad():
        network.weight[0, 1] = 7e4
    with pytest.raises(SigmaTuneError, match=r"the weight weight reaches 7e\+04, more than float16 holds; cure"):
        fitting(network, torch.float16, "cure")
    fitting(network, torch.bfloat16, "cure")
    with torch.no_grad():
        network.weight[0, 1] = float("nan")
    with pytest.raises(SigmaTuneError, match="reaches nan"):
        fitting(network, torch.float32, "cure")


def test_fine_tuning_starts_from_sound_weights(broken):
    with pytest.raises(
        SigmaTuneError, match=r"the weight .*conv_in.weight of .* holds NaN or infinity; start from intact weights"
    ):
        Trainable.of(broken)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_pipeline_s_own_loop_ends_in_one_sentence(value):
    pipe = sd15()
    model = st.load(pipe, prompts=["a"], guidance=1.0)
    plan = plan_of(model, 2)
    scheduler = st.interop.diffusers.scheduler(plan, pipe)
    scheduler.set_timesteps(2)
    latents = torch.zeros(2, *model.shape)
    for i, t in enumerate(scheduler.timesteps):
        output = torch.zeros_like(latents)
        output[1, 0, 0, 0] = value if i == 0 else 0.0
        if i == 0:
            latents = scheduler.step(output, t, latents).prev_sample
            continue
        with pytest.raises(
            SigmaTuneError, match="network returned NaN or infinity for image 1; load it in float32 or bfloat16"
        ):
            scheduler.step(output, t, latents)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_what_is_no_picture_is_written_as_it_is(tmp_path, dtype):
    latents = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    save_images(latents, tmp_path / "x.npz")
    found = np.load(tmp_path / "x.npz")["images"]
    assert found.dtype == (np.float32 if dtype == torch.bfloat16 else np.dtype(str(dtype).removeprefix("torch.")))
    assert_array_equal(found, latents.to(torch.float64).numpy())
