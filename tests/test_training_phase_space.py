"""Networks of phase space learn the score that the formulas say, on the one trainer, and every splitting runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sigmatune as st
from sigmatune.core.denoiser import Denoiser
from sigmatune.models.psld_network import PhaseSpaceNetwork, PSLDScheduler
from sigmatune.processes import PSLD, PhasePath, eps_of, score_of
from sigmatune.processes.parametrisation import mixed
from sigmatune.solvers import PHASE_SPACE
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training import draws
from sigmatune.training.data import Batch
from sigmatune.training.export import averaged, save_model
from sigmatune.training.recipe import read
from sigmatune.training.run import prepare, train
from sigmatune.training.score_matching import ScoreMatching
from training import losses, recipe, same, trainer, written

ROOT = Path(__file__).resolve().parent.parent

MEAN, DEVIATION = 0.4, 0.3
KINDS = [("hsm", False), ("hsm", True), ("dsm", False), ("dsm", True)]
EARLY = PSLD(gamma=0.2, nu=3.2, kappa=0.7, T=0.1001)  # where the first momentum is not forgotten yet


def gaussian(n: int = 2000, channels: int = 2) -> Batch:
    """Images whose pixels are N(MEAN, DEVIATION^2)."""
    images = MEAN + DEVIATION * torch.randn(n, channels, 4, 4, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.full((n,), -1), torch.arange(n), range(n), 3)


def score(process: PSLD, u: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The score of (x, m) for such images, written out from their 2 x 2 covariance, in float64."""
    a, first = process.mean(t), process.covariance(t)
    total = first + DEVIATION**2 * a[..., :, None] * a[..., None, :]
    mean = mixed(a[..., None], torch.full_like(u[:, : u.shape[1] // 2], MEAN, dtype=torch.float64))
    return -mixed(torch.linalg.inv(total), u.double() - mean)


def deviations(values: torch.Tensor) -> float:
    """The mean in its own standard errors."""
    return float(values.mean() / (values.std() / len(values) ** 0.5))


class Told(torch.nn.Module):
    """A network that is a formula of (x, m) and t, noting what it was asked."""

    def __init__(self, formula, scale=1000.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.formula, self.scale = formula, scale

    def forward(self, u, t):
        self.u, self.t = u, t.double() / self.scale
        return self.formula(u, self.t).to(u) + self.weight


def recipe_of(**sections):
    """A recipe for a short training in phase space."""
    plain = {"classes": False, "ends": False}
    process = {"kind": "psld"} | sections.pop("process", {})
    return recipe(**{"noise": {"law": "spectral-normal"}, "model": plain, "process": process} | sections)


# ------------------------------------------------------------------------------------------------------- the mathematics


@pytest.mark.parametrize(("matching", "upper"), KINDS)
@pytest.mark.parametrize("process", [PSLD(), EARLY], ids=["papers", "early"])
def test_the_loss_at_the_optimum_is_the_formula_and_the_least(process, matching, upper):
    objective = ScoreMatching(process, matching, upper, eps=0.01)
    batch = gaussian()

    def best(u, t):
        return eps_of(process, score(process, u, t), t, matching=matching, upper=upper)

    def at(formula):
        return objective.losses(Told(formula), batch, 5).detach().double()

    found = at(best)
    t = 0.01 + (process.T - 0.01) * torch.from_numpy(draws.uniforms(5, 3, batch.rows, 1)[:, 0])
    fresh, a = process.covariance(t, matching), process.mean(t)
    total = process.covariance(t) + DEVIATION**2 * a[..., :, None] * a[..., None, :]
    explained = torch.linalg.solve(total, fresh).diagonal(dim1=-2, dim2=-1).sum(-1)  # tr L' S^-1 L
    assert abs(deviations(found - (1 - explained / 2))) < 4
    for other in (
        lambda u, t: 1.1 * best(u, t),
        lambda u, t: 0.9 * best(u, t),
        lambda u, t: best(u, t) + 0.1,
        lambda u, t: best(u, 1.3 * t),
        lambda u, t: eps_of(process, score(process, u, t), t, matching=matching, upper=not upper),
    ):
        assert deviations(at(other) - found) > 5


def test_hybrid_score_matching_leaves_less_loss():
    """More of the state is noise that the network is asked for."""

    def least(matching):
        told = Told(lambda u, t: eps_of(EARLY, score(EARLY, u, t), t, matching=matching))
        return float(ScoreMatching(EARLY, matching, eps=0.01).losses(told, gaussian(), 5).mean().detach())

    assert least("hsm") < 0.9 * least("dsm")


@pytest.mark.parametrize(("matching", "upper"), KINDS)
def test_what_minimises_the_loss_is_the_score_whatever_matching_and_root(matching, upper):
    """A linear network, fitted at one time: nothing of the answer is put in."""
    objective = ScoreMatching(EARLY, matching, upper, eps=0.1)  # and T = 0.1001
    network = torch.nn.Conv2d(2, 2, 1)
    batch, told = gaussian(2000, channels=1), Told(lambda u, _: network(u))
    fit = torch.optim.LBFGS(network.parameters(), max_iter=15, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure():
        fit.zero_grad()
        loss = objective.losses(told, batch, 5).mean()
        loss.backward()
        return loss

    fit.step(closure)
    t = torch.full((50,), 0.10005, dtype=torch.float64)
    u = told.u[:50]
    found = score_of(EARLY, network(u).detach().double(), t, matching=matching, upper=upper)
    expected = score(EARLY, u, t)
    assert float((found - expected).norm() / expected.norm()) < 0.02


class White(Denoiser):
    """The denoiser of such images, in position."""

    shape, dtype = (2, 4, 4), torch.float64

    def __init__(self, process: PSLD) -> None:
        self.path = PhasePath(process)

    def denoise(self, z, sigma):
        at = sigma.view(-1, 1, 1, 1)
        return MEAN + DEVIATION**2 / (DEVIATION**2 + at**2) * (z * torch.hypot(torch.ones_like(at), at) - MEAN)

    def fingerprint(self):
        return "white"


@pytest.mark.parametrize(("matching", "upper"), KINDS)
def test_a_network_at_the_optimum_makes_the_pictures_of_the_lifted_denoiser(matching, upper):
    """What is minimised is what the samplers take."""
    process, said = EARLY, f"{matching}-{'upper' if upper else 'lower'}"
    best = Told(lambda u, t: eps_of(process, score(process, u, t), t, matching=matching, upper=upper)).double()
    native = PhaseSpaceNetwork(best, (2, 4, 4), PSLDScheduler(process, said), dtype=torch.float64)
    grid = st.build_schedule("phase-time", 6, native.path, **process.spec())
    ours = st.sample(native, st.compile_plan(grid, "reduced-oba", native), 3).detach()
    lifted = st.sample(White(process), st.compile_plan(grid, "reduced-oba", White(process), **process.spec()), 3)
    torch.testing.assert_close(ours, lifted, rtol=1e-6, atol=1e-6)


def test_times_are_uniform_and_the_network_receives_them_in_its_scale():
    objective = ScoreMatching(PSLD(T=2.0), eps=0.5, time_scale=10.0)
    told = Told(lambda u, _: u, scale=10.0)
    objective.losses(told, gaussian(), 5)
    assert told.u.dtype == torch.float32
    shares = torch.sort((told.t - 0.5) / 1.5).values
    assert (
        float((shares - (torch.arange(2000) + 0.5) / 2000).abs().max()) < 0.04
    )  # Kolmogorov: 1.36 / sqrt(2000) = 0.03


@pytest.mark.parametrize("matching", ["hsm", "dsm"])
def test_a_row_is_the_same_in_every_part_of_the_batch(matching):
    objective, whole = ScoreMatching(PSLD(), matching), gaussian(8)
    parts = [
        Batch(whole.images[i : i + 4], whole.labels[i : i + 4], whole.indices[i : i + 4], range(i, i + 4), 3)
        for i in (0, 4)
    ]
    network = Told(lambda u, _: torch.tanh(u))
    found = objective.losses(network, whole, 5)
    assert torch.equal(found, torch.cat([objective.losses(network, part, 5) for part in parts]))
    assert not torch.equal(found, objective.losses(network, whole, 6))
    found.sum().backward()
    assert network.weight.grad.abs() > 0  # and the loss is differentiable


# ----------------------------------------------------------------------------------------------------------- the training


def test_it_learns_and_goes_on_to_the_bit(tmp_path):
    source = written(tmp_path)
    one = recipe_of(training={"images": 480, "batch": 16, "rate": 5e-3, "warmup": 5}, data={"flip": True})
    trainer(tmp_path / "whole", source, one).run()
    trainer(tmp_path / "parts", source, one).run(until=17)
    trainer(tmp_path / "parts", source, one).run()
    same(tmp_path / "whole", tmp_path / "parts")
    found = losses(tmp_path / "whole")
    assert found[0] == pytest.approx(1, abs=0.3)
    assert np.mean(found[-10:]) < 0.8 * np.mean(found[:3])


@pytest.mark.parametrize(("matching", "upper"), KINDS)
def test_what_is_loaded_is_what_was_trained(tmp_path, matching, upper):
    source, root = written(tmp_path), "upper" if upper else "lower"
    one = recipe_of(
        process={"gamma": 0.02, "nu": 4.02, "eps": 0.002, "matching": matching, "root": root}, training={"images": 16}
    )
    run, prepared = trainer(tmp_path / "run", source, one), prepare(one, source)
    run.run()
    network = averaged(run.bare, run.averages[0])
    save_model(tmp_path / "model", network, prepared.scheduler, one)
    loaded, trained = st.load(tmp_path / "model"), prepared.task.denoiser(network)
    assert (loaded.shape, loaded.ports) == ((3, 8, 8), 2)
    assert loaded.process == PSLD(gamma=0.02, nu=4.02)
    assert loaded.prediction == f"{matching}-{root}" == loaded.solver_options["native"]
    assert loaded.path.eps == 0.002
    learned = prepared.objective
    assert (learned.process, learned.matching, learned.upper, learned.eps) == (loaded.process, matching, upper, 0.002)
    assert loaded.fingerprint() == trained.fingerprint()
    u, sigma = torch.randn(4, 6, 8, 8), torch.full((4,), 0.7, dtype=torch.float64)
    assert torch.equal(loaded.denoise(u, sigma), trained.denoise(u, sigma))
    told = prepared.objective.time_scale * loaded.process.time(sigma).float()
    torch.testing.assert_close(loaded.denoise(u, sigma), network(u, told))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder with images, in half precision."""
    folder = tmp_path_factory.mktemp("finished")
    one = recipe_of(
        training={"images": 16}, previews={"every": 16, "n": 4, "calls": 2}, saving={"half": True, "spectra": True}
    )
    return train(one, folder / "run", source=written(folder), device="cpu").parent


def test_the_folder_says_what_it_is(finished):
    assert {file.name for file in (finished / "model").iterdir()} == {
        "unet", "scheduler", "model_index.json", "spectra.json", "recipe.yaml", "training.json"
    }  # fmt: skip
    stated = json.loads((finished / "model/scheduler/scheduler_config.json").read_text())
    assert stated == {
        "_class_name": "PSLDScheduler", "prediction": "hsm-lower", "eps": 0.001, "time_scale": 1000.0,
        "process": PSLD().spec(),
    }  # fmt: skip
    index = json.loads((finished / "model/model_index.json").read_text())
    assert index["scheduler"] == ["sigmatune", "PSLDScheduler"]
    weight = load_file(finished / "model/unet/diffusion_pytorch_model.safetensors")["conv_in.weight"]
    assert weight.dtype == torch.float16
    assert weight.shape[1] == 6
    assert (finished / "previews/0000000016.png").is_file()
    assert (finished / "model-1-constant/scheduler/scheduler_config.json").is_file()


@pytest.mark.parametrize("name", list(PHASE_SPACE))
def test_every_sampler_runs_it(finished, name):
    model = st.load(finished / "model")
    plan = st.compile_plan(st.build_schedule("phase-time", 3, model.path), name, model)
    images = st.sample(model, plan, 2)
    assert images.shape == (2, 3, 8, 8), name
    assert images.isfinite().all(), name
    assert torch.equal(st.sample(model, plan, 1), images[:1]), name


def test_the_commands_train_and_sample(run, tmp_path):
    source = written(tmp_path, n=12)
    (tmp_path / "small.yaml").write_text(
        "process: {kind: psld}\nmodel: {channels: [8], layers: 1, groups: 4, attention: [false]}\n"
        "training: {images: 16, batch: 8}\nsaving: {trackers: [], spectra: false}\npreviews: {every: 0}\n"
    )
    code, out, err = run("train", "small.yaml", "--data", source, "-o", "run", "--device", "cpu")
    assert code == 0, err
    assert "16 images in 2 steps" in out
    code, _, err = run("sample", "run/model", "--solver", "reduced-obab", "--calls", "5", "-n", "2", "-o", "made.png")
    assert code == 0, err
    assert (tmp_path / "made.png").is_file()
    code, _, err = run("sample", "run/model", "--solver", "dpmpp2m", "--calls", "4", "-n", "2", "-o", "no.png")
    assert (code, "trained in phase space" in err) == (2, True), err


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"process": {"gamma": 0.0, "nu": 0.0}}, "process: gamma and nu must be at least 0 and differ"),
        ({"process": {"gamma": 2.0, "nu": 2.0}}, "process: gamma and nu must be at least 0 and differ"),
        ({"process": {"eps": 1.0}}, "process: eps must lie between 0 and T = 1"),
        ({"process": {"kappa": 0.0}}, "process.kappa must be a number above 0"),
        ({"process": {"nu": -1.0}}, "process.nu must be a number of at least 0"),
        ({"process": {"matching": "ism"}}, "process.matching must be 'hsm' or 'dsm'"),
        ({"process": {"root": "left"}}, "process.root must be 'lower' or 'upper'"),
        ({"noise": {"law": "log-normal"}}, "leave out noise"),
        ({"loss": {"weight": "epsilon"}, "model": {"classes": True, "ends": False}}, "leave out loss, model.classes"),
        ({"model": {"classes": False, "ends": True}}, "leave out model.ends"),
        ({"model": {"classes": False, "ends": False, "kind": "transformer"}}, "leave out model.kind"),
        ({"data": {"low": 4}}, "leave out data.low"),
    ],
)
def test_recipes_that_do_not_fit_are_refused_before_the_data_are_read(sections, says):
    with pytest.raises(SigmaTuneError, match=says) as caught:
        prepare(recipe_of(**sections), "absent")
    assert "\n" not in str(caught.value)


def test_other_trainings_are_the_same_recipes_as_before():
    assert recipe(process={"gamma": 0.5}).identity() == recipe().identity()
    assert recipe_of(process={"gamma": 0.5}).identity() != recipe_of().identity() != recipe().identity()


def test_the_twins_differ_in_their_process_alone():
    ours, theirs = (read(ROOT / f"recipes/cifar10-{name}-cpu.yaml").model_dump() for name in ("psld", "edm-uncond"))
    assert (ours["process"]["kind"], theirs["process"]["kind"]) == ("psld", "edm")
    for one in (ours, theirs):
        del one["name"], one["about"], one["process"], one["noise"], one["loss"], one["previews"]
    assert ours == theirs
