"""Spectrum files, the facts of a spectrum, its figure, and ``sigmatune spectrum``."""

import json
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

from sigmatune.analysis.spectrum_facts import facts_of
from sigmatune.analysis.spectrum_picture import Noise, draw
from sigmatune.errors import SigmaTuneError
from sigmatune.models.analytic import filtered
from sigmatune.noise import VE
from sigmatune.rng import noise
from sigmatune.schedules import build
from sigmatune.solvers import compile_plan
from sigmatune.spectra.advice import Density
from sigmatune.spectra.bounds import Ends, lost_variance, prior_mismatch
from sigmatune.spectra.measure import measure
from sigmatune.spectra.spectrum_file import load_measured, save_measured

F = np.fft.fftfreq(16) * 16
LAW = torch.from_numpy(0.5 * np.maximum(np.rint(np.hypot(F[:, None], F[None, :])), 1) ** -2.5)


def images(n=200):
    """Gaussian images of P(k) = k^-2.5 / 2, float32."""
    return filtered(noise(0, range(n), 0, (3, 16, 16), dtype=torch.float64), LAW.sqrt()).float()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(file, images=images().numpy(), labels=np.arange(200) % 2)
    return file


def test_a_spectrum_file_gives_back_every_bit(data, tmp_path):
    measured = measure(str(data), by_class=True, corners=True)
    save_measured(measured, tmp_path / "s.json")
    again = load_measured(tmp_path / "s.json")
    assert list(again.classes) == ["0", "1"]
    for mine, theirs in [
        (measured.all, again.all),
        *zip(measured.classes.values(), again.classes.values(), strict=True),
    ]:
        assert mine.to_dict() == theirs.to_dict()
        assert mine.power.tobytes() == theirs.power.tobytes()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not JSON"),
        ("[]", "not a spectrum file"),
        ('{"format": "sigmatune/plan"}', "not a spectrum file"),
        ('{"format": "sigmatune/spectrum", "version": 2}', "version 2"),
        ('{"format": "sigmatune/spectrum", "version": 1}', "lacks its spectra"),
        ('{"format": "sigmatune/spectrum", "version": 1, "all": {}, "classes": {}}', "not a spectrum"),
    ],
)
def test_other_files_are_refused(text, sentence, tmp_path):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(SigmaTuneError, match=sentence):
        load_measured(tmp_path / "s.json")
    with pytest.raises(SigmaTuneError, match="cannot read"):
        load_measured(tmp_path / "nothing.json")


def test_the_facts_are_those_of_the_law(data):
    measured = measure(str(data), corners=True)
    facts = facts_of(measured, resolution=32)
    law = facts["laws"]["power"]
    assert abs(law["exponent"] - 2.5) < 0.05
    assert_allclose(facts["sigma_data"] ** 2, LAW.mean().item(), rtol=0.1)
    k = np.arange(1, 9)
    expected = np.mean(0.5 * np.log(0.5 * k**-2.5))
    assert_allclose(facts["training"]["by_rings"]["P_mean"], expected, atol=0.05)
    for row in facts["ends"]:
        assert_allclose(prior_mismatch(measured.all, row["sigma_max"]), 3 / row["steps"] ** 2, rtol=1e-6)
        lost = lost_variance(measured.all, row["sigma_min"]) / measured.all.deviation**2
        assert_allclose(lost, row["lost_variance_share"], rtol=1e-9)
    assert facts["resolution"]["shift"] == 2
    doubled = facts["resolution"]["ends"][2]["sigma_max"] / facts["ends"][2]["sigma_max"]
    assert 1.9 < doubled < 2.1
    json.dumps(facts)


def test_the_picture_draws_everything(data):
    measured = measure(str(data), by_class=True, corners=True)
    ends = {"10 steps": Ends(20.0, 0.01)}
    density = {"proposed": Density(-1.0, 1.0)}
    svg = draw(
        measured.all, title="two classes", classes=measured.classes, noise=Noise(density, ends, np.array([np.inf, 1.0])),
        kind="svg",
    ).decode()  # fmt: skip
    assert svg.startswith("<?xml")
    assert svg == draw(
        measured.all, title="two classes", classes=measured.classes, noise=Noise(density, ends, np.array([np.inf, 1.0])),
        kind="svg",
    ).decode() or "clip" in svg  # fmt: skip
    assert draw(measured.all, title="plain")[:4] == b"\x89PNG"


def test_the_command(run, data, tmp_path):
    plan = tmp_path / "plan.json"
    compile_plan(build("karras", 6, VE()), "euler", None).save(plan)
    saved, picture = tmp_path / "s.json", tmp_path / "s.svg"
    code, text, errors = run(
        "spectrum", data, "--by-class", "--plan", plan, "--resolution", 32, "--out", saved, "--picture", picture
    )
    assert code == 0, errors
    assert "power law: P(k) =" in text
    assert "at 32 pixels: shift 2" in text
    assert "levels outside its central 98 %: 80" in text
    assert picture.read_text().startswith("<?xml")
    _, text, _ = run("spectrum", saved, "--json", "--p-mean", 0, "--p-std", 3, "--plan", plan)
    facts = json.loads(text)
    assert facts["classes"].keys() == {"0", "1"}
    found = facts["plan"]["trained"]
    assert_allclose(found["inside"] + found["above"] + found["below"], 1)
    assert_allclose(found["above"], 0.5 * math.erfc(math.log(80) / 3 / math.sqrt(2)), rtol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (7, 5)])
def test_images_of_any_size(run, tmp_path, size):
    np.save(tmp_path / "small.npy", noise(0, range(6), 0, (1, *size)).numpy())
    code, text, errors = run("spectrum", "small.npy", "--picture", "small.png", "--layout", "NCHW", "--values", "as-is")
    assert code == 0, errors
    assert f"6 image(s) of {size[0]} x {size[1]}" in text
    assert ("P_mean" in text) == (min(size) > 1)
    assert (tmp_path / "small.png").read_bytes()[:4] == b"\x89PNG"
    np.save(tmp_path / "same.npy", np.full((4, 1, *size), 0.5, np.float32))
    code, _, errors = run("spectrum", "same.npy", "--layout", "NCHW")
    assert code == 2
    assert "holds nothing but 0.5" in errors
    code, _, errors = run("spectrum", "same.npy", "--layout", "NCHW", "--values", "0..1")
    assert code == 2
    assert "all images are the same" in errors


def test_bad_input_leaves_nothing_behind(run, data, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no figure")
    nothing = tmp_path / "nothing"
    cases = [
        ([nothing], "nothing"),
        ([folder], "b.png"),
        ([data, "--picture", tmp_path / "s.gif"], ".png or .svg"),
        ([data, "--key", "other"], "other"),
        ([data, "--plan", nothing], "nothing"),
        ([data, "--window", "square"], "square"),
        ([data, "--p-std", 0], "positive std"),
        ([data, "--resolution", -3], "whole number"),
        ([data, "--order", 0], "whole number"),
    ]
    for arguments, word in cases:
        code, text, errors = run("spectrum", *arguments, "--out", tmp_path / "out.json")
        assert code == 2, (arguments, text, errors)
        assert errors.startswith("error: "), errors
        assert errors.count("\n") == 1, errors
        assert word in errors, errors
        assert not (tmp_path / "out.json").exists()
