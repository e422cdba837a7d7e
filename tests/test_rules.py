"""Rules: a schedule of its own for every sample, from (seed, index) alone, through a file and back."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from importlib import resources
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from exact import PATHS, gaussian
from sigmatune import load_plan, load_rule
from sigmatune.noise import VE, vp
from sigmatune.plan import Plan, compile_plan, sample
from sigmatune.rules import Control, SpectralRule, rule_document, rule_file
from sigmatune.rules.rule_file import load_any
from sigmatune.schedules import build
from sigmatune.solvers import POSITION
from sigmatune.spectra.mixture import Mixture
from sigmatune.spectra.mixture_fit import fit
from sigmatune.support.errors import PlanMismatch, SigmaTuneError
from test_spectra_mixture import images


@pytest.fixture(scope="module")
def spectra() -> Mixture:
    return fit(images(60, centres=[(1.0, 1.0), (4.0, 3.0)]), ["flat", "steep"] * 30)


def ruled(spectra: Mixture, path: str = "vp", **rest) -> SpectralRule:
    return SpectralRule.of(gaussian(PATHS[path]), "spectral-mixed", rest.pop("steps", 5), spectra, **rest)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("solver", POSITION)
def test_equal_spectra_in_all_rows_give_the_shared_plans_images_bit_for_bit(spectra, solver, path):
    model = gaussian(PATHS[path])
    rule = ruled(spectra, path, solver=solver, control=Control(mean=True), micro_batch=4)
    schedule = build("spectral-mixed", 5, model.path, spectrum=spectra.mean())
    shared = compile_plan(schedule, solver, model)
    assert_array_equal(rule.schedule(3, range(11)).sigmas, np.tile(schedule.sigmas, (11, 1)))
    assert torch.equal(sample(model, rule, 11, seed=3), sample(model, shared, 11, seed=3, micro_batch=4))


def test_classes_are_drawn_as_often_as_they_have_images(spectra):
    parts = list(spectra.classes.values())
    counts = {"flat": 30, "steep": 90, "rare": 6}
    uneven = replace(spectra, classes={name: replace(parts[0], images=count) for name, count in counts.items()})
    drawn = ruled(uneven, control=Control(by_class=True)).labels(0, range(4000))
    for name, count in counts.items():
        share = count / 126
        assert abs(drawn.count(name) / 4000 - share) < 4 * np.sqrt(share * (1 - share) / 4000), name


@pytest.mark.parametrize("solver", POSITION)
@pytest.mark.parametrize("family", ["spectral-frequency", "spectral-power", "spectral-mixed"])
def test_row_i_does_not_depend_on_the_batch(spectra, family, solver):
    model = gaussian(PATHS["vp"])
    rule = SpectralRule.of(model, family, 6, spectra, solver=solver, micro_batch=8)
    many = sample(model, rule, 21, seed=5)
    assert torch.equal(sample(model, rule, 3, seed=5), many[:3])
    for i in (0, 9, 20):
        assert torch.equal(sample(model, rule, indices=[i], seed=5)[0], many[i])
    assert torch.equal(sample(model, rule, indices=[20, 4, 4], seed=5), many[[20, 4, 4]])
    sigmas = rule.schedule(5, range(21)).sigmas
    assert len(np.unique(sigmas[:, 1])) == 21
    assert_array_equal(rule.schedule(5, [13]).sigmas[0], sigmas[13])
    assert not (rule.schedule(6, range(21)).sigmas == sigmas)[:, :-1].all(axis=1).any()


def test_each_row_has_the_schedule_of_its_own_spectrum(spectra):
    rule = ruled(spectra, options={"kappa_max": 30.0})
    power, made = rule.power(2, range(9)), rule.schedule(2, range(9))
    assert_array_equal(power, spectra.draw(2, range(9)))
    for row, one in zip(made.sigmas, power, strict=True):
        assert_array_equal(row, build("spectral-mixed", 5, vp(), spectrum=one, kappa_max=30.0).sigmas)
    assert json.loads(json.dumps(made.options)) == made.options
    assert made.options["spectrum"] == {"seed": 2, "indices": list(range(9))}


@pytest.mark.parametrize("path", PATHS)
def test_a_rule_on_any_path_ends_where_it_is_told(spectra, path):
    rule = ruled(spectra, path, options={"sigma_max": 20.0, "sigma_min": 0.1})
    sigmas = rule.schedule(0, range(5)).sigmas
    assert (set(sigmas[:, 0]), set(sigmas[:, -2])) == ({20.0}, {0.1})


def test_controls_steer_the_spectra(spectra):
    rule, k = ruled(spectra), np.maximum(np.arange(9.0), 1)
    plain = rule.power(1, range(7))
    assert_allclose(rule.edited(texture=0.5).power(1, range(7)), plain * k**0.5)
    assert_allclose(rule.edited(amplitude=3.0).power(1, range(7)), plain * 3)
    assert_array_equal(rule.edited(label="steep").power(1, range(7)), spectra.draw(1, range(7), "steep"))
    assert_array_equal(rule.edited(mean=True, label="flat").power(1, [4])[0], spectra.mean("flat"))
    both = rule.edited(texture=0.5).edited(amplitude=2.0)
    assert both.control == Control(texture=0.5, amplitude=2.0)
    # More texture is visible at more noise: the last level moves up, by k_max^(1/4) in sigma.
    last = [r.schedule(1, range(7)).sigmas[:, -2] for r in (rule.edited(texture=0.5), rule)]
    assert_allclose(last[0] / last[1], 8**0.25)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("solver", ["dpmpp2m", "ancestral", "unipc2"])
def test_a_file_samples_the_same_images(tmp_path, spectra, path, solver):
    model = gaussian(PATHS[path])
    control = Control(label="steep", texture=0.3, amplitude=1.7)
    options = {"eta": 0.4} if solver == "ancestral" else {}
    rule = ruled(spectra, path, solver=solver, control=control, solver_options=options, micro_batch=3,
                 options={"kappa_min": 0.05})  # fmt: skip
    rule.save(tmp_path / "rule.json")
    back = load_rule(tmp_path / "rule.json")
    assert torch.equal(sample(model, back, 7, seed=4), sample(model, rule, 7, seed=4))
    assert (back.control, back.options, back.solver_options) == (rule.control, rule.options, rule.solver_options)
    assert (back.fingerprint, back.micro_batch, back.steps) == (model.fingerprint(), 3, 5)
    plan = back.plan(4, range(7))
    assert (plan.micro_batch, plan.fingerprint, plan.path) == (3, model.fingerprint(), model.path.spec())
    assert rule_file.dumps(back) == rule_file.dumps(rule)
    assert [file.name for file in tmp_path.iterdir()] == ["rule.json"]
    assert isinstance(load_any(tmp_path / "rule.json"), SpectralRule)
    compile_plan(build("karras", 4, vp()), "euler").save(tmp_path / "plan.json")
    assert isinstance(load_any(tmp_path / "plan.json"), Plan)


def test_the_file_states_what_defaults_were(tmp_path, spectra):
    """A default that changes later does not change what a file means."""
    fields = json.loads(rule_file.dumps(ruled(spectra)))
    assert fields["options"] == {"kappa_min": 0.01, "kappa_max": 20.0, "widen": 1.0}


def test_the_published_schema_is_the_one_that_files_follow(spectra):
    published = json.loads(resources.files("sigmatune.rules").joinpath("rule.schema.json").read_text())
    assert published == rule_document.schema(), "run `python tools/write_schema.py`"
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads(rule_file.dumps(ruled(spectra))), published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"format": "sigmatune/rule", "version": 2}, published)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "a rule of version 2, but only version 1 is known"),
        ({"version": True}, "version True"),
        ({"format": "sigmatune/plan"}, "not a valid rule file"),
        ({"family": "spectral-mxied"}, "did you mean 'spectral-mixed'"),
        ({"family": "karras"}, "needs a family that reads a spectrum"),
        ({"solver": "eular"}, "did you mean 'euler'"),
        ({"solver_options": {"eta": 1.0}}, "eta"),
        ({"steps": 0}, "steps"),
        ({"steps": "5"}, "steps"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"surprise": 1}, "surprise: there is no such key"),
        ({"options": {"kappa": 1}}, "no spectral-mixed option 'kappa'"),
        ({"options": {"spectrum": [1.0, 2.0]}}, "option spectrum"),
        ({"options": {"sigma_max": 1e9}}, "outside the model's range"),
        ({"control": {"label": "step"}}, "no class 'step'; did you mean 'steep'"),
        ({"control": {"texture": "inf"}}, "texture"),
        ({"control": {"amplitude": -1.0}}, "amplitude"),
        ({"control": {"tilt": 1.0}}, "control.tilt"),
        ({"noise_path": {"kind": "vq"}}, "no noise path of kind 'vq'"),
        ({"spectra": {}}, "spectra.reduction is missing"),
        ({"spectra.centre": [0.0]}, "does not fit a centre"),
    ],
)
def test_what_is_no_rule_is_refused_in_one_sentence(tmp_path, spectra, change, says):
    fields = json.loads(rule_file.dumps(ruled(spectra)))
    for name, value in change.items():
        *outer, last = name.split(".")
        (fields[outer[0]] if outer else fields)[last] = value
    file = tmp_path / "rule.json"
    file.write_text(json.dumps(fields))
    with pytest.raises(SigmaTuneError, match=re.escape(says)) as caught:
        load_rule(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{", "[1]", "[" * 100_000, '{"format": "sigmatune/rule", "version": ' + "1" * 5000 + "}"]
)
def test_other_texts_are_no_rules(tmp_path, text):
    (tmp_path / "rule.json").write_text(text)
    for read in (load_rule, load_any):
        with pytest.raises(SigmaTuneError) as caught:
            read(tmp_path / "rule.json")
        assert "\n" not in str(caught.value)


def test_a_rule_is_no_plan_file(tmp_path, spectra):
    ruled(spectra).save(tmp_path / "rule.json")
    with pytest.raises(SigmaTuneError, match="and states 'sigmatune/rule'"):
        load_plan(tmp_path / "rule.json")
    for read in (load_rule, load_any):
        with pytest.raises(SigmaTuneError, match="cannot read"):
            read(tmp_path / "none.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, spectra, monkeypatch):
    file = tmp_path / "rule.json"
    ruled(spectra).save(file)
    before = file.read_bytes()

    def broken(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(SigmaTuneError, match="No space left"):
        ruled(spectra, steps=9).save(file)
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["rule.json"]


def test_another_model_warns(spectra):
    rule = ruled(spectra)
    with pytest.warns(PlanMismatch, match="made for another model"):
        sample(gaussian(vp(), size=16), rule, 1)


def test_a_model_that_does_not_know_the_levels_is_refused(spectra):
    with pytest.raises(SigmaTuneError, match="outside the model's range"):
        sample(gaussian(VE(0.5, 0.6)), ruled(spectra), 2)


def test_a_network_of_whole_timesteps_gets_its_own_levels_in_every_row(spectra):
    model = gaussian(vp())
    model.integer_time = True
    rule = SpectralRule.of(model, "spectral-mixed", 6, spectra)
    plan = rule.plan(0, range(8), model)
    t = model.path.time(plan.schedule.sigmas[:, :-1])
    assert_allclose(t, np.rint(t), atol=1e-6)
    assert sample(model, rule, 8).isfinite().all()


def test_what_makes_no_rule_is_refused(spectra):
    rule = ruled(spectra)
    for control, says in (
        ({"tilt": 1.0}, "controls label, mean, texture, amplitude, by_class, shuffled"),
        ({"texture": np.nan}, "texture must be a finite number"),
        ({"amplitude": 0.0}, "amplitude must be a positive number"),
        ({"label": "flta"}, "did you mean 'flat'"),
    ):
        with pytest.raises(SigmaTuneError, match=says):
            rule.edited(**control)
    with pytest.raises(SigmaTuneError, match="at least one index"):
        rule.schedule(0, [])
    with pytest.raises(SigmaTuneError, match="micro_batch"):
        ruled(spectra, micro_batch=0)
    with pytest.raises(SigmaTuneError, match="the seed of a noise"):
        rule.schedule(-1, [0])


def test_a_shuffled_row_has_the_spectrum_of_another_class_drawn_apart_from_its_own(spectra, monkeypatch):
    part, drawn = next(iter(spectra.classes.values())), []
    three = replace(spectra, classes=dict.fromkeys("abc", part))
    plain = Mixture.draw

    def noted(self, seed, indices, label=None):
        drawn.append(label)
        return plain(self, seed, indices, label)

    rule = ruled(three, control=Control(by_class=True, shuffled=True))
    labels = rule.labels(0, range(900))
    monkeypatch.setattr(Mixture, "draw", noted)
    rule.power(0, range(900))
    pairs = Counter(zip(labels, drawn, strict=True))
    assert set(pairs) == set(permutations("abc", 2)), "never its own, and each of the others"
    assert min(pairs.values()) > 100  # of 150 expected


def test_conditions_are_those_of_training_however_much_a_rule_widens_its_ends(spectra):
    ends = []

    class Told(type(gaussian())):
        def conditioned(self, indices, labels, told):
            ends.append(told)
            return self

    model = gaussian(PATHS["vp"])
    model.__class__ = Told
    for widen in (0.0, 2.0):
        ruled(spectra, options={"widen": widen}).together(3, range(5), model)
    assert_array_equal(ends[0], ends[1])
    made = ruled(spectra, options={"widen": 0.0}).schedule(3, range(5)).sigmas
    assert_allclose(ends[0], np.stack([made[:, -2], made[:, 0]], axis=1))
