"""What a first-time user of the command line reads: names, cures, and what is already there."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sigmatune.interop.clients import clients
from sigmatune.plan import Plan, load_plan
from sigmatune.solvers import SOLVERS
from sigmatune.support.progress import shown
from sigmatune.training.training_cost import TrainingCost
from sigmatune.tuning.stages import STAGES
from tiny_pipelines import dit, sd15

QUICK = [
    "--tuning",
    "8",
    "--validation",
    "8",
    "--held-out",
    "8",
    "--micro-batch",
    "8",
    "--method",
    "static",
    "--no-report",
]


def test_tune_lists_solvers_and_stages_without_a_model(run, tmp_path):
    code, out, err = run("tune", "--solver", "list")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert list(rows) == list(SOLVERS)
    for alias, name in SOLVERS.aliases.items():
        assert alias in rows[name]
    code, out, err = run("tune", "--method", "list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["auto", *STAGES]
    helped = " ".join(run("tune", "--help")[1].replace("\u2502", " ").split())
    assert "--solver list" in helped
    assert "--method list" in helped
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("tune", "digits", "--calls", 4), ("sample", "digits", "karras")])
def test_a_prompt_on_the_command_line_is_told_that_it_belongs_into_a_file(run, command):
    code, _, err = run(*command, "--prompts", "a red cat")
    assert code == 2
    assert err == "error: --prompts takes a text file with one prompt per line; there is no file 'a red cat'.\n"


@pytest.mark.parametrize(
    "command",
    [("schedule", "--family", "karras", "--steps", 4, "--plan"), ("import", "levels.txt", "--kind", "ve", "-o")],
)
def test_no_untuned_plan_takes_the_place_of_a_tuned_one(run, tmp_path, command):
    (tmp_path / "levels.txt").write_text("9, 1, 0.1, 0")
    for _ in range(2):  # the same command may run again
        code, _, err = run(*command, "plan.json")
        assert code == 0, err
    tuned = load_plan(tmp_path / "plan.json").with_notes(evidence={"verdict": "gain", "gain": True})
    tuned.save(tmp_path / "plan.json", force=True)
    before = (tmp_path / "plan.json").read_bytes()
    code, _, err = run(*command, "plan.json")
    assert code == 2
    assert "plan.json holds a tuned plan; write the untuned one to another file, or add --force." in err
    assert (tmp_path / "plan.json").read_bytes() == before
    assert run(*command, "plan.json", "--force")[0] == 0
    assert not load_plan(tmp_path / "plan.json").evidence


def test_tune_says_what_it_replaces_and_what_its_folder_holds(run, tmp_path, tiny, little):
    code, _, err = run("tune", tiny, "--calls", 3, "--solver", "ddim", *QUICK)
    assert code == 0
    assert "replaces" not in err
    code, out, err = run("tune", tiny, "--calls", 4, *QUICK, "--dry-run")
    assert code == 0, err
    assert "plan.json: replaces a plan of 3 calls by euler" in out
    results = sum(path.suffix == ".npy" for path in (tmp_path / "plan.run").iterdir())
    assert f"plan.run holds {results} earlier results" in out
    _, out, _ = run("tune", tiny, "--calls", 4, *QUICK, "-o", "other.json", "--dry-run")
    assert "replaces" not in out
    assert "holds" not in out
    assert load_plan("plan.json").calls == 3
    code, _, err = run("tune", tiny, "--calls", 4, *QUICK)
    assert code == 0
    assert "plan.json: replaces a plan of 3 calls by euler" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--calls", 11, "--guidance", 7], "of 11 calls 10 are used: 5 steps of dpmpp2m, two for each call under guidance"),
        (["--calls", 8, "--solver", "heun"], "of 8 calls 7 are used: 4 steps of heun"),
        (["--calls", 10, "--guidance", 7], ""),
    ],
)  # fmt: skip
def test_calls_that_whole_steps_leave_over_are_named(run, options, said):
    code, out, err = run("tune", "someone/sdxl", *options, "--dry-run", "--call-seconds", 0.1)
    assert code == 0, err
    assert said in out
    assert ("are used" in out) is bool(said)


@pytest.mark.parametrize(
    ("make", "options", "cure"),
    [(sd15, [], "needs prompts; pass --prompts FILE"), (dit, [], "needs labels; pass --labels")],
)  # fmt: skip
def test_a_missing_condition_names_the_option_of_the_command_line(run, tmp_path, make, options, cure):
    make().save_pretrained(tmp_path / "model")
    code, _, err = run("tune", "model", *options)
    assert code == 2
    assert cure in err


def test_images_and_unknown_names_are_sent_to_where_they_belong(run, tmp_path):
    for folder in ("empty", "images/disc"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "images" / "disc" / "0.png")
    assert "its images are for `sigmatune train --data`" in run("tune", "images")[2]
    assert "images are for" not in run("tune", "empty")[2]
    assert "hub id (owner/name) 'emojis'; did you mean 'emoji'?" in run("tune", "emojis")[2]


def test_a_run_folder_that_is_an_input_names_the_options_that_choose_it(run, tmp_path):
    (tmp_path / "shapes.run").mkdir()
    code, _, err = run("tune", "shapes.run", "-o", "shapes.json")
    assert code == 2
    assert "is an input of this command" in err
    assert "another -o" in err
    assert "--run" in err


def test_the_help_says_what_is_counted_and_which_class_is_which(run):
    said = {
        name: " ".join(run(name, "--help")[1].replace("\u2502", " ").split()) for name in ("train", "tune", "sample")
    }
    assert "steps = training.images / training.batch" in said["train"]
    for name in ("tune", "sample"):
        assert "0 is the first in alphabetical order" in said[name]


@pytest.mark.parametrize(("images", "few"), [(2, True), (64, False)])
def test_the_cost_of_a_training_says_what_data_it_has_read(images, few):
    cost = TrainingCost(10, 64, 0.1, 0, 1000, "cpu", images, (3, 16, 16))
    said = cost.lines()[-1]
    assert said.startswith(f"data: {images} images of 3 x 16 x 16")
    assert ("fewer than the 64 of a batch" in said) is few
    assert json.loads(json.dumps(cost.to_dict()))["images"] == images


def test_lines_of_progress_have_no_empty_stage(capsys, monkeypatch):
    monkeypatch.setattr("sigmatune.support.progress.FIRST", 0.0)
    with shown(True, "tuning", seconds=60) as report:
        report("", 1, 10)
    assert capsys.readouterr().err.rstrip().endswith("left")


def test_every_stage_has_a_name_when_a_run_finds_results(run, tiny, little, monkeypatch):
    monkeypatch.setattr("sigmatune.support.progress.FIRST", 0.0)
    monkeypatch.setattr("sigmatune.support.progress.EVERY", 0.0)
    for calls in (2, 3):  # the second begins with references that are there
        code, _, err = run("tune", tiny, "--calls", calls, "--solver", "euler", *QUICK)
        lines = [line for line in err.splitlines() if "% " in line or "%," in line]
        assert code == 0
        assert lines
        assert all(line.endswith(")") and "()" not in line for line in lines), lines


@pytest.mark.parametrize(
    ("tuned_for", "call"),
    [
        ({"guidance": None}, "pipe(num_inference_steps=1)"),
        ({"load": {"prompts": ["a"], "guidance": 7.0}}, "pipe(prompt, guidance_scale=7, num_inference_steps=1)"),
        ({"load": {"labels": [1]}, "guidance": {"scale": 1.5, "interval": [0.0, "inf"]}},
         "pipe(class_labels=labels, guidance_scale=1.5, num_inference_steps=1)"),
    ],
)  # fmt: skip
def test_the_call_of_a_pipeline_passes_what_the_plan_was_tuned_with(tuned_for, call):
    assert call in clients(plan_of(tuned_for))["diffusers"][1]


def plan_of(tuned_for: dict) -> Plan:
    from sigmatune.core.schedule import Schedule
    from sigmatune.plan import compile_plan

    return compile_plan(Schedule([10.0, 0.0]), "euler").with_notes(tuned_for=tuned_for)


@pytest.mark.parametrize(
    ("option", "value", "takes"),
    [
        ("--calls", "four", "a whole number, such as 8"),
        ("--seed", "1.5", "a whole number"),
        ("--guidance", "x", "a number,"),
    ],
)
def test_a_number_in_words_is_refused_in_our_words(run, option, value, takes):
    code, _, err = run("tune", "digits", option, value)
    assert code == 2
    assert f"Invalid value for '{option}': it takes {takes}" in err
    assert "Input should" not in err
