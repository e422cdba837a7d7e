"""What a command can refuse, it refuses before it loads the model or measures anything: a newcomer's typo costs no minutes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import sigmatune as st
from sigmatune import models
from sigmatune.spectra.images import Images
from sigmatune.training import plan_levels


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with what commands read: a plan, a rule, images, statistics, and what is none of these."""
    folder = tmp_path_factory.mktemp("read")
    st.compile_plan(st.schedules.build("karras", 4, st.noise.VE()), "euler").save(folder / "plan.json")
    (folder / "notes.json").write_text('{"format": "somebody/notes"}\n')
    (folder / "broken.json").write_text("{\n")
    images = folder / "images"
    images.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{i}.png")
    (folder / "empty").mkdir()
    np.savez(folder / "images.npz", images=np.zeros((4, 8, 8, 1), np.uint8))
    return folder


@pytest.fixture
def refused(run, tmp_path, files, monkeypatch):
    """Runs a command that must refuse without a model, images or a spectrum, and returns the sentence."""

    def never(*_arguments, **_options):
        raise AssertionError("loaded or measured before the refusal")

    for place, name in ((models, "load"), (plan_levels.Trainable, "of"), (Images, "__iter__")):
        monkeypatch.setattr(place, name, never)
    (tmp_path / "trained.run" / "model").mkdir(parents=True)
    (tmp_path / "trained.run" / "checkpoint.safetensors").write_bytes(b"")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "letter.txt").write_text("mine")
    (tmp_path / "own.json").write_text("mine")
    (tmp_path / "own.npz").write_bytes(b"mine")
    (tmp_path / "own.png").write_bytes(b"mine")

    def call(line):
        before = sorted(tmp_path.rglob("*"))
        code, _, said = run(*line.replace("FILES", str(files)).split())
        assert code == 2, (code, said)
        assert said.startswith("sigmatune: ") or said.count("\n") == 1, said
        assert sorted(tmp_path.rglob("*")) == before
        return said

    return call


FREE = "trained.run holds a trained model"
NO_PLAN = 'this is not a valid plan file: it lacks "format": "sigmatune/plan"'
CALLS = "needs at least 1 network call, but the budget is 0"
SEED = "the seed of a noise must be a whole number"

BENCH = {
    "--run trained.run": f"{FREE}, so no measurements go there; pass another -o, or --run trained-measured.run",
    "--run own": "own holds files and is not a run folder",
    "-o own.json": "own.json exists and is no leaderboard",
    "--families karas": "did you mean 'karras'?",
    "--families defaults,karras:rhoo=7": "there is no karras option 'rhoo'",
    "--families karras:sigma_max=nan": "sigma_max must be a finite number",
    "--solvers euler,eulr": "there is no solver 'eulr'",
    "--solvers=": "there is nothing to compare",
    "--metrics fdd": "there is no metric 'fdd'",
    "--metrics is --extractor pixels": "is needs the logits of a classifier",
    "--extractor no.module:function": "there is no function 'no.module:function'",
    "--extractor pixels --spaces head": "there is no space of pixels 'head'",
    "--calls 4 0": CALLS,
    "-n 3": "a figure with an interval needs at least 4 images, not 3",
    "--size -1": "size must be a whole number",
    "--reference nowhere": "there is no nowhere",
    "--reference FILES/notes.json": "notes.json is of an unknown type",
    "--plans FILES/notes.json": NO_PLAN,
    "--device gpu": "the device 'gpu' cannot be used here",
    "--engine raay": "an engine is local, ray",
    "--seed -1": SEED,
    "--merge nowhere": "there is no folder nowhere",
}
EVALUATE = {
    "--run trained.run": FREE,
    "-o own.json": "own.json exists and is no evaluation",
    "--save-reference own.npz": "own.npz exists and is no file of statistics",
    "--against karras:rhoo=7": "there is no karras option 'rhoo'",
    "--against nowhere.json": "cannot read nowhere.json",
    "--against FILES/notes.json": NO_PLAN,
    "--against karras --metrics sw": "ask for fd or kid",
    "--metrics fdd": "there is no metric 'fdd'",
    "--reference FILES/empty": "empty holds no image",
    "--reference FILES/images --values wrong": "values must be one of",
    "--batch 0": "batch must be a whole number",
    "-n 3": "at least 4 images, not 3",
    "--engine raay": "an engine is local, ray",
}
ANALYZE = {
    "--store trained.run": f"{FREE}, so no measurements go there; pass another -o, or --store trained-measured.run",
    "-o own.npz": "own.npz exists and is no analysis",
    "-n 1": "at least 2 samples",
    "--steps 0": "steps must be a whole number of at least 1",
    "--steps 10001": "steps must be a whole number of at most 10,000",
    "--solver heun": "one network call per step and heun makes others",
    "--solver reduced-oba": "one network call per step and reduced-oba makes others",
    "--family karas": "did you mean 'karras'?",
    "--device gpu": "the device 'gpu' cannot be used here",
    "--seed -1": SEED,
}
SAMPLE = {
    "FILES/notes.json": NO_PLAN,
    "FILES/plan.json -o own.png": "own.png exists and is no file of samples",
    "FILES/plan.json --noise lavel": 'by "call" or by "level", not \'lavel\'',
    "FILES/plan.json --micro-batch -1": "micro_batch must be a whole number",
    "FILES/plan.json --engine raay": "an engine is local, ray",
    "--solver heun --calls -2": "heun needs at least 1 network call, but the budget is -2",
    "--solver euler --calls 8 --grid karras:rhoo=7": "there is no karras option 'rhoo'",
    "--solver euler --calls 8 --solver-option nosuch=1": "there is no euler option 'nosuch'",
    "--solver euler --calls 8 --data FILES/images": "--data is for --grid auto and --lambda-s auto",
    "--solver reduced-oba --calls 8 --lambda-s auto --data nowhere": "there is no nowhere",
    "--solver reduced-oba --calls 8 --lambda-s auto --data FILES/notes.json": "notes.json",
}
FINETUNE = {
    "-o trained.run": f"{FREE}, which fine-tuning never replaces; pass another folder, such as trained-finetuned",
    "--plan FILES/notes.json": NO_PLAN,
    "--calls 0": CALLS,
    "--solver euler_ancestral": "adds noise",
    "--method nosuch": "there is no tuning method 'nosuch'",
    "--measure whitened:exponent=x": "exponent must be a finite number",
    "--budget soon": "a budget is a number of network evaluations",
    "--pictures 63": "fewer than 64 images",
    "--reference nowhere": "there is no nowhere",
    "--engine raay": "an engine is local, ray",
}
SPECTRUM = {
    "-o own.json": "own.json exists and is no spectrum",
    "-o spectra.png": "spectra must be a .json file",
    "--window hamm": "hamm",
    "--order 0": "order must be a whole number",
    "--resolution -1": "resolution must be a whole number",
    "--plan FILES/notes.json": NO_PLAN,
    "--by-class": "has no class labels",
}
TUNE_BY_SPECTRUM = {
    "--run trained.run": FREE,
    "--images 63": "fewer than 64 images",
    "--reference nowhere": "there is no nowhere",
    "--reference FILES/images --data FILES/empty": "empty holds no image",
}


@pytest.mark.parametrize("options", BENCH)
def test_bench(refused, options):
    assert BENCH[options] in refused(f"bench digits {options}")


def test_bench_needs_data_for_a_model_without_its_own(refused):
    assert "fd needs data to compare with; pass --reference" in refused("bench somewhere/model")
    assert "fd needs data" in refused("bench FILES/images --extractor pixels")


COMMANDS = {
    "evaluate digits --plan FILES/plan.json": EVALUATE,
    "analyze digits": ANALYZE,
    "sample digits": SAMPLE,
    "finetune digits --data FILES/images": FINETUNE,
    "spectrum FILES/images": SPECTRUM,
    "tune digits --solver euler_ancestral": TUNE_BY_SPECTRUM,
}


@pytest.mark.parametrize(
    ("command", "options"), [(command, options) for command, table in COMMANDS.items() for options in table]
)
def test_a_command_refuses(refused, command, options):
    assert COMMANDS[command][options] in refused(f"{command} {options}")


def test_evaluate_refuses_what_is_no_plan(refused):
    assert NO_PLAN in refused("evaluate digits --plan FILES/notes.json")
    assert "cannot read nowhere.json" in refused("evaluate digits --plan nowhere.json")


def test_an_estimate_for_a_model_elsewhere_needs_no_reference(run):
    code, out, said = run("bench", "somewhere/model", "--calls", "4", "--dry-run", "--call-seconds", "0.4")
    assert code == 0, said
    assert "network evaluations" in out
