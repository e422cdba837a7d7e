"""What would fail after the last step is refused before the first one."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sigmatune.models import load
from sigmatune.spectra import mixture_fit
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_text
from sigmatune.support.run_folder import LOCK
from sigmatune.training.data import load as pictures
from sigmatune.training.plan_levels import FineTuneOptions, Levelled, Trainable, fine_tune, objective_of
from sigmatune.training.recipe import Training
from sigmatune.training.recipe import write as recipe_text
from sigmatune.training.run import prepare, train
from sigmatune.training.trainer import Trainer
from training import images, recipe, written

SPECTRA = {"trackers": [], "every": 3, "log": 1, "spectra": True}


@pytest.fixture
def steps(monkeypatch):
    """Counts the training steps."""
    done = []

    def one(self):
        done.append(self.step)
        self.norm = torch.zeros(())
        return torch.zeros(())

    monkeypatch.setattr("sigmatune.training.trainer.Trainer._one", one)
    return done


def classes(folder, **counts):
    """A folder of classes with so many images each."""
    seen, _ = images(sum(counts.values()))
    start = 0
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(seen[start : start + count]):
            Image.fromarray(image).save(folder / name / f"{i}.png")
        start += count
    return str(folder)


@pytest.mark.parametrize(
    ("counts", "sections", "says"),
    [
        ({"a": 8, "b": 1}, {}, "at least two images of class 'b'; .*or set saving.spectra to false"),
        ({"a": 8, "b": 1}, {"model": {"classes": False, "ends": True}}, "at least two images of class 'b'"),
        ({"a": 8, "b": 0}, {}, "the class b of .* holds no image; add some, or delete the folder"),
        ({"a": 8, "b": 0}, {"saving": SPECTRA | {"spectra": False}}, "the class b of .* holds no image"),
        ({"a": 12, "b": 12, "c": 12}, {"data": {"most": 4}}, "at least two images of class"),
    ],
)
def test_a_class_that_cannot_be_learned(tmp_path, steps, counts, sections, says):
    one = recipe(**{"saving": SPECTRA, "averages": [{"kind": "power"}]} | sections)
    with pytest.raises(SigmaTuneError, match=says) as caught:
        train(one, tmp_path / "run", source=classes(tmp_path / "data", **counts), device="cpu")
    assert not steps
    assert not (tmp_path / "run").exists()
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_from_the_command_line(tmp_path, run):
    classes(tmp_path / "data", a=6, b=1)
    write_text(tmp_path / "r.yaml", recipe_text(recipe(saving=SPECTRA)))
    code, _, err = run("train", "r.yaml", "--data", "data", "-o", "x.run", "--device", "cpu")
    assert code == 2
    assert "a mixture needs at least two images of class 'b'" in err
    assert not (tmp_path / "x.run").exists()


def test_without_spectra_a_single_picture_is_enough(tmp_path):
    one = recipe(training={"images": 8, "batch": 8}, averages=[{"kind": "power"}])
    source = classes(tmp_path / "data", a=7, b=1)
    assert train(one, tmp_path / "run", source=source, device="cpu").is_dir()
    assert train(recipe(training={"images": 8, "batch": 8}, averages=[{"kind": "power"}], saving=SPECTRA), tmp_path / "two",
                 source=classes(tmp_path / "more", a=6, b=2), device="cpu").is_dir()  # fmt: skip


def test_spectra_that_cannot_be_fitted_here(tmp_path, steps, monkeypatch):
    def missing():
        raise SigmaTuneError("fitting spectra needs scikit-learn; install the extra.")

    monkeypatch.setattr(mixture_fit, "_mixtures", missing)
    with pytest.raises(SigmaTuneError, match=r"needs scikit-learn; install the extra, or set saving.spectra to false"):
        train(recipe(saving=SPECTRA), tmp_path / "run", source=written(tmp_path), device="cpu")
    assert not steps
    prepare(recipe(), written(tmp_path))


@pytest.mark.parametrize("names", [list("abcabcabc"), list("aaaaaaaab"), None, list("aa"), list("a")])
def test_what_is_checked_is_what_a_fit_refuses(names):
    seen, _ = images(9)
    tensor = torch.from_numpy(seen).permute(0, 3, 1, 2).float() / 127.5 - 1
    part = tensor if names is None else tensor[: len(names)]
    told = []
    for attempt in (lambda: mixture_fit.check(names or [None] * 9, (8, 8)), lambda: mixture_fit.fit(part, names)):
        try:
            attempt()
            told.append(None)
        except SigmaTuneError as error:
            told.append(str(error))
    assert told[0] == told[1]


def test_a_preview_that_has_no_plan(tmp_path, steps, monkeypatch):
    def none(*_):
        raise SigmaTuneError("5000 levels fall on 1000 timesteps.")

    monkeypatch.setattr("sigmatune.training.previews.planned", none)
    with pytest.raises(SigmaTuneError, match=r"previews of 16 calls cannot be made: .*; choose another previews.calls"):
        train(recipe(previews={"every": 1000}), tmp_path / "run", source=written(tmp_path), device="cpu")
    assert not steps


@pytest.mark.parametrize("part", ["ConfigMixin.save_config", "ModelMixin.save_pretrained"])
def test_a_folder_that_cannot_be_written(tmp_path, steps, monkeypatch, part):
    kind, name = part.split(".")
    module = {"ConfigMixin": "diffusers.configuration_utils", "ModelMixin": "diffusers.models.modeling_utils"}[kind]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"{module}.{kind}.{name}", full)
    with pytest.raises(SigmaTuneError, match=r"the model could not be written to .*run: No space left on device"):
        train(recipe(), tmp_path / "run", source=written(tmp_path), device="cpu")
    assert not steps
    assert not [file for file in (tmp_path / "run").iterdir() if file.name.startswith(".") and file.name != LOCK], (
        "nothing is left of the attempt"
    )


def test_half_precision_that_overflows_keeps_the_checkpoint(tmp_path, monkeypatch):
    small = {"training": {"images": 16, "batch": 8}, "averages": [{"kind": "constant", "options": {"decay": 0.0}}]}
    source, one = written(tmp_path), recipe(**small, saving=SPECTRA | {"spectra": False, "half": True})

    def run(self, *_):
        self.averages[0].values[next(iter(self.averages[0].values))].fill_(7e4)
        self.step = 2
        self.save()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", run)
        with pytest.raises(SigmaTuneError, match=r"reaches 7e\+04, more than float16 holds; continue with"):
            train(one, tmp_path / "run", source=source, device="cpu")
    assert not (tmp_path / "run" / "model").exists()
    again = recipe(**small, saving=SPECTRA | {"spectra": False, "half": False})
    model = train(again, tmp_path / "run", source=source, device="cpu")
    assert max(float(value.abs().max()) for value in load(str(model)).network.parameters()) == pytest.approx(7e4)


def fine_tuned(start, folder, data):
    levels = Levelled(np.array([2.0, 0.5]), np.ones(2))
    settings = Training(images=8, batch=4, warmup=1)
    return fine_tune(start, objective_of(start, data, levels), data, settings, folder, FineTuneOptions(device="cpu"))


def test_a_fine_tuned_folder_that_cannot_be_copied(tiny, tmp_path, steps):
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "notes").symlink_to(tmp_path / "nowhere")
    grey = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    with pytest.raises(SigmaTuneError, match=r"notes cannot be copied: No such file"):
        fine_tuned(Trainable.of(folder), tmp_path / "run", pictures(grey))
    assert not steps
    (folder / "notes").unlink()
    assert fine_tuned(Trainable.of(folder), tmp_path / "run", pictures(grey)).is_dir()
    assert steps == [0, 1]
