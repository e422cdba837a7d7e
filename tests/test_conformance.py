"""The conformance suite: the published cases are those of the code, our own paths pass, and programs that err do not."""

from __future__ import annotations

import itertools
import json
import sys

import numpy as np
import pytest
import torch

from sigmatune import SigmaTuneError
from sigmatune.interop import conformance
from sigmatune.interop.conformance import STEPS, check, judge, plan_of
from sigmatune.interop.runners import RUNNERS, runner_of
from sigmatune.solvers import POSITION
from test_documents import ROOT

FILE = ROOT / "conformance" / "vectors.jsonl"
CASES = conformance.read(FILE)
PATHS = ("vp", "flow", "vp-zero-snr", "edm")


def test_the_published_cases_are_those_of_the_code():
    made = conformance.cases()
    assert [c["name"] for c in made] == [c["name"] for c in CASES]
    for new, old in zip(made, CASES, strict=True):
        np.testing.assert_allclose(
            np.array(new["plan"]["sigmas"], dtype=float), np.array(old["plan"]["sigmas"], dtype=float), rtol=1e-12
        )
        assert judge(old, new["expected"]).passed
        assert np.array(new["expected"]["end"]) == pytest.approx(old["expected"]["end"], rel=1e-9, abs=1e-9)


def test_every_solver_is_there_at_every_number_of_steps():
    names = {c["name"] for c in CASES}
    for solver in (*POSITION, "coefficients"):
        for steps in STEPS:
            assert any(name.startswith(f"{solver}-{steps}-") for name in names)
        ends = {path for name in names for path in PATHS if name in {f"{solver}-{steps}-{path}" for steps in STEPS}}
        assert ends == set(PATHS), solver
    kinds = {c["plan"]["noise_path"]["kind"] for c in CASES}
    assert kinds == {"vp", "ve", "flow"}
    assert any(c["noise"] for c in CASES)


@pytest.mark.parametrize("name", list(RUNNERS))
def test_our_own_paths_pass(name):
    whole = name in ("core", "diffusers")  # the others share their loop; 20 steps of it show what 8 do
    verdicts = check(RUNNERS[name], [case for case in CASES if whole or "-20-" not in case["name"]])
    failed = [v for v in verdicts if not v.passed and not v.refused]
    if (
        name == "comfyui-list"
    ):  # ComfyUI rounds t, and starts from more noise at the largest sigma; the pack does neither
        assert {v.name.rsplit("-", 1)[1] for v in failed} == {"vp"}
        assert {v.reason[:14] for v in failed} == {"call 1 receive", "the end is off"}
        return
    assert not failed
    passed = {v.name.rsplit("-", 1)[0].split("-")[0] for v in verdicts if v.passed}
    if whole:
        assert all(v.passed for v in verdicts)
    if name in ("k-sampler", "comfyui"):  # all but plans that start from sigma = inf on a VP path
        assert {v.name.endswith("zero-snr") for v in verdicts if v.refused} == {True}
    if name == "k-diffusion":
        assert {"euler", "heun", "dpmpp2m", "ancestral", "sde"} <= passed


def wrong(change):
    """A runner that is right but for one thing."""

    def runner(case):
        given = json.loads(json.dumps(RUNNERS["core"](case)))
        change(given)
        return given

    return runner


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: a["calls"].pop(), "network calls instead of"),
        (lambda a: a["calls"].append(a["calls"][-1]), "network calls instead of"),
        (lambda a: a["calls"].__setitem__(-1, [round(a["calls"][-1][0]) + 0.5, a["calls"][-1][1]]), "receives"),
        (
            lambda a: a["calls"].__setitem__(0, [a["calls"][0][0], 0.999 * min(float(a["calls"][0][1]), 1e3)]),
            "receives",
        ),
        (lambda a: a["end"].__setitem__(0, a["end"][0] + 1e-2), "the end is off"),
        (lambda a: a["end"].pop(), "the end is off"),
        (lambda a: a.pop("end"), "cannot be read"),
        (lambda a: a["end"].__setitem__(0, float("nan")), "the end is off"),
    ],
)
def test_programs_that_err_fail(change, reason):
    verdicts = check(wrong(change), CASES[::10])
    assert not any(v.passed or v.refused for v in verdicts)
    assert all(reason in v.reason for v in verdicts)


def test_rounded_timesteps_fail():
    """What diffusers' own schedulers do to a plan."""

    def rounded(case):
        given = json.loads(json.dumps(RUNNERS["core"](case)))
        given["calls"] = [[float(round(t)), sigma] for t, sigma in given["calls"]]
        return given

    verdicts = check(rounded, [c for c in CASES if c["name"] == "coefficients-8-vp"])
    assert "receives (t, sigma)" in verdicts[0].reason


def test_a_program_that_raises_fails_and_one_that_refuses_is_told_apart():
    def broken(case):
        raise ZeroDivisionError("x")

    assert [(v.passed, v.refused, v.reason) for v in check(broken, CASES[:1])] == [
        (False, False, "ZeroDivisionError: x")
    ]
    assert check(lambda case: {"refused": "no"}, CASES[:1])[0].refused


def as_a_function(case):
    """module:function, the way another implementation in Python is tested."""
    assert "expected" not in case
    return RUNNERS["core"](case)


SCRIPT = """
import json, sys
case = json.loads(sys.stdin.readline())
x = [1.0 * 0 for _ in case["start"]]
print(json.dumps({"refused": "nothing runs here"} if len(case["plan"]["sigmas"]) > 3 else {"calls": [], "end": x}))
"""


def test_the_command_runs_functions_and_other_programs(run, tmp_path, monkeypatch):
    few = tmp_path / "few.jsonl"
    few.write_text(conformance.dumps(CASES[:3]))
    code, out, _ = run("conformance", "core", "--vectors", few)
    assert (code, out) == (0, "3 passed, 0 failed, 0 refused, of 3\n")
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    assert run("conformance", "test_conformance:as_a_function", "--vectors", few)[0] == 0
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    code, out, _ = run("conformance", f"{sys.executable} {script}", "--vectors", few)
    assert code == 1
    assert "0 passed, 2 failed, 1 refused, of 3" in out
    assert "nothing runs here" in out
    code, out, _ = run("conformance", f"{sys.executable} {script}", "--vectors", few, "--json")
    assert code == 1
    assert [v["refused"] for v in json.loads(out)] == [False, False, True]
    for wrong_name in ("nothing-of-this-name", "json:nothing"):
        assert run("conformance", wrong_name)[0] == 2
    (tmp_path / "bad.jsonl").write_text("{}\n")
    assert run("conformance", "core", "--vectors", "bad.jsonl")[0] == 2
    assert run("conformance", "core", "--write", tmp_path)[0] == 0
    assert (tmp_path / "vectors.jsonl").read_text().count("\n") == len(CASES) + 1


def test_runners_are_found_by_name():
    assert runner_of("comfyui") is RUNNERS["comfyui"]
    with pytest.raises(SigmaTuneError, match="neither one of ours"):
        runner_of("no such program")


def test_a_case_needs_no_network():
    """What another implementation has to compute is the one line of the module's docstring."""
    case = next(c for c in CASES if c["name"].startswith("euler-5"))
    plan, P = plan_of(case), np.array(case["variance"])
    sigmas = plan.schedule.sigmas
    assert np.isfinite(sigmas).all()
    x = sigmas[0] * np.array(case["start"])
    for t, s in itertools.pairwise(sigmas):
        D = P / (P + t**2) * x
        x = x + (x - D) / t * (s - t)
    assert x == pytest.approx(case["expected"]["end"], rel=1e-9)
    assert torch.is_tensor(plan.coefficients.q)


def test_the_readmes_runner_passes_every_case(tmp_path):
    """What an outsider writes from conformance/README.md alone, without SigmaTune."""
    code = (ROOT / "conformance" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 30
    assert "sigmatune" not in code

    def runner(case):
        said = []
        names = {"input": lambda: json.dumps(case), "print": said.append}
        exec(code, names)
        return json.loads(said[0])

    assert [v for v in check(runner, CASES) if not v.passed] == []


def test_a_file_of_version_1_has_no_tables_and_is_read(tmp_path):
    old = [{key: value for key, value in case.items() if key != "table"} for case in CASES[:3]]
    text = conformance.dumps(old).replace('"version": 2', '"version": 1')
    (tmp_path / "old.jsonl").write_text(text)
    assert all(v.passed for v in check(RUNNERS["core"], conformance.read(tmp_path / "old.jsonl")))


def test_the_help_shows_the_answer(run):
    out = run("conformance", "--help")[1]
    assert '{"calls": [[t, sigma], ...]' in " ".join(out.split())
