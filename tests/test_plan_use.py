"""A plan remembers what it was tuned for: it says so, loads its model again, and warns of another use."""

from __future__ import annotations

import copy
import json
import pickle
import warnings

import numpy as np
import pytest

import sigmatune as st
from sigmatune import PlanMismatch, SigmaTuneError
from sigmatune.interop import exports
from sigmatune.models.prediction_fields import record_of, recorded
from sigmatune.models.predictions import edm, predictions
from sigmatune.models.scheduler_config import read_process
from sigmatune.noise import VE
from sigmatune.plan import purpose
from sigmatune.plan.file import dumps, loads
from sigmatune.plan.tuned_for import tuned_for
from test_single_file import files  # noqa: F401 - a fixture
from tiny_pipelines import FAMILIES

WORDS = ["a cat", "a dog", "a bird"]


def tuned(pipe, **options):
    """A plan of four steps with the record of a tuning; what the tuner does besides is not what is tested."""
    model = st.load(pipe, prompts=WORDS, **{"guidance": 7.5, **options})
    plan = st.compile_plan(st.build_schedule("karras", 4, model.path), "dpmpp2m", model)
    return model, plan.with_notes(tuned_for=tuned_for(model, solver="dpmpp2m", calls=8, steps=4))


def mismatches(call):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in said if issubclass(one.category, PlanMismatch)]


def test_a_plan_says_what_to_set_what_it_costs_and_what_it_is_for():
    _, plan = tuned(FAMILIES["sd15"].pipe())
    said = loads(dumps(plan)).describe().splitlines()
    assert said[0] == "Plan: dpmpp2m, 4 steps, 4 calls"
    assert "  in a pipeline: 4 steps, 8 network evaluations per image under guidance 7.5" in said
    assert "  tuned for: 8 network evaluations per image, dpmpp2m, guidance 7.5, samples of 4 x 8 x 8" in said
    assert "  conditions: 3 prompts: 'a cat', 'a dog', 'a bird'" in said
    assert "  noise path: vp, predicts epsilon" in said
    assert len(repr(plan).splitlines()) == 3


def test_a_function_is_described_in_short():
    """Its fingerprint holds its outputs on a probe."""
    model = st.load(lambda x, sigma: 0.9 * x, shape=(3, 8, 8))
    plan = st.compile_plan(st.build_schedule("karras", 4, model.path), "euler", model)
    assert len(plan.fingerprint) > 200
    assert max(map(len, plan.describe().splitlines())) < 120


def test_evaluations_are_counted_where_guidance_is_on():
    q = np.array([[10.0, 2.0, 0.5], [10.0, 0.5, 0.2]])
    record = {"guidance": {"scale": 3.0, "interval": [0.5, 5.0]}}
    assert purpose.evaluations(q, record) == 4  # the more expensive row: at 2 alone, as the interval is open at 0.5
    assert purpose.evaluations(q, {"guidance": None}) == purpose.evaluations(q, None) == 3
    assert purpose.evaluations(q, {"guidance": {"scale": 1.0, "interval": [0.0, "inf"]}}) == 3


def test_the_model_of_a_plan_is_loaded_from_the_plan_alone():
    pipe = FAMILIES["sd15"].pipe()
    model, plan = tuned(pipe, negative_prompt="blur", interval=(0.5, 5.0))
    plan = loads(dumps(plan))
    again = st.load(pipe, **plan.load_options)
    assert again.conditions() == model.conditions()
    assert again.fingerprint() == model.fingerprint()
    assert plan.load_options["interval"] == (0.5, 5.0)


def test_images_among_the_options_are_not_recorded():
    family = FAMILIES["sd-controlnet"]
    model = st.load(family.pipe(), **family.load)
    assert "image" not in model.loaded_with
    assert json.loads(json.dumps(model.loaded_with))["height"] == 16


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"guidance": 2.0}, "guidance 7.5, not guidance 2"),
        ({"guidance": 1.0}, "guidance 7.5, not no guidance"),
        ({"interval": (0.5, 5.0)}, "not guidance 7.5 between sigma 0.5 and 5"),
        ({"height": 32, "width": 32}, "samples of 4 x 8 x 8, not 4 x 16 x 16"),
    ],
)
def test_sampling_warns_of_another_guidance_or_size(options, reason):
    pipe = FAMILIES["sd15"].pipe()
    model, plan = tuned(pipe)
    assert mismatches(lambda: st.sample(model, plan, 1)) == []
    other = st.load(pipe, prompts=WORDS, **{"guidance": 7.5, **options})
    (said,) = mismatches(lambda: st.sample(other, plan, 1))
    assert reason in said


def test_a_pipeline_warns_of_another_guidance_or_size():
    pipe = FAMILIES["sd15"].pipe()
    _, plan = tuned(pipe)
    pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)

    def run(**options):
        return mismatches(lambda: pipe("a cat", num_inference_steps=4, output_type="latent", **options))

    assert run() == []
    for options, reason in (
        ({"guidance_scale": 2.0}, "for guidance 7.5, not guidance 2"),
        ({"guidance_scale": 1.0}, "for guidance 7.5, not no guidance"),
        ({"height": 32, "width": 32}, "for samples of 4 x 8 x 8, not 4 x 16 x 16"),
    ):
        (said,) = run(**options)
        assert reason in said
    for other in (copy.deepcopy(pipe.scheduler), pickle.loads(pickle.dumps(pipe.scheduler))):
        pipe.scheduler = other
        assert run() == []


def test_a_pipeline_that_is_asked_for_evaluations_names_both_numbers():
    pipe = FAMILIES["sd15"].pipe()
    _, plan = tuned(pipe)
    pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)
    for steps in (8, 5):  # 8 is twice 4, which pipelines with a strength may ask for
        with pytest.raises(
            SigmaTuneError, match=r"4 steps, 8 network evaluations.*guidance 7.5; pass num_inference_steps=4"
        ):
            pipe("a cat", num_inference_steps=steps, output_type="latent")


def test_sample_takes_prompts_and_guidance_from_the_plan(run, files, tmp_path):  # noqa: F811
    _, plan = tuned(files / "whole", guidance=3.0)
    plan.save(tmp_path / "plan.json")
    code, out, err = run("sample", files / "whole", "plan.json", "-n", 2, "-o", "grid.png")
    assert code == 0, err
    assert "as the plan was tuned: 3 prompts, guidance 3.0" in err
    assert "8 network calls each" in out
    with warnings.catch_warnings():
        warnings.simplefilter("always", PlanMismatch)
        code, _, err = run("sample", files / "whole", "plan.json", "-n", 2, "-o", "grid.png", "--guidance", 2)
    assert code == 0, err
    assert "as the plan was tuned: 3 prompts\n" in err
    assert "guidance 3, not guidance 2" in err
    assert run("check", "plan.json", "--model", files / "whole")[0] == 0
    assert "conditions: 3 prompts" in run("check", "plan.json")[1]


# -------------------------------------------------------------------------------------------------------- the prediction


@pytest.mark.parametrize("prediction", [*predictions.values(), edm(1.5, sign=-1)], ids=lambda one: one.name)
def test_a_prediction_is_recorded_and_read_back(prediction):
    assert recorded({"prediction": json.loads(json.dumps(record_of(prediction)))}).name == prediction.name
    assert recorded(None) is recorded({}) is None


@pytest.mark.parametrize("family", ["sd15", "sd2-v", "sd3"])
def test_an_export_to_diffusers_knows_the_prediction(family):
    model = st.load(FAMILIES[family].pipe(), **FAMILIES[family].load)
    plan = loads(dumps(st.compile_plan(st.build_schedule("uniform-trailing", 4, model.path), "euler", model)))
    config = json.loads(exports.export(plan, "diffusers"))
    # pipelines and other schedulers read diffusers' own name
    assert config["prediction_type"] == {"flow": "flow_prediction"}.get(model.prediction.name, model.prediction.name)
    assert read_process(config).prediction.name == model.prediction.name
    wrong = "epsilon" if model.prediction.name != "epsilon" else "v_prediction"
    with pytest.raises(SigmaTuneError, match=rf"predicts {model.prediction.name}, not {wrong}"):
        exports.export(plan, "diffusers", prediction=wrong)


def test_an_edm_plan_is_exported_with_its_sigma_data():
    plan = st.compile_plan(st.build_schedule("karras", 4, VE()), "euler").with_notes(
        path=VE(clock="quarter_log").spec()
    )
    with pytest.raises(SigmaTuneError, match="--prediction score or edm"):
        exports.export(plan, "diffusers")
    config = json.loads(exports.export(plan, "diffusers", prediction="edm"))
    assert (config["prediction_type"], config["sigma_data"], config["edm_sign"]) == ("epsilon", 0.5, 1)
    known = plan.with_notes(tuned_for={"prediction": record_of(edm(1.5, sign=-1))})
    config = json.loads(exports.export(known, "diffusers"))
    # diffusers' EDM schedulers tell the sign of c_out by the prediction type
    assert (config["prediction_type"], config["sigma_data"], config["edm_sign"]) == ("v_prediction", 1.5, -1)
    assert read_process(config).prediction.name == edm(1.5, sign=-1).name
    with pytest.raises(SigmaTuneError, match="ve does not predict epsilon; it is one of"):
        exports.export(plan, "diffusers", prediction="epsilon")


@pytest.mark.parametrize(
    "record",
    [
        {"guidance": 3, "load": [], "prediction": {}, "shape": "wide", "calls": "many", "measure": 1},
        {"guidance": {"scale": "a", "interval": [1]}, "load": {"interval": ["a", 1], "prompts": 3}, "shape": [1, None]},
        {"guidance": {"interval": None}, "load": {"prompts": [[]], "height": {}}, "calls": True, "prediction": []},
    ],
)
def test_a_strangers_record_breaks_no_description(record):
    plan = st.compile_plan(st.Schedule([1.0, 0.5, 0.0])).with_notes(tuned_for=record)
    for said in (repr(plan), plan.describe(), plan._repr_html_()):
        assert said
    assert isinstance(plan.load_options, dict)
    assert isinstance(purpose.differences(record, st.load(lambda x, _: x, shape=(2,))), list)


def test_a_pipeline_that_was_saved_is_the_same_model(tmp_path):
    """Its configuration has lists where that in memory has tuples."""
    pipe = FAMILIES["sd15"].build()
    pipe.save_pretrained(tmp_path / "saved")
    again = type(pipe).from_pretrained(tmp_path / "saved")
    assert any(isinstance(value, tuple) for value in pipe.unet.config.values())
    assert st.load(pipe, prompts=WORDS).fingerprint() == st.load(again, prompts=WORDS).fingerprint()
