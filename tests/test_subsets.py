"""Some of the images: drawn by a seed, of each class its share, and the record says so."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sets import noise_pictures
from sigmatune.cli.evaluation_options import Measuring
from sigmatune.cli.finetune import reference_of
from sigmatune.evaluation.evaluate import Wanted
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import pictures
from sigmatune.evaluation.reference_set import measure
from sigmatune.spectra.sources import open_images
from sigmatune.spectra.subset import draw
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.data import Reading, load
from sigmatune.training.run import prepare
from training import recipe


@settings(max_examples=40)
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=60), st.data(), st.integers(0, 2**64 - 1))
def test_a_draw_gives_every_class_its_share(labels, data, seed):
    n = data.draw(st.integers(1, len(labels)))
    chosen = draw(n, len(labels), labels, seed)
    assert len(chosen) == len(set(chosen.tolist())) == n
    assert (np.diff(chosen) > 0).all()
    for name in set(labels):
        share = n * labels.count(name) / len(labels)
        assert abs(sum(labels[i] == name for i in chosen) - share) < 1
    assert chosen.tolist() == draw(n, len(labels), labels, seed).tolist()


def test_every_image_is_as_likely_as_another():
    for labels in (None, ["a"] * 4 + ["b"] * 8):
        counts = np.zeros(12)
        for seed in range(600):
            counts[draw(3, 12, labels, seed)] += 1
        assert np.abs(counts - 150).max() < 60, "a fourth of 600, within five deviations"


def test_a_draw_that_is_none():
    for n, seed, says in (
        (5, 0, "4 images, fewer than the 5"),
        (2, -1, "seed"),
        (2, 0.5, "seed"),
        (0, 0, "at least 1"),
    ):
        with pytest.raises(SigmaTuneError, match=says):
            draw(n, 4, None, seed)


@pytest.fixture
def classes(tmp_path):
    """Four classes of 8 images, each of one brightness of its own; as a folder, .npz, .npy and arrays."""
    grain = noise_pictures(32, shape=(8, 8, 3)) // 16
    values = np.repeat(np.array([20, 90, 160, 230], np.uint8), 8)[:, None, None, None] + grain
    for i, image in enumerate(values):
        place = tmp_path / "folder" / "abcd"[i // 8]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:02d}.png")
    np.savez_compressed(tmp_path / "set.npz", images=values, labels=np.repeat(list("abcd"), 8))
    np.save(tmp_path / "set.npy", values)
    return tmp_path, values


def test_every_kind_of_source_draws_alike(classes):
    place, values = classes
    chosen = draw(12, 32, ["abcd"[i // 8] for i in range(32)], 5)
    for source in ("folder", "set.npz"):
        images = open_images(place / source, batch=5).drawn(12, 5)
        batches = list(images)
        assert torch.equal(torch.cat([batch for batch, _ in batches]), expected(values[chosen]))
        assert [label for _, labels in batches for label in labels] == ["abcd"[i // 8] for i in chosen]
        assert (
            [len(batch) for batch, _ in batches] == [5, 5, 2]
            if source == "folder"
            else sum(len(b) for b, _ in batches) == 12
        )
        assert images.about()["drawn"] == {"n": 12, "of": 32, "seed": 5, "by_class": True}
    chosen = draw(12, 32, None, 5)
    for source in (place / "set.npy", values, torch.from_numpy(values)):
        images = open_images(source, batch=5).drawn(12, 5)
        assert torch.equal(torch.cat([batch for batch, _ in images]), expected(values[chosen]))
        assert images.about()["drawn"]["by_class"] is False
    again = open_images(place / "folder").drawn(16, 1).drawn(8, 2)
    assert [len(batch) for batch, _ in again] == [8]
    assert again.classes == tuple("abcd")


def expected(values):
    return torch.from_numpy(values).permute(0, 3, 1, 2).float().div_(255).mul_(2).add_(-1)


def test_evaluate_draws_and_says_so(classes, run):
    words = ("--images", "folder", "--reference", "set.npz", "--extractor", "pixels", "--spaces", "pixels-pca2",
             "--metrics", "fd", "-n", 8)  # fmt: skip
    found = []
    for seed in (0, 0, 1):
        code, _, err = run("evaluate", *words, "--seed", seed)
        assert code == 0, err
        found.append(json.loads((classes[0] / "evaluation.json").read_text()))
    assert found[0]["about"]["drawn"] == {"n": 8, "of": 32, "seed": 0, "by_class": True}
    assert found[0]["figures"][0]["settings"]["seeds"]["seed"] == 0
    values = [one["figures"][0]["value"] for one in found]
    assert values[0] == values[1] != values[2]
    rows = pictures(open_images("folder"), [PIXELS], 8).rows("pixels", "pixels")
    assert sorted(known(rows, classes[1]) // 8) == [0, 0, 1, 1, 2, 2, 3, 3]


PIXELS = extractor("pixels", (3, 8, 8), device=torch.device("cpu"))


def known(rows, values):
    """Which images some features are of."""
    all_of_them = PIXELS(values)["pixels"]
    return np.array([np.flatnonzero((all_of_them == row).all(axis=1))[0] for row in rows])


def test_the_order_of_pictures_that_exist_is_mixed(classes):
    images = open_images(classes[0] / "folder")
    orders = [
        known(pictures(images, [PIXELS], seed=seed).rows("pixels", "pixels"), classes[1]).tolist() for seed in (3, 3, 4)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert [sorted(order) for order in orders] == [list(range(32))] * 3
    assert len({i // 8 for i in orders[0][:8]}) > 1, "a folder is sorted by class, and folds take rows as they come"


def test_rows_of_a_reference_are_drawn_by_class(classes, monkeypatch):
    monkeypatch.setattr("sigmatune.evaluation.reference_set.ROWS", 8)
    found = measure(open_images(classes[0] / "folder"), [PIXELS]).statistics["pixels", "pixels"]
    assert sorted(known(found.rows, classes[1]) // 8) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.moments.n == 32, "moments are of all"


def test_training_draws_its_images(classes):
    source = classes[0] / "folder"
    data = load(source, Reading(most=8, seed=2))
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert data.about["drawn"] == {"n": 8, "of": 32, "seed": 2, "by_class": True}
    assert not torch.equal(data.values, load(source, Reading(most=8, seed=3)).values)
    assert "drawn" not in load(source, Reading(most=99)).about
    file = classes[0] / "labels.txt"
    file.write_text("".join(f"{i % 2}\n" for i in range(32)))
    assert load(classes[1], Reading(most=6, labels=file)).labels.sum() == 3, "labels of a file count for the draw, too"
    one = recipe(data={"most": 8}, training={"seed": 2}, model={"ends": False})
    assert torch.equal(prepare(one, str(source)).data.values, data.values)


def test_what_training_looks_at_comes_from_all_classes(classes):
    job = prepare(recipe(previews={"n": 4}), str(classes[0] / "folder"))
    assert job.shown[1] == list("abcd"), "previews"
    assert job.data.some(4).tolist() == job.data.some(4).tolist()
    assert job.data.labels[job.data.some(8)].bincount().tolist() == [2] * 4


def test_training_images_as_a_reference_are_drawn(classes, monkeypatch):
    monkeypatch.setattr("sigmatune.cli.finetune.MOST", 8)
    data = load(classes[0] / "folder")
    found = reference_of(
        "model", Measuring("fd", "", "", "", 0, "cpu"), Wanted.of(["fd"], PIXELS), data, lambda *_: None
    )
    assert (found.n, found.name, found.shape) == (8, f"{data.name}, 8 drawn", (3, 8, 8))
    assert sorted(known(found.statistics["pixels", "pixels"].rows, classes[1]) // 8) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_data_set_of_the_hub_is_drawn_from_by_class(monkeypatch):
    class Rows(list):
        """A data set as the library has it: rows by number, columns by name."""

        def __init__(self):
            super().__init__({"image": Image.new("L", (4, 4), 10 * i)} for i in range(12))
            self.features = {"image": fake.Image(), "label": fake.ClassLabel()}

        def __getitem__(self, key):
            return [int(i >= 8) for i in range(12)] if key == "label" else super().__getitem__(key)

    fake = types.ModuleType("datasets")
    fake.Image = type("Image", (), {})
    fake.ClassLabel = type("ClassLabel", (), {"names": ["few", "fewer"]})
    fake.load_dataset = lambda name, split: Rows()
    monkeypatch.setitem(sys.modules, "datasets", fake)
    images = open_images("owner/name:test")
    assert (images.count, images.classes) == (12, ("few", "fewer"))
    some = images.drawn(6, 3)
    batches = list(some)
    assert [label for _, labels in batches for label in labels] == ["few"] * 4 + ["fewer"] * 2
    chosen = draw(6, 12, ["few"] * 8 + ["fewer"] * 4, 3)
    found = torch.cat([batch for batch, _ in batches])[:, 0, 0, 0]
    assert torch.allclose(found, torch.from_numpy(chosen * 10 / 127.5 - 1).float(), atol=1e-6)
