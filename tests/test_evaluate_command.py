"""`sigmatune evaluate` and `sigmatune bench`: figures, and bad input; test_killed.py kills both."""

from __future__ import annotations

import json
from html import unescape

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sets import noise_pictures
from sigmatune import compile_plan, load, schedules
from sigmatune.evaluation.shards import SHARD


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def files(tmp_path, digits):
    np.savez(tmp_path / "data.npz", images=noise_pictures(60, shape=(8, 8, 1)))
    np.savez(tmp_path / "colour.npz", images=noise_pictures(60, shape=(8, 8, 3)))
    np.savez(tmp_path / "large.npz", images=noise_pictures(60))
    for name, steps in (("a", 3), ("b", 6)):
        compile_plan(schedules.build("karras", steps, digits.path), "ancestral", digits).save(tmp_path / f"{name}.json")
    return tmp_path


PIXELS = ("--extractor", "pixels", "--spaces", "pixels-pca8")


def test_evaluate_writes_figures_and_the_guard_s_verdict(run, files):
    code, out, err = run("evaluate", "digits", "--plan", "a.json", "--n", 16, "--metrics", "fd,sw", *PIXELS,
                         "--reference", "data.npz", "--against", "b.json", "--save-reference", "r.npz")  # fmt: skip
    assert code == 0, err
    assert "gain" in out
    found = json.loads((files / "evaluation.json").read_text())
    assert [(f["name"], f["settings"]["n"]) for f in found["figures"]] == [("fd", 16), ("sw", 16)]
    assert found["differences"][0]["n"] == 16
    assert [one["name"] for one in found["beside"]["figures"]] == ["fd", "sw"]
    assert out.count(found["beside"]["verdict"][:40]) == 1, "one verdict"
    assert all(f"{one['rival']:.4g}" in out for one in found["beside"]["figures"]), "the rival's column"
    assert found["figures"][0]["settings"]["reference"]["n"] == 60
    first = (files / "evaluation.json").read_text()
    code, out, err = run("evaluate", "digits", "--plan", "a.json", "--n", 16, "--metrics", "fd,sw", *PIXELS,
                         "--reference", "r.npz", "--against", "karras:rho=5", "--json", "--batch", 1)  # fmt: skip
    assert code == 0, err
    again = json.loads(out)
    assert_allclose(again["figures"][0]["value"], json.loads(first)["figures"][0]["value"], rtol=1e-9)


def test_evaluate_takes_pictures_that_exist(run, files):
    code, _, err = run("evaluate", "--images", "data.npz", "--reference", "data.npz", "--metrics", "fd,prdc", *PIXELS)
    assert code == 0, err
    found = json.loads((files / "evaluation.json").read_text())
    values = {f["name"]: f["value"] for f in found["figures"]}
    assert values["fd"] < 1e-9
    assert values["precision"] == values["recall"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("digits", "--plan", "a.json", "--reference", "large.npz", *PIXELS),
            "(1, 16, 16) and these are (1, 8, 8)|(3, 16, 16)",
        ),
        (("digits", "--plan", "a.json", "--reference", "colour.npz", *PIXELS), "(3, 8, 8) and these are (1, 8, 8)"),
        (("digits", "--plan", "a.json", *PIXELS), "has statistics of efficientnet-lite0 version 1"),
        (("digits", "--plan", "a.json", "--metrics", "is", *PIXELS), "needs the logits"),
        (("digits", "--plan", "a.json", "--metrics", "fids"), "did you mean"),
        (("digits", "--plan", "a.json", "--metrics", "paired"), "deterministic"),
        (("digits", "--plan", "a.json", "--reference", "broken"), "broken.png cannot be read"),
        (("digits", "--plan", "a.json", "--metrics", "sw", "--against", "b.json"), "ask for fd or kid"),
        (("digits", "--plan", "a.json", "--n", "0"), "n must be"),
        (("digits",), "give a model and its --plan, or existing --images"),
        (("--images", "data.npz", "--against", "b.json"), "need a model and a --plan"),
        (("--images", "data.npz", *PIXELS), "pass --reference"),
        (("digits", "--plan", "nowhere.json"), "cannot read nowhere.json"),
        (("digits", "--plan", "a.json", "--out", "no/e.json"), "no folder no"),
        (("digits", "--plan", "a.json", "--save-reference", "r.json"), "must be an .npz file"),
        (("digits", "--plan", "a.json", "--run", "a.json"), "is a file"),
    ],
)
def test_evaluate_refuses_bad_input_in_one_sentence(run, files, arguments, words):
    (files / "broken").mkdir()
    for name in ("broken", "second"):
        (files / "broken" / f"{name}.png").write_bytes(b"no image")
    before = sorted(files.rglob("*"))
    code, _, err = run("evaluate", *arguments)
    assert code == 2, err
    assert any(word in err for word in words.split("|")), err
    assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1
    assert sorted(files.rglob("*")) == before, "nothing half-written"


def test_bench_writes_a_leaderboard_and_goes_on(run, files):
    arguments = ("bench", "digits", "--families", "karras:rho=5,log-uniform", "--solvers", "euler", "--calls", 3, 5, "--n", 16,
                 "--metrics", "fd,sw", *PIXELS, "--reference", "data.npz", "--plans", "a.json", "--out", "lb.json")  # fmt: skip
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "3 calls: " in out
    assert "5 calls: " in out
    first = json.loads((files / "lb.json").read_text())
    assert [row["budget"] for row in first["rows"]] == [3, 3, 3, 5, 5]
    assert {row["name"] for row in first["rows"]} == {"karras rho=5", "log-uniform", "a"}
    assert (files / "lb.html").read_text().startswith("<!doctype html>")
    assert "3 calls, paired error: " in out
    assert "No paired error (a in 3 calls): ancestral adds noise, so no sample has one converged solution." in out
    for row in first["rows"]:
        assert (row["paired"] is None) is (row["name"] == "a")
        assert row["paired"] is None or row["paired"]["settings"]["seeds"] == {"seed": 0, "indices": [0, 16]}
    assert any(f"{row['paired']['value']:.3g} ± " in out for row in first["rows"] if row["paired"])
    shown = (files / "lb.html").read_text()
    last = out.splitlines()[-2]
    assert last.startswith("Best: "), "one sentence at the end"
    assert last.removesuffix(".") in unescape(shown)
    assert "paired error, whitened" in shown
    assert "-: no paired error; ancestral adds noise" in shown
    assert all(f"{row['paired']['value']:.4g}" in shown for row in first["rows"] if row["paired"])
    code, out, _ = run(*arguments, "--json")
    assert json.loads(out) == first, "measured once, read again"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--families", "karas"), "did you mean"),
        (("--families", "karras:rho"), "name=number"),
        (("--families", ""), "nothing to compare"),
        (("--solvers", "heun", "--calls", "0"), "at least 1 network call"),
        (("--out", "lb.html"), "must be a .json file"),
        (("--metrics", "paired"), "no metric"),
        (("--paired", "2"), "of 4 to 256 noises, or of 0 for none"),
    ],
)
def test_bench_refuses_bad_input_in_one_sentence(run, files, arguments, words):
    before = sorted(files.rglob("*"))
    code, _, err = run("bench", "digits", "--n", 20, *arguments)
    assert code == 2, err
    assert words in err
    assert sorted(files.rglob("*")) == before


def test_shards_are_of_a_size_that_a_kill_may_cost():
    assert SHARD <= 512
