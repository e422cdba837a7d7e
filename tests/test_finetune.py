"""Weights and plan in turn: the loss is the plan's, the old folder stays, and images decide; test_killed.py kills it."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from sklearn.datasets import load_digits
from typer.testing import CliRunner

import training as small
from little import PICTURES, little_work
from sigmatune import compile_plan, load, load_plan, sample
from sigmatune.cli import app
from sigmatune.evaluation import reference_set as reference
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.stochastic_guard import Difference
from sigmatune.models.bundled import bundled_folder
from sigmatune.models.conditional import ConditionalDenoiser
from sigmatune.schedules import build
from sigmatune.spectra.sources import open_images
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training import plan_levels as training_of_levels
from sigmatune.training.data import Pictures
from sigmatune.training.model_copy import save
from sigmatune.training.plan_levels import FineTuneOptions, Levelled, Trainable, fine_tune, objective_of
from sigmatune.training.recipe import Training
from sigmatune.training.run import train
from sigmatune.tuning import TuningSettings as Noises
from sigmatune.tuning.error_table import TableSize, tabulate
from sigmatune.workflows.finetune import KEEP, FinetuneJob, FinetuneSettings, finetune, weights_of
from sigmatune.workflows.finetune_cost import ImageNumbers, finetune_estimate
from sigmatune.workflows.judge import ImageVerdict, ReferenceData

QUICK = Training(images=96, batch=8, rate=5e-4, warmup=2, weight_decay=0.0)
NOISES = Noises(tuning=8, validation=8, held_out=8, evaluations=4, micro_batch=8, reference_steps=8)


def pictures(most: int | None = None) -> Pictures:
    """The images that the bundled model of digits was trained on."""
    values = np.rint(load_digits().images[:most] / 16 * 255).astype(np.uint8)
    return Pictures(torch.from_numpy(values)[:, None], name="digits")


def plan_for(model, steps=3, solver="euler", family="karras"):
    return compile_plan(build(family, steps, model.path), solver, model)


def digest_of(folder: Path) -> dict[str, str]:
    """A digest of every file of a folder, which proves that nothing in it changed."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def compared(folder: Path) -> ReferenceData:
    """Images are compared pixel by pixel with the images, which takes no network; features are kept in a folder."""
    used = extractor("pixels", (1, 8, 8))
    known = reference.measure(open_images(pictures().values.permute(0, 2, 3, 1).numpy()), [used])
    return ReferenceData(known, used, n=PICTURES, folder=folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return compared(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> Path:
    """A network that is told classes and ends, as our trainer saves it."""
    folder = tmp_path_factory.mktemp("conditional")
    return train(small.recipe(), folder / "run", source=small.written(folder), device="cpu")


# ----------------------------------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("steps", [1, 2, 4, 9])
def test_for_euler_the_weights_are_those_of_the_discretisation_loss(digits, steps):
    plan = plan_for(digits, steps)
    sigma = plan.schedule.sigmas[:-1]
    expected = sigma[-1] * (1 / sigma[1:] - 1 / sigma[:-1])
    assert weights_of(plan) == pytest.approx([*np.maximum(expected, 1e-3), 1.0], rel=1e-12)
    assert expected.sum() == pytest.approx(1 - sigma[-1] / sigma[0])


@pytest.mark.parametrize("solver", ["dpmpp2m", "heun", "unipc", "ddim"])
def test_a_weight_says_what_the_result_hears_of_an_error(digits, solver):
    """Moving one output by e moves the last network input, in x, by w e."""
    plan = plan_for(digits, 4, solver)
    wanted, calls = weights_of(plan), plan.calls
    constant = torch.zeros(1, *digits.shape)

    class Said(type(digits)):
        def __init__(self):  # a denoiser that says 0, but for one call
            self.__dict__.update(digits.__dict__)

        def denoise(self, z, sigma):
            inputs.append(z.double())
            return constant.to(z).expand_as(z) + (1.0 if len(inputs) - 1 == moved else 0.0)

    seen = {}
    for moved in (None, *range(calls - 1)):
        inputs = []
        sample(Said(), replace(plan, fingerprint=None), 1)
        seen[moved] = inputs[-1]
    q = float(plan.coefficients.q[-1])
    for k in range(calls - 1):
        away = float((seen[k] - seen[None]).abs().max()) * np.hypot(1, q)
        assert max(away, 1e-3 * wanted.max()) == pytest.approx(wanted[k], rel=1e-4, abs=1e-6)
    assert wanted[-1] == max(1.0, 1e-3 * wanted.max())


def test_levels_are_drawn_alike_and_weighed_and_a_share_is_taken_elsewhere():
    levels = Levelled(np.array([10.0, 1.0, 0.1]), np.array([0.2, 0.5, 1.0]), elsewhere=0.25)
    law, weight = levels.law((0.01, 100.0), None), levels.weight()
    u = (np.arange(100_000) + 0.5) / 100_000
    sigma = np.exp(-law.logsnr(u, torch.zeros(1, 1, 2, 2)) / 2)
    for level in levels.sigmas:
        assert np.isclose(sigma, level).mean() == pytest.approx(0.25, abs=1e-3)
    off = sigma[~np.isclose(sigma[:, None], levels.sigmas).any(axis=1)]
    assert (off.min(), off.max()) == pytest.approx((0.01, 100.0), rel=1e-3)
    assert np.median(off) == pytest.approx(1.0, rel=1e-3)  # uniform in log sigma
    assert weight(levels.sigmas) == pytest.approx(levels.weights)
    assert weight(np.array([1e3, np.sqrt(10.0), 1e-3])) == pytest.approx([0.2, 0.35, 1.0])


# ------------------------------------------------------------------------------------------------------------- the weights


def test_training_on_levels_helps_there(tmp_path, conditional):
    start = Trainable.of(conditional)
    values, labels = small.images()
    images = Pictures(torch.from_numpy(values).permute(0, 3, 1, 2), torch.from_numpy(labels), start.classes)
    levels = Levelled(np.array([5.0, 1.0, 0.3]), np.ones(3))
    settings = QUICK.model_copy(update={"images": 60 * QUICK.batch, "rate": 2e-3})
    made = fine_tune(
        start, objective_of(start, images, levels), images, settings, tmp_path, FineTuneOptions(device="cpu")
    )
    x_0 = images.at(slice(0, 48))
    old, new = (tabulate(model, x_0, TableSize(24)).at(levels.sigmas) for model in (start.model, load(str(made))))
    assert (new < 0.95 * old).all()


def test_the_old_folder_stays_and_the_new_one_is_of_its_kind(tmp_path, digits):
    start, images = Trainable.of("digits"), pictures(64)
    before = digest_of(start.folder)
    levels = Levelled(np.array([5.0, 1.0, 0.3]), np.ones(3))
    settings = QUICK.model_copy(update={"images": 32})
    made = fine_tune(
        start, objective_of(start, images, levels), images, settings, tmp_path, FineTuneOptions(device="cpu")
    )
    assert digest_of(bundled_folder("digits")) == before
    assert load(str(made)).fingerprint() != digits.fingerprint()

    # In the dtype of the old one, and plain diffusers opens it.
    from diffusers import UNet2DModel
    from safetensors import safe_open

    UNet2DModel.from_pretrained(str(made / "unet"), use_safetensors=True)
    dtypes = set()
    for folder in (start.folder, made):
        with safe_open(next((folder / "unet").glob("*.safetensors")), framework="pt") as file:
            dtypes.add(file.get_tensor(next(iter(file.keys()))).dtype)
    assert len(dtypes) == 1
    assert set(digest_of(made)) == set(before)
    same = {name for name, digest in digest_of(made).items() if before[name] == digest}
    assert {"model_index.json", "scheduler/scheduler_config.json", "spectra.json", "reference.npz"} <= same


def test_a_network_that_is_saved_as_it_is_predicts_the_same(tmp_path, conditional):
    for source in ("digits", conditional):
        start = Trainable.of(source)
        save(start.network().eval(), start.folder, tmp_path / Path(source).name)
        again = load(str(tmp_path / Path(source).name))
        plan = plan_for(start.model)
        assert torch.equal(sample(again, replace(plan, fingerprint=None), 2), sample(start.model, plan, 2))


def test_a_conditional_network_is_told_classes_and_its_usual_ends(tmp_path, conditional):
    start = Trainable.of(conditional)
    assert isinstance(start.model, ConditionalDenoiser)
    values, labels = small.images()
    names = [start.classes[i] for i in labels]
    images = Pictures(torch.from_numpy(values).permute(0, 3, 1, 2), torch.from_numpy(labels), start.classes)
    objective = objective_of(start, images, Levelled(np.array([1.0, 0.1]), np.ones(2)))
    assert (objective.classes, objective.told_ends, names[0]) == (len(start.classes), True, start.classes[0])
    assert objective.law.ends(images.at(slice(0, 2)))[0] == pytest.approx(start.model.conditioner.default_ends)
    made = fine_tune(
        start, objective, images, QUICK.model_copy(update={"images": 64}), tmp_path, FineTuneOptions(device="cpu")
    )
    new = load(str(made))
    assert new.classes == start.classes
    kept = torch.cat([value.flatten() for value in new.conditioner.parameters()])
    assert not torch.equal(kept, torch.cat([value.flatten() for value in start.model.conditioner.parameters()]))
    with pytest.raises(SigmaTuneError, match="label them as in the model"):
        objective_of(start, Pictures(images.values, images.labels, ["x", "y", "z"]), Levelled(np.ones(1), np.ones(1)))


# --------------------------------------------------------------------------------------------------------------- in turn


REPORTED = []
"""What the run of the fixture ``done`` reported."""


@pytest.fixture(scope="module")
def network(tiny) -> Path:
    """The folder of an untrained network for images like the digits, whose step takes a small part of the time."""
    return tiny


@pytest.fixture(scope="module")
def old(network):
    return load(network)


def run(source: Path, folder: Path, data: ReferenceData, progress=None, **settings) -> object:
    chosen = FinetuneSettings(rounds=2, training=QUICK, noises=NOISES, budget=600, save=5, **settings)
    job = FinetuneJob(source, pictures(400), folder, data, chosen, device="cpu", progress=progress)
    return finetune(job, plan_for(load(source)))


@pytest.fixture(scope="module")
def done(tmp_path_factory, network, data):
    folder = tmp_path_factory.mktemp("finetune") / "run"
    with little_work(pictures=True):
        return folder, run(network, folder, data, lambda *report: REPORTED.append(report), method="discretisation")


def test_one_progress_is_that_of_all_rounds_and_the_verdict(done):
    shares = [share / whole for _, share, whole in REPORTED]
    assert all(before <= after for before, after in pairwise(shares)), "it runs backwards"
    last = {
        number: max(s for s, (what, *_) in zip(shares, REPORTED, strict=True) if what.startswith(f"round {number}"))
        for number in (1, 2)
    }
    assert 0.01 < last[1] < last[2] < 0.99
    assert shares[-1] == pytest.approx(1)


def test_rounds_take_turns_and_pictures_judge(done, data):
    folder, found = done
    evidence = json.loads((folder / "evidence.json").read_text())
    assert evidence["verdict"].startswith("gain" if evidence["gain"] else "no gain")
    start = evidence["against"]["the start"]
    assert {one["space"] for one in start} == {"pixels", "pixels-pca64"}
    assert evidence["gain"] == (any(d["high"] < 0 for d in start) and not any(d["low"] > 0 for d in start))
    assert len(evidence["rounds"]) == 2
    for number, told in enumerate(evidence["rounds"], start=1):
        labels = [one["label"] for one in told["candidates"]]
        assert labels == ["as it was", "discretisation loss, riemann", "discretisation loss, kl", "tuned"]
        best = min(told["candidates"], key=lambda one: one["mean_log_frechet_distance"])
        assert (
            told["plan"]
            == best["sigmas"]
            == load_plan(folder / f"round-{number}" / "plan.json").schedule.sigmas.tolist()
        )
        assert told["images"] == QUICK.images
        assert len(told["error"]["old"]) == len(told["error"]["new"]) == len(told["error"]["sigma"])
    first, second = evidence["rounds"]
    assert second["levels"] == first["plan"][:-1]  # what the second round trains on is what the first one chose
    assert second["error"]["old"] == first["error"]["new"]
    assert found.plan.cost["images_seen"] == 2 * QUICK.images
    spent = found.plan.cost["network_evaluations"]
    files = [folder / "start.json", *(folder / f"round-{number}" / "tuned.json" for number in (1, 2))]
    tuned = [load_plan(file).cost for file in files if file.exists()]
    assert spent["tuning"] == sum(cost["network_evaluations"]["total"] for cost in tuned) > 0
    assert spent["training"] == 3 * found.plan.cost["images_seen"]
    assert spent["tables"] == 4 * 16 * 6  # images and levels: the old and the new weights of two rounds
    assert spent["total"] == sum(count for purpose, count in spent.items() if purpose != "total")


@pytest.mark.parametrize("distil", [0, 3])
def test_the_total_is_what_the_network_did(tmp_path, network, old, distil):
    """Rows are counted in the network itself; images that two verdicts share count once, a teacher in full."""
    rows = {True: 0, False: 0}

    def count(module, args, output):
        if isinstance(module, UNet2DModel):
            rows[module.training] += len(args[0])

    settings = FinetuneSettings(rounds=1, training=QUICK, noises=NOISES, save=5, method=KEEP, distil=distil)
    job = FinetuneJob(network, pictures(400), tmp_path / "run", compared(tmp_path / "kept"), settings, device="cpu")
    counting = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        with little_work(pictures=True):
            spent = finetune(job, plan_for(old)).plan.cost["network_evaluations"]
    finally:
        counting.remove()
    estimate = finetune_estimate(old, plan_for(old), settings, ImageNumbers(400, 16, 64), each=1.0)
    assert rows[True] == QUICK.images
    assert (
        3 * rows[True]
        <= estimate.evaluations["training"]
        <= spent["training"]
        <= 1.2 * estimate.evaluations["training"]
    )
    assert spent["total"] == rows[False] + 3 * rows[True]


@pytest.mark.parametrize(
    ("spans", "gain"),
    [
        ([(-2, -1)], True),
        ([(-2, 1)], False),
        ([(1, 2)], False),
        ([(-2, -1), (-1, 1)], True),  # better in one space, and not known to be worse in the other
        ([(-2, -1), (1, 2)], False),  # worse beyond noise in one
        ([(-1, 1), (-1, 1)], False),
    ],
)
def test_a_gain_is_beyond_noise_in_one_space_and_a_loss_in_none(spans, gain):
    found = [Difference("fd", "", (low + high) / 2, low, high, 1.0, 1.0, 64, 8, 8, 0.95, 0) for low, high in spans]
    assert ImageVerdict(found).gain == gain


def test_a_gain_is_a_new_folder_and_its_plan_and_no_gain_is_none(done, old):
    folder, found = done
    plan = load_plan(folder / "plan.json")
    if found.evidence["gain"]:
        new = load(str(folder / "model"))
        assert plan.fingerprint == new.fingerprint() != old.fingerprint()
        assert digest_of(folder / "model") == digest_of(folder / "round-2" / "training" / "model")
    else:
        assert not (folder / "model").exists()
        assert plan.fingerprint == old.fingerprint()
    assert plan.evidence["verdict"] == found.evidence["verdict"]


def test_bad_weights_are_no_gain(tmp_path, data, digits, little_pictures):
    """A rate that ruins the network: the old plan comes back, with the words."""
    settings = FinetuneSettings(rounds=1, training=QUICK.model_copy(update={"rate": 0.3}), noises=NOISES, method=KEEP)
    job = FinetuneJob("digits", pictures(200), tmp_path / "run", data, settings, device="cpu")
    found = finetune(job, plan_for(digits))
    assert found.evidence["verdict"].startswith("no gain")
    assert found.model is None
    assert not (tmp_path / "run" / "model").exists()
    assert found.plan.fingerprint == digits.fingerprint()
    assert found.plan.schedule.sigmas.tolist() == plan_for(digits).schedule.sigmas.tolist()


def test_a_run_that_is_done_is_gone_on_with_and_another_one_is_refused(done, network, data, little_pictures):
    folder, found = done
    before = digest_of(folder)
    again = run(network, folder, data, method="discretisation")
    after = digest_of(folder)
    assert {name for name in after if before.get(name) != after[name]} <= {"evidence.json", "plan.json"}  # seconds
    assert again.plan.schedule.sigmas.tolist() == found.plan.schedule.sigmas.tolist()
    with pytest.raises(SigmaTuneError, match="holds another fine-tuning"):
        run(network, folder, data, method=KEEP)


def test_distillation_and_adapters_run_through_the_same_rounds(tmp_path, data, network, old, little_pictures):
    settings = FinetuneSettings(
        rounds=1, training=QUICK.model_copy(update={"images": 64}), noises=NOISES, method=KEEP, distil=4, lora=2
    )
    job = FinetuneJob(network, pictures(100), tmp_path / "run", data, settings, device="cpu")
    found = finetune(job, plan_for(old))
    told = found.evidence["rounds"][0]
    assert told["loss"]["first"] == pytest.approx(1.0, rel=0.5)  # in units of what the undistilled network misses
    assert (tmp_path / "run" / "round-1" / "training" / "adapter" / "adapter_config.json").is_file()
    assert load(str(tmp_path / "run" / "round-1" / "training" / "model")).fingerprint() != old.fingerprint()


# ---------------------------------------------------------------------------------------------------------------- bad input


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    np.savez(folder / "digits.npz", images=pictures(64).values.permute(0, 2, 3, 1).numpy())
    np.savez(folder / "large.npz", images=np.zeros((8, 16, 16, 1), dtype=np.uint8))
    plan_for(load("digits")).save(folder / "plan.json")
    other = compile_plan(build("karras", 3, load("cifar10").path), "euler", load("cifar10"))
    other.save(folder / "other.json")
    compile_plan(build("karras", 3, load("digits").path), "ancestral", load("digits")).save(folder / "noisy.json")
    return folder


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--plan", "other.json"], "the plan was tuned for another model"),
        (["--plan", "noisy.json"], "only a deterministic plan"),
        (["--data", "large.npz", "--plan", "plan.json"], "pass images of the model's shape"),
        (["--rate", "0"], "--rate 0.0: Input should be greater than 0"),
        (["--batch", "0"], "--batch 0: Input should be greater than or equal to 1"),
        (["--elsewhere", "1"], "the share off the levels must lie in [0, 1), not 1.0"),
        (["--rounds", "0"], "rounds must be a whole number of at least 1"),
        (["--plan", "plan.json", "--calls", "4"], "give a plan or a number of calls, not both"),
        (["--method", "nothing"], "nothing"),
        (["--budget", "soon"], "soon"),
        (["--dtype", "int8"], "--dtype is float32 or bfloat16"),
        (["--pictures", "8"], "sets of fewer than 64 images cannot be compared"),
        (["--distil", "-1"], "distil must be a whole number of at least 1"),
    ],
)
def test_bad_input_gets_one_sentence_and_nothing_is_written(files, tmp_path, monkeypatch, options, sentence):
    from sigmatune import cli

    monkeypatch.chdir(files)
    given = ["finetune", "digits", "--out", str(tmp_path / "out"), "--device", "cpu", *options]
    if "--data" not in options:
        given += ["--data", "digits.npz"]
    monkeypatch.setattr(sys, "argv", ["sigmatune", *given])
    said = []
    monkeypatch.setattr("builtins.print", lambda *text, **_: said.append(" ".join(map(str, text))))
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert sentence in said[-1]
    assert said[-1].count(". ") == 0
    assert not (tmp_path / "out").exists()


def test_other_models_are_refused():
    with pytest.raises(SigmaTuneError, match="pipeline with more than a network"):
        Trainable.of("cifar10-latent")
    with pytest.raises(SigmaTuneError, match="no folder"):
        Trainable.of("nowhere")


@pytest.mark.usefixtures("little_pictures")
def test_a_loss_that_is_not_finite_names_the_step_and_the_last_good_checkpoint(
    tmp_path, data, network, old, monkeypatch
):
    settings = FinetuneSettings(rounds=1, training=QUICK, noises=NOISES, method=KEEP, save=5)
    made = training_of_levels.Denoising.losses

    def broken(self, network, batch, seed):
        return made(self, network, batch, seed) * (float("nan") if batch.step == 7 else 1.0)

    monkeypatch.setattr(training_of_levels.Denoising, "losses", broken)
    job = FinetuneJob(network, pictures(100), tmp_path / "run", data, settings, device="cpu")
    with pytest.raises(
        SigmaTuneError, match=r"the loss became nan at step 8; the last good checkpoint is .*, of step 5"
    ):
        finetune(job, plan_for(old))
    assert not (tmp_path / "run" / "model").exists()


def test_the_command_says_what_came_of_it(files, tmp_path, little_pictures, monkeypatch):
    monkeypatch.chdir(files)
    options = [
        "--images",
        "64",
        "--batch",
        "16",
        "--rounds",
        "1",
        "--method",
        "keep",
        "--pictures",
        str(little_pictures),
        "--device",
        "cpu",
    ]
    found = CliRunner().invoke(
        app,
        ["finetune", "digits", "--data", "digits.npz", "--plan", "plan.json", "--out", str(tmp_path / "o"), *options],
    )
    assert found.exit_code == 0, found.output
    assert "gain: on 16 held-out noises" in found.output
    assert "64 images seen" in found.output
    evidence = json.loads((tmp_path / "o" / "evidence.json").read_text())
    assert (tmp_path / "o" / "model").is_dir() == evidence["gain"]
