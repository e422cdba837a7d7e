"""Plan files: bit-exact, atomic, strict, published."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exact import PATHS, gaussian
from sigmatune import plan_file
from sigmatune.errors import PlanMismatch, SigmaTuneError
from sigmatune.plan import Plan, sample
from sigmatune.schedule import Schedule
from sigmatune.schedules import build
from sigmatune.solvers import POSITION, compile_plan, load_plan


def made(solver: str = "dpmpp2m", path: str = "vp") -> Plan:
    model = gaussian(PATHS[path])
    return compile_plan(build("kl-optimal", 5, model.path), solver, model).with_notes(
        tuned_for={"calls": 5}, evidence={"gain": True, "statistic": -0.1}, cost={"seconds": 1.5}
    )


def same(a: Plan, b: Plan) -> bool:
    names = ("q", "A", "b", "c", "start", "origin", "G")
    tables = all(torch.equal(getattr(a.coefficients, n), getattr(b.coefficients, n)) for n in names)
    notes = ("solver", "path", "fingerprint", "tuned_for", "evidence", "cost")
    return a.schedule == b.schedule and tables and all(getattr(a, n) == getattr(b, n) for n in notes)


@pytest.mark.parametrize("solver", POSITION)
@pytest.mark.parametrize("path", PATHS)
def test_a_file_loads_back_bit_for_bit_and_runs_the_same(tmp_path, solver, path):
    plan = made(solver, path)
    plan.save(tmp_path / "plan.json")
    back = load_plan(tmp_path / "plan.json")
    assert same(plan, back)
    model = gaussian(PATHS[path])
    assert torch.equal(sample(model, back, 2), sample(model, plan, 2))
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


levels = st.lists(st.floats(1e-6, 1e6, allow_subnormal=False), min_size=1, max_size=20, unique=True)


@settings(deadline=None)
@given(levels, st.booleans())
def test_any_levels_survive_bit_for_bit(values, infinite):
    sigmas = [*([np.inf] if infinite else []), *sorted(values, reverse=True), 0.0]
    plan = compile_plan(Schedule(sigmas), "euler")
    back = plan_file.loads(
        plan_file.dumps(plan), lambda schedule, name, options: compile_plan(schedule, name, **options).coefficients
    )
    assert back.schedule.sigmas.tobytes() == np.array(sigmas).tobytes()


def test_schedules_made_from_others_survive(tmp_path):
    model = gaussian(PATHS["flow"])
    whole = build("kl-optimal", 6, model.path)
    for i, made_from in enumerate(
        (whole.partial(np.inf), whole.partial(2.0), whole.partial(2.0, 3), whole.resample(4))
    ):
        compile_plan(made_from, "euler", model).save(tmp_path / f"{i}.json")
        assert load_plan(tmp_path / f"{i}.json").schedule == made_from


def test_a_table_belongs_to_custom_coefficients_alone():
    plan = compile_plan(Schedule([3.0, 1.0, 0.0]), "heun")
    text = plan_file.dumps(Plan(plan.schedule, "custom", plan.coefficients))
    build_named = lambda schedule, name, options: compile_plan(schedule, name, **options).coefficients  # noqa: E731
    assert plan_file.loads(text, build_named).solver == "custom"
    fields = json.loads(text)
    with pytest.raises(SigmaTuneError, match="table of coefficients"):
        plan_file.loads(json.dumps({**fields, "solver": "heun"}), build_named)
    fields["table"]["b"] = fields["table"]["b"][0]
    with pytest.raises(SigmaTuneError, match=r"not a valid plan|have shape"):
        plan_file.loads(json.dumps(fields), build_named)


def test_the_micro_batch_travels_with_the_plan(tmp_path):
    sizes = []
    model = gaussian(PATHS["vp"])
    made().with_notes(micro_batch=5).save(tmp_path / "plan.json")
    inner = model.denoise
    model.denoise = lambda z, sigma: (sizes.append(len(z)), inner(z, sigma))[1]
    sample(model, load_plan(tmp_path / "plan.json"), 7)
    assert set(sizes) == {5}


def test_rows_survive(tmp_path):
    plan = compile_plan(Schedule([[5.0, 1.0, 0.0], [4.0, 2.0, 0.0]]), "heun")
    plan.save(tmp_path / "plan.json")
    assert same(load_plan(tmp_path / "plan.json"), plan)


def test_coefficients_that_no_formula_gives_travel_in_the_file(tmp_path):
    plan = compile_plan(Schedule([np.inf, 1.0, 0.0]), "heun")
    table = plan.coefficients
    odd = Plan(plan.schedule, "custom", replace(table, A=1.01 * table.A, b=0.9 * table.b, c=1.1 * table.c))
    odd.save(tmp_path / "plan.json")
    assert same(load_plan(tmp_path / "plan.json"), odd)


def test_the_file_states_the_pairs_that_the_network_receives():
    plan = made("heun")
    fields = json.loads(plan_file.dumps(plan))
    assert fields["calls"] == 9
    assert fields["steps"] == 5
    np.testing.assert_array_equal(fields["network_sigmas"], plan.coefficients.q.numpy())
    np.testing.assert_array_equal(fields["network_times"], PATHS["vp"].time(plan.coefficients.q.numpy()))


def test_the_published_schema_is_the_one_that_files_follow():
    published = json.loads(resources.files("sigmatune").joinpath("plan.schema.json").read_text())
    assert published == plan_file.schema(), "run `python tools/write_schema.py`"
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads(plan_file.dumps(made("heun", "flow"))), published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"format": "sigmatune/plan", "version": 2}, published)


def edited(**changes):
    fields = json.loads(plan_file.dumps(made()))
    for name, value in changes.items():
        if value is None:
            fields.pop(name)
        else:
            fields[name] = value
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "not a valid plan file"),
        ('{"format": "other"}', "not a valid plan file"),
        (edited(version=2), "version 2, but only version 1 is known"),
        (edited(version=None), "version None"),
        (edited(sigmas=None), "sigmas is missing; add it"),
        (edited(sigmaz=[1.0]), "sigmaz: there is no such key; did you mean sigmas"),
        (edited(sigmas=[3.0, "a lot", 0.0]), "sigmas"),
        (edited(sigmas=[1.0, 2.0, 0.0]), "followed by the larger 2"),
        (edited(sigmas=[2.0, 2.0, 0.0]), "appears twice"),
        (edited(sigmas=[2.0, 1.0]), "ends in an explicit 0"),
        (edited(sigmas=[2.0, -1.0, 0.0]), r"sigmas\.1 must be a number of at least 0, not -1\.0"),
        (edited(sigmas=[[2.0, 1.0, 0.0], [2.0, 0.0]]), "one list per row"),
        (edited(solver="dpmpp2"), "no solver 'dpmpp2'; did you mean 'dpmpp2m'"),
        (edited(calls=6), "states 5 steps and 6 calls"),
        (edited(network_sigmas=[1.0, 2.0, 3.0, 4.0, 5.0]), "network_sigmas contradict"),
        (edited(network_times=[1.0, 2.0, 3.0, 4.0, 5.0]), "network_times contradict"),
        (edited(noise_path={"kind": "vq"}), "no noise path of kind 'vq'"),
        (edited(noise_path={"kind": "vp", "alphas_cumprod": ["a"]}), "not a valid plan"),
        (edited(noise_path={"kind": "ve", "sigma_min": 1.0, "sigma_max": 2.0, "clock": "sigma"}), "outside the model"),
        (edited(network_times=[1.0]), "network_times contradict"),
        (edited(network_sigmas=[[1.0], [2.0, 3.0]]), "not a valid plan"),
        (edited(version=True), "version True"),
        (edited(version=1.0), "version 1.0"),
        (edited(steps="5"), "steps"),
        (edited(calls=5.5), "calls"),
        (edited(solver="custom"), "table of coefficients"),
        ('{"format": "sigmatune/plan", "version": ' + "1" * 5000 + "}", "thousands of digits"),
        ("[" * 100_000, "deeper than 64"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_sentence(tmp_path, text, message):
    file = tmp_path / "plan.json"
    file.write_text(text)
    with pytest.raises(SigmaTuneError, match=message) as caught:
        load_plan(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(SigmaTuneError, match="cannot read"):
        load_plan(tmp_path / "none.json")
    with pytest.raises(SigmaTuneError, match="cannot read"):
        load_plan(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SigmaTuneError, match="not text"):
        load_plan(tmp_path / "binary")


def test_another_solver_than_the_tuned_one_warns(tmp_path):
    made("dpmpp2m").save(tmp_path / "plan.json")
    with pytest.warns(PlanMismatch, match="tuned for the solver dpmpp2m, not euler"):
        plan = load_plan(tmp_path / "plan.json", solver="euler")
    assert plan.solver == "euler"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "plan.json"
    made().save(file)
    before = file.read_bytes()

    def broken(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(SigmaTuneError, match="No space left"):
        made("heun").save(file)
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]
    monkeypatch.undo()
    with pytest.raises(SigmaTuneError, match="cannot write"):
        made().save(Path(tmp_path / "no" / "folder" / "plan.json"))


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("ancestral", {"eta": 0.3}),
        ("multistep", {}),
        ("multistep", {"weights": [[1.0, 0.0], [1.5, -0.5], [1.2, -0.2]], "of": "noise"}),
        ("multistep", {"weights": torch.tensor([[1.0, 0.0], [1.5, -0.5], [1.2, -0.2]], dtype=torch.float64)}),
    ],
)
def test_a_solvers_options_come_back(solver, options, tmp_path):
    plan = compile_plan(Schedule([5.0, 1.0, 0.2, 0.0]), solver, **options)
    plan.save(tmp_path / "plan.json")
    back = load_plan(tmp_path / "plan.json")
    for name in ("q", "A", "b", "c", "start", "origin", "G"):
        assert torch.equal(getattr(back.coefficients, name), getattr(plan.coefficients, name))
    with pytest.warns(PlanMismatch):  # another solver has other options
        assert load_plan(tmp_path / "plan.json", solver="dpmpp2m").solver_options == {}


@pytest.mark.parametrize("weights", [[[1.0, 0.5], [1.0, 0.0]], "abc", [[1.0]], [[1.0], [float("nan")]]])
def test_weights_that_make_no_method_are_refused(weights):
    with pytest.raises(SigmaTuneError, match="weights"):
        compile_plan(Schedule([5.0, 1.0, 0.0]), "multistep", weights=weights)
