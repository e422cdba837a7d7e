"""Bad recipes and bad data: one sentence with the place of the problem, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.recipe import Recipe, loads, read, write
from sigmatune.training.run import prepare
from sigmatune.training.run_options import RunOptions
from sigmatune.training.trainer import Trainer
from training import images, recipe, written

ROOT = Path(__file__).resolve().parent.parent

SMALL = (
    "model: {channels: [8], layers: 1, groups: 4, attention: [false]}\n"
    "training: {images: 32, batch: 8}\nsaving: {trackers: [], spectra: false}\npreviews: {every: 16, n: 4, calls: 2}\n"
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("trainning: {}", "trainning: there is no such key; did you mean training"),
        ("training: {batchsize: 4}", r"training.batchsize: there is no such key; did you mean batch"),
        ("noise: {lore: x}", "noise.lore: there is no such key"),
        ("training: {batch: many}", "training.batch must be a whole number without quotes, not 'many'"),
        ("training: {rate: 0}", "training.rate must be a number above 0"),
        ("model: {kind: cnn}", "model.kind must be 'unet' or 'transformer', not 'cnn'"),
        ("averages: []", "averages"),
        ("- 1", "not a recipe"),
        ("a: [", "not YAML"),
        ("", "not a recipe"),
    ],
)
def test_recipes_that_are_none(text, says):
    with pytest.raises(SigmaTuneError, match=says) as caught:
        loads(text)
    assert "\n" not in str(caught.value)


def test_a_recipe_is_written_and_read_back():
    one = recipe(noise={"law": "log-normal", "options": {"P_mean": -1.0}})
    assert loads(write(one)) == one
    assert loads(write(one)).identity() == one.identity()
    assert one.identity() != recipe(noise={"law": "log-normal", "options": {"P_mean": -1.1}}).identity()
    assert one.identity() == recipe(
        noise={"law": "log-normal", "options": {"P_mean": -1.0}}, previews={"every": 7}, name="other"
    ).identity()  # fmt: skip
    with pytest.raises(SigmaTuneError, match="cannot read"):
        read("absent.yaml")


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"noise": {"law": "edn"}}, "no noise law 'edn'; did you mean 'edm'"),
        ({"noise": {"law": "edm", "options": {"P_men": 1}}}, "did you mean 'P_mean'"),
        ({"loss": {"weight": "sigmod"}}, "did you mean 'sigmoid'"),
        ({"model": {"channels": [9]}}, "multiple of model.groups"),
        ({"model": {"channels": [8] * 5}}, "cannot be halved 4 times"),
        ({"model": {"attention": [True, False]}}, "one entry for each"),
        ({"model": {"attention": [True]}}, "multiples of model.head"),
        ({"model": {"kind": "transformer", "patch": 3}}, "multiple of model.patch"),
        ({"process": {"sigma_min": 90.0}}, "sigma_min must be below sigma_max"),
        ({"process": {"kind": "flow"}, "noise": {"law": "log-uniform"}}, "finite sigma_max"),
        ({"data": {"low": 3}}, "multiple of data.low"),
        ({"averages": [{"kind": "median"}]}, "no average of weights 'median'"),
        ({"saving": {"trackers": ["tensorbord"]}}, "did you mean 'tensorboard'"),
    ],
)
def test_recipes_that_do_not_fit(tmp_path, sections, says):
    one = recipe(**sections)
    with pytest.raises(SigmaTuneError, match=says):
        _made(one, tmp_path)
    assert not (tmp_path / "run").exists()


def _made(one: Recipe, folder: Path) -> Trainer:
    job = prepare(one, written(folder))
    return Trainer(
        job.network, job.objective, job.data, one.training, folder / "run",
        RunOptions(one.averages, one.saving, device="cpu"),
    )  # fmt: skip


def test_bad_data_is_refused_and_nothing_is_written(run, tmp_path):
    pictures, labels = images(6)
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    Image.fromarray(pictures[0]).save(tmp_path / "mixed" / "a.png")
    Image.fromarray(pictures[1][:4]).save(tmp_path / "mixed" / "b.png")
    np.savez(tmp_path / "short.npz", images=pictures, labels=labels[:5])
    np.savez(tmp_path / "plain.npz", images=pictures)
    np.savez(tmp_path / "floats.npz", images=pictures.astype(np.float32) / 300)
    np.savez(tmp_path / "none.npz", images=pictures[:0])
    np.save(tmp_path / "five.npy", labels[:5])
    (tmp_path / "four.txt").write_text("a\nb\nc\nd\n")
    (tmp_path / "small.yaml").write_text(SMALL)
    before = sorted(tmp_path.rglob("*"))
    for arguments, says in (
        (("--data", "empty"), "holds no image"),
        (("--data", "none.npz"), "none empty"),
        (("--data", "absent"), "there is no absent"),
        (("--data", "mixed"), "has 8 x 8 pixels but"),
        (("--data", "short.npz"), "one whole number or text for each of the 6 images"),
        (("--data", "plain.npz", "--set", "data.labels=five.npy"), "five.npy holds 5 labels but there are 6 images"),
        (("--data", "plain.npz", "--set", "data.labels=four.txt"), "holds 4 labels but there are 6 images"),
        (("--data", "plain.npz", "--set", "data.labels=small.yaml"), "read from .npy, .json or .txt"),
        (("--data", "plain.npz", "--set", "data.labels=absent.txt"), "cannot read absent.txt"),
        (("--data", "plain.npz", "--set", "model.classes=true"), "has no class labels"),
        (("--data", "plain.npz", "--set", "name=2024-13-45"), "put texts into quotes"),
        (("--data", "plain.npz", "--set", "name=" + "[" * 5000), "deeper than 64"),
        (("--data", "plain.npz", "--set", "noise.options={p: 1, p: 2}"), "'p' stands twice"),
        (("--data", "plain.npz", "--set", "training.batch=[1"), "--set 'training.batch' is not YAML"),
        (("--data", "floats.npz"), "set bits to 32"),
        (("--data", "plain.npz", "--set", "training.imges=3"), "did you mean images"),
        (("--data", "plain.npz", "--set", "training.images"), "section.key=value"),
        (("--data", "plain.npz", "--set", "nothing.images=3"), "section.key=value"),
        (("--data", "plain.npz", "--device", "tpu"), "--device is auto or cpu"),
        ((), "names no data"),
    ):
        code, _, err = run("train", "small.yaml", *arguments, "-o", "run")
        assert (code, says in err) == (2, True), err
        assert err.count("\n") == 1, err
        assert sorted(tmp_path.rglob("*")) == before, arguments
    code, _, err = run("train")
    assert code == 2
    assert "give a recipe" in err


def test_the_command_trains_resumes_and_says_what_it_took(run, tmp_path):
    source = written(tmp_path, n=12)
    (tmp_path / "small.yaml").write_text(SMALL)
    arguments = ("train", "small.yaml", "--data", source, "-o", "run", "--device", "cpu", "--set", "model.classes=true")
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "32 images in 4 steps" in out
    assert "training: " in err
    assert "parameters on 12 images of 3 x" in err
    assert "to step 4, 8 images each, on cpu" in err
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    assert json.loads(out)["steps"] == 4
    code, _, err = run("sample", "run/model", "plan.json", "-n", "2")
    assert code == 2
    code, _, _ = run("schedule", "karras", "-N", "2", "--path", "edm", "--plan", "plan.json")
    assert code == 0
    for more in (("--labels", "2"), ("--labels", "2", "0"), ("--guidance", "2", "--interval", "0.1", "3")):
        code, out, err = run("sample", "run/model", "plan.json", "-n", "2", *more)
        assert code == 0, err
    code, _, err = run("sample", "run/model", "plan.json", "-n", "2", "--labels", "7")
    assert (code, "no class '7'" in err) == (2, True), err
    code, _, err = run("sample", "digits", "plan.json", "-n", "2", "--guidance", "2")
    assert (code, "takes none of --guidance" in err) == (2, True), err


def test_every_recipe_is_one_and_says_what_it_costs():
    found = sorted((ROOT / "recipes").glob("*.yaml"))
    assert len(found) >= 6
    for file in found:
        one = read(file)
        assert isinstance(one, Recipe)
        assert one.name == file.stem
        assert "CPU" in one.about, file
        assert "accelerator" in one.about, file


def test_one_recipe_serves_three_sizes():
    """16, 32 and 64 pixels without any retuning: nothing differs but the size of the images."""
    fields = [read(ROOT / f"recipes/emoji-{size}.yaml").model_dump() for size in (16, 32, 64)]
    assert [one["data"].pop("size") for one in fields] == [16, 32, 64]
    for one in fields:
        del one["name"], one["about"]
    assert fields[0] == fields[1] == fields[2]
    same = [
        read(ROOT / f"recipes/cifar10-{name}-cpu.yaml").model_dump() for name in ("sid2", "spectral-global", "spectral")
    ]
    for one in same:
        del one["name"], one["about"], one["noise"]
    assert same[0] == same[1] == same[2]
