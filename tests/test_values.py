"""Which stored numbers are black and white: the same images in every kind of number are the same images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

from sets import noise_pictures
from sigmatune.evaluation.extractors import extractor
from sigmatune.evaluation.generation import pictures
from sigmatune.spectra.measured_spectra import measure
from sigmatune.spectra.sources import open_images
from sigmatune.spectra.values import Scale
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.data import Reading, load

SEEN = noise_pictures(6, shape=(8, 8, 3))
WAYS = {
    "0..1": SEEN / 255.0,
    "0..1 in float32": (SEEN / 255.0).astype(np.float32),
    "-1..1": SEEN / 127.5 - 1,
    "0..255": SEEN.astype(np.float64),
    "0..255 in float16": SEEN.astype(np.float16),
    "16 bits": SEEN.astype(np.uint16) * 257,
    "big-endian": (SEEN / 255.0).astype(">f4"),
}


def read(source, **how):
    return torch.cat([batch for batch, _ in open_images(source, **how)])


@pytest.mark.parametrize("way", WAYS)
def test_the_same_pictures_in_every_kind_of_number(way):
    assert_allclose(read(WAYS[way]), read(SEEN), atol=2e-6)
    assert torch.equal(load(WAYS[way]).values, load(SEEN).values)
    assert_allclose(measure(WAYS[way]).all.power, measure(SEEN).all.power, rtol=1e-5)
    pixels = extractor("pixels", (3, 8, 8), device=torch.device("cpu"))
    ours, theirs = (pictures(open_images(source), [pixels]) for source in (WAYS[way], SEEN))
    assert np.array_equal(ours.rows("pixels", "pixels"), theirs.rows("pixels", "pixels"))


def test_evaluate_gives_one_figure_for_one_set_of_pictures(run, tmp_path):
    np.savez(tmp_path / "a.npz", images=noise_pictures(40, seed=1, shape=(8, 8, 3)))
    seen, found = noise_pictures(40, seed=2, shape=(8, 8, 3)), {}
    for name, values in {"uint8": seen, "0..1": seen / 255, "-1..1": seen / 127.5 - 1, "0..255": seen * 1.0}.items():
        np.savez(tmp_path / "b.npz", images=values)
        words = ("--extractor", "pixels", "--spaces", "pixels-pca8", "--metrics", "fd", "--json")
        code, out, err = run("evaluate", "--images", "b.npz", "--reference", "a.npz", *words)
        assert code == 0, err
        found[name] = json.loads(out)
    figures = [one["figures"][0]["value"] for one in found.values()]
    assert figures == [figures[0]] * 4
    assert [one["about"]["values"] for one in found.values()] == ["0..255", "0..1", "-1..1", "0..255"]
    np.savez(tmp_path / "b.npz", images=np.random.default_rng(0).standard_normal((40, 8, 8, 3)))
    code, _, err = run(
        "evaluate", "--images", "b.npz", "--reference", "a.npz", "--extractor", "pixels", "--metrics", "fd"
    )
    assert code == 2
    assert "neither 0..1, -1..1 nor 0..255; pass values" in err
    code, _, err = run(
        "evaluate", "--images", "b.npz", "--reference", "a.npz", "--extractor", "pixels", "--values", "as-is"
    )
    assert code == 2
    assert "metrics need images" in err


def test_all_numbers_decide_and_not_the_first_batch():
    values = (SEEN / 127.5 - 1).astype(np.float32)
    values[:5] = np.abs(values[:5])  # alone these would be taken for 0..1
    assert_allclose(read(values, batch=1), values.transpose(0, 3, 1, 2), atol=1e-6)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.full((2, 8, 8), 0.5), "holds nothing but 0.5, which does not reveal its range"),
        (np.zeros((2, 8, 8)), "holds nothing but 0"),
        (np.linspace(0, 1.5, 128).reshape(2, 8, 8), "holds 0 to 1.5, which is neither"),
        (np.linspace(0, 15, 128).reshape(2, 8, 8), "holds 0 to 15, which is neither"),
        (np.linspace(-1.2, 1, 128).reshape(2, 8, 8), "holds -1.2 to 1, which is neither"),
        (np.linspace(0, 65535, 128).reshape(2, 8, 8), "holds 0 to 6.554e[+]04, which is neither"),
        (np.arange(128, dtype=np.uint16).reshape(2, 8, 8), "uint16 and nothing above 127.*pass values '0..255'"),
        (np.arange(128).reshape(2, 8, 8), "holds int64; .*with values '0..255'"),
        (np.arange(128).reshape(2, 8, 8) % 2, "holds int64"),  # 0 and 1 in whole numbers are not guessed at
    ],
)
def test_what_cannot_be_told_is_refused_with_what_to_pass(values, says):
    with pytest.raises(SigmaTuneError, match=says) as caught:
        read(values)
    assert "values" in str(caught.value)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    ("values", "said", "expected"),
    [
        (np.full((1, 2, 2), 0.5), "0..1", 0.0),
        (np.full((1, 2, 2), 0.5), "-1..1", 0.5),
        (np.full((1, 2, 2), 51.0), "0..255", -0.6),
        (np.full((1, 2, 2), 51, np.uint16), "0..255", -0.6),
        (np.full((1, 2, 2), 51, np.int64), "0..255", -0.6),
        (np.full((1, 2, 2), 1, np.uint8), "0..1", 1.0),
        (np.full((1, 2, 2), 1, np.uint8), "auto", 2 / 255 - 1),  # uint8 is 0..255, whatever it holds
        (np.full((1, 2, 2), True), "auto", 1.0),
        (np.full((1, 2, 2), 7.5), "as-is", 7.5),
        (np.full((1, 2, 2), 255, np.uint8), "as-is", 1.0),  # whole numbers are images all the same
        (np.full((1, 2, 2), 1.2), "0..1", 1.4),  # what bicubic resizing goes beyond the ends
    ],
)
def test_what_is_said_is_taken(values, said, expected):
    assert_allclose(read(values, values=said), np.full((1, 1, 2, 2), expected), atol=1e-6)


@pytest.mark.parametrize("said", ["0..1", "-1..1"])
def test_what_is_said_and_cannot_be_is_refused(said):
    with pytest.raises(SigmaTuneError, match=f"holds 255, far outside the stated range {said}"):
        read(np.linspace(0, 255, 128).reshape(2, 8, 8), values=said)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full((1, 2, 2), 51, np.uint8), "0..1"),
        (np.full((1, 2, 2), 51, np.uint8), "-1..1"),
        (np.full((1, 2, 2), 51, np.uint8), "0..65535"),
        (np.full((1, 2, 2), 51 * 257, np.uint16), "0..255"),
        (np.full((1, 2, 2), 51 * 257, np.uint16), "0..1"),
    ],
)
def test_a_kind_of_number_that_says_its_range_is_believed_where_what_is_said_cannot_be(values, said, tmp_path):
    assert_allclose(read(values, values=said), np.full((1, 1, 2, 2), -0.6), atol=1e-6)
    Image.fromarray(values[0]).save(tmp_path / "x.png")
    assert_allclose(read(tmp_path / "x.png", values=said), np.full((1, 1, 2, 2), -0.6), atol=1e-6)


def test_pictures_whose_range_has_to_be_said_are_compared_with_eight_bits(run, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", images=rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8))
    np.savez(tmp_path / "b.npz", images=rng.uniform(-1.2, 1.2, (40, 8, 8, 1)))
    words = ("evaluate", "--images", "b.npz", "--reference", "a.npz", "--extractor", "pixels", "--metrics", "fd",
             "--spaces", "pixels-pca8")  # fmt: skip
    assert run(*words)[0] == 2
    code, _, err = run(*words, "--values", "-1..1")
    assert code == 0, err


@pytest.mark.parametrize(
    "command",
    [
        ("schedule", "spectral-mixed", "-N", "3"),
        ("schedule", "spectral-mixed", "-N", "3", "--per-image", "--plan", "r.json"),
        ("tune", "digits", "--solver", "reduced-oba", "--calls", "4", "--images", "64"),
        ("sample", "digits", "--solver", "reduced-oba", "--calls", "4", "--lambda-s", "auto", "-n", "1"),
    ],
)
def test_every_command_that_reads_data_can_be_told(command, run, tmp_path, monkeypatch):
    """Data that cannot be told is refused with the option, and with it the command reads it and goes on to its work."""

    def choose(*_, **__):
        raise SigmaTuneError("read and measured")

    for module in ("tuning.spectral_search", "workflows.tune_by_spectrum"):
        monkeypatch.setattr(f"sigmatune.{module}.choose", choose)
    np.savez(tmp_path / "d.npz", images=np.random.default_rng(0).uniform(-1.2, 1.2, (8, 8, 8)))
    code, _, err = run(*command, "--data", "d.npz")
    assert code == 2
    assert "pass values" in err
    scales = []
    monkeypatch.setattr(
        "sigmatune.spectra.sources.Scale", lambda values, *a, **k: scales.append(values) or Scale(values, *a, **k)
    )
    code, _, err = run(*command, "--data", "d.npz", "--values", "-1..1")
    assert scales[0] == "-1..1"
    assert code == 0 or "error: read and measured" in err, err
    assert "--values" in run(command[0], "--help")[1]


def test_rounding_at_the_ends_changes_no_range():
    edge = 0.4 / 255
    assert_allclose(read(np.array([[[-edge, 1 + edge]]]))[0, 0, 0], [-1 - 2 * edge, 1 + 2 * edge], rtol=1e-6)
    assert_allclose(read(np.array([[[-1 - edge, 1 + edge]]]))[0, 0, 0], [-1 - edge, 1 + edge], rtol=1e-6)


def test_floating_point_files_are_recognised_together(tmp_path):
    for name, top in (("a", 0.5), ("b", 255.0)):
        Image.fromarray(np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / f"{name}.tif")
    images = read(tmp_path)
    assert images[1].max() == 1
    assert_allclose(images[0].max(), 2 * 0.5 / 255 - 1, rtol=1e-6)
    Image.fromarray(np.full((8, 8), -3, np.float32)).save(tmp_path / "c.tif")
    with pytest.raises(SigmaTuneError, match="holds -3 to 255, which is neither"):
        read(tmp_path)


def test_a_dark_file_of_16_bits_is_believed(tmp_path):
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "a.png")
    assert_allclose(read(tmp_path), np.full((1, 1, 8, 8), 2 * 200 / 65535 - 1), atol=1e-7)


def test_training_takes_latents_only_where_it_is_told_so(tmp_path):
    latents = np.random.default_rng(0).standard_normal((6, 4, 8, 8)).astype(np.float32) * 3
    assert torch.equal(load(latents, Reading(bits=32)).values, torch.from_numpy(latents))
    with pytest.raises(SigmaTuneError, match=r"neither 0..1, -1..1 nor 0..255"):
        load(latents)
    pictures_ = SEEN / 255.0
    assert_allclose(load(pictures_, Reading(bits=32, values="0..1")).values, read(SEEN), atol=1e-6)
