"""The command line as a user meets it: what it writes, and what it says to bad input."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from sigmatune import load
from sigmatune.cli import app
from sigmatune.cli.examples import EXAMPLES
from sigmatune.core.schedule import Schedule
from sigmatune.models.bundled import bundled_folder
from sigmatune.plan import compile_plan, load_plan
from sigmatune.rules import load_rule
from sigmatune.schedules import FAMILIES, build
from sigmatune.spectra.mixture import Mixture
from sigmatune.support.run_folder import LOCK
from sigmatune.tuning.both_numbers import both_numbers, lead

RULE = ["schedule", "spectral-mixed", "--data", "data", "--per-image"]
QUICK = ["--tuning", "8", "--validation", "8", "--held-out", "8", "--micro-batch", "8", "--method", "static"]


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def plan_text(digits, tmp_path):
    compile_plan(Schedule([50.0, 5.0, 1.0, 0.2, 0.0]), "euler", digits).save(tmp_path / "good.json")
    return (tmp_path / "good.json").read_text()


@pytest.fixture
def brief(monkeypatch):
    """Makes reports short and leaves their charts out: what a page holds is the matter of test_report.py."""
    for chart in ("charts.chart", "stepwise_section._chart"):
        monkeypatch.setattr(f"sigmatune.report.{chart}", lambda *_: "")
    monkeypatch.setattr("sigmatune.report.measurements.BUDGETS", (4,))
    monkeypatch.setattr("sigmatune.report.GLANCE_STEPS", 8)


def edited(text: str, **changes) -> str:
    return json.dumps({**json.loads(text), **changes})


def test_help_lists_every_command_quickly():
    command = [sys.executable, "-c", "from sigmatune.cli import main; main()", "--help"]
    times = []
    for _ in range(2):
        began = time.perf_counter()
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        times.append(time.perf_counter() - began)
    for name in ("tune", "sample", "schedule", "check", "demo"):
        assert name in out
    heavy = "import sys; import sigmatune.cli; print([m for m in ('torch', 'scipy', 'diffusers', 'numpy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_fits_a_terminal_and_ends_in_an_example_that_parses(name):
    command = typer.main.get_command(app).commands[name]
    assert command.epilog == f"For example: sigmatune {EXAMPLES[name]}"
    first, *rest = shlex.split(EXAMPLES[name])
    assert first == name
    command.make_context(name, rest)  # its options exist, and their values are of the right kind
    assert all("\n" not in paragraph for paragraph in command.help.split("\n\n")), "the terminal breaks the lines"


def test_every_command_has_an_example():
    assert set(typer.main.get_command(app).commands) == set(EXAMPLES)


def test_tune_sample_and_check_on_the_digits_model(run, tmp_path, brief, little):
    code, out, err = run("tune", "digits", "--calls", 4, "--solver", "euler", "-o", "plan.json", *QUICK)
    assert (code, {p.name for p in tmp_path.iterdir()}) == (0, {"plan.json", "plan.html", "plan.run"}), err
    assert "report: plan.html" in out
    plan = load_plan("plan.json")
    assert plan.calls == 4
    for line in lead(plan.evidence):
        assert line in out

    code, out, _ = run("check", "plan.json", "--model", "digits")
    assert code == 0
    assert "4 steps, 4 calls, euler" in out
    for line in lead(plan.evidence):
        assert line in out, "both numbers lead"
    code, out, _ = run("check", "plan.json", "--json")
    assert json.loads(out)["calls"] == 4
    assert json.loads(out)["both_numbers"] == both_numbers(plan.evidence).to_dict()

    assert run("sample", "digits", "plan.json", "-n", 9, "-o", "grid.png")[0] == 0
    assert min(Image.open("grid.png").size) >= 500
    assert run("sample", "digits", "plan.json", "-n", 3, "-o", "few.npz")[0] == 0
    assert run("sample", "digits", "plan.json", "-n", 9, "-o", "many.npz", "--solver", "ddim")[0] == 0
    few, many = (np.load(name)["images"] for name in ("few.npz", "many.npz"))
    assert few.shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(few, many[:3])
    assert many.std() > 30  # images, not grey


def test_tune_takes_several_numbers_of_calls_and_goes_on_from_its_folder(run, tmp_path, tiny, little):
    arguments = ["--solver", "euler", "--no-report", *QUICK, "--method", "trajectory", "--budget", "4000"]
    code, out, err = run("tune", tiny, "--calls", 2, 3, *arguments)
    assert code == 0, err
    plans = {n: load_plan(tmp_path / f"plan-{n}.json") for n in (2, 3)}
    assert [plan.calls for plan in plans.values()] == [2, 3]
    assert out.count("written to plan-") == 2
    assert "measurements: plan.run" in out
    tuning = sum(
        count for plan in plans.values() for purpose, count in plan.cost["network_evaluations"].items()
        if purpose in ("search", "table", "trajectory", "gradient")
    )  # fmt: skip
    assert tuning <= 4000
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "plan.run").iterdir()}
    code, out, err = run("tune", "--calls", 2, "--calls", 3, tiny, *arguments, "--json", "-o", "plan.json")
    assert code == 0, err
    assert [fields["sigmas"] for fields in json.loads(out)] == [
        plan.schedule.sigmas.tolist() for plan in plans.values()
    ]
    assert {
        file: file.stat().st_mtime_ns for file in (tmp_path / "plan.run").iterdir()
    } == before  # nothing was measured


def test_tune_as_json_prints_the_plan(run, tiny, brief, little):
    code, out, _ = run("tune", tiny, "--calls", 2, "--solver", "euler", "--json", "--no-report", *QUICK)
    assert code == 0
    assert json.loads(out) == json.loads(Path("plan.json").read_text())
    assert not Path("plan.html").exists()
    code, out, err = run("tune", tiny, "--calls", 2, "--solver", "euler", "--json", "--report", "why.html", *QUICK)
    assert code == 0
    assert json.loads(out) == json.loads(Path("plan.json").read_text())
    assert "report: why.html" in err
    assert f"<h1>{tiny.name} in 2 calls" in Path("why.html").read_text()


@pytest.mark.parametrize("family", FAMILIES)
def test_schedule_prints_any_family(run, family):
    path = ("--path", "flow") if FAMILIES[family].flow else ()
    code, out, _ = run("schedule", family, "-N", 7, "--json", *path)
    assert code == 0
    found = json.loads(out)
    assert len(found["sigmas"]) == 8
    Schedule(found["sigmas"])
    code, out, _ = run("schedule", family, "-N", 7, *path)
    assert code == 0
    assert out.count("\n") >= 12


def test_schedule_knows_models_paths_and_options(run):
    flow = json.loads(run("schedule", "uniform-trailing", "-N", 4, "--path", "flow", "--json")[1])
    assert flow["sigmas"][0] == "inf"
    assert flow["network_times"] == [1000.0, 750.0, 500.0, 250.0]
    one = json.loads(
        run("schedule", "karras", "-N", 5, "-p", "rho=3", "--sigma-max", 20, "--model", "digits", "--json")[1]
    )
    assert one["options"]["rho"] == 3
    assert one["sigmas"][0] == 20
    assert "karras" in run("schedule", "list")[1]


def test_schedule_writes_a_file(run, tmp_path):
    assert run("schedule", "beta", "-N", 6, "-p", "sigma_max=20", "-o", "levels.json")[0] == 0
    found = json.loads((tmp_path / "levels.json").read_text())
    assert found["sigmas"][0] == 20
    assert len(found["sigmas"]) == 7


def test_device_auto_takes_an_accelerator(monkeypatch):
    """The word reaches the loader as it is; the loader's own test covers what it means."""
    from sigmatune.cli import common

    seen = {}
    monkeypatch.setattr("sigmatune.models.load", lambda source, device: seen.update({source: device}))
    common.load_model("digits", "auto")
    assert seen == {"digits": "auto"}


def test_the_demo_names_its_files_after_the_model_and_keeps_to_its_folder(
    run, tmp_path, tiny, brief, little, monkeypatch
):
    from sigmatune.tuning import TuningSettings
    from sigmatune.workflows import demo

    monkeypatch.setattr(demo, "SMALL", TuningSettings(8, 8, 8, 2, reference_steps=16))
    monkeypatch.setattr(demo, "SMALL_BUDGET", 500)
    shutil.copytree(tiny, "mine")
    shares, second, shown = [], [], demo.run

    def watched(*given, progress, **options):
        def noted(what, done, total):
            shares.append(done / total)
            if Path("shown/mine-dpmpp2m-4.json").exists():
                second.append(done / total)
            progress(what, done, total)

        return shown(*given, progress=noted, **options)

    monkeypatch.setattr(demo, "run", watched)
    code, out, err = run("demo", "--smoke", "--model", "mine", "--out", "shown")
    assert code == 0, err
    names = {p.name for p in (tmp_path / "shown").iterdir()}
    assert names == {"mine.png", "mine-dpmpp2m-4.json", "mine-dpmpp2m-6.json", "report.html"}
    assert "report: shown/report.html" in out
    assert "error and distance of sets to the converged solution" in out
    for calls in (4, 6):
        both = both_numbers(load_plan(f"shown/mine-dpmpp2m-{calls}.json").evidence)
        assert both.shown_error in out
        assert f"{calls} calls: " in out
        assert both.sentence.partition(";")[0] in out
    first = shares[: len(shares) - len(second)]  # each budget has the same share of the bar
    assert max(first) <= 0.4 <= min(second)
    assert len(second) > 10
    assert max(second[:-10]) <= 1.0
    assert len({round(share, 2) for share in second}) > 5, "it moves during the second budget"


def test_a_stopped_tune_goes_on(run, tmp_path, tiny, little, monkeypatch):
    arguments = ["tune", tiny, "--calls", 3, "--solver", "euler", "--no-report", *QUICK]
    assert run(*arguments, "-o", "whole.json")[0] == 0
    from sigmatune.tuning import workbench

    original, count = workbench.sample, 0

    def interrupted(*args, **options):
        nonlocal count
        count += 1
        if count == 12:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(workbench, "sample", interrupted)
    code, _, err = run(*arguments, "-o", "plan.json")
    assert code == 130
    assert "resumes where it was" in err
    assert not (tmp_path / "plan.json").exists()
    monkeypatch.setattr(workbench, "sample", original)
    assert run(*arguments, "-o", "plan.json")[0] == 0
    whole, resumed = (json.loads((tmp_path / name).read_text()) for name in ("whole.json", "plan.json"))
    assert resumed["sigmas"] == whole["sigmas"]
    assert resumed["cost"]["network_evaluations"] == whole["cost"]["network_evaluations"]


PLANS = {
    "wrong order": ({"sigmas": [50.0, 1.0, 5.0, 0.2, 0.0]}, "is followed by the larger 5"),
    "duplicates": ({"sigmas": [50.0, 5.0, 5.0, 0.2, 0.0]}, "sigma 5 appears twice"),
    "NaN": ({"sigmas": [50.0, float("nan"), 1.0, 0.2, 0.0]}, "NaN, which JSON does not have"),
    "negative": ({"sigmas": [50.0, 5.0, 1.0, -0.2, 0.0]}, "sigmas.3 must be a number of at least 0"),
    "no final zero": ({"sigmas": [50.0, 5.0, 1.0, 0.2]}, "ends in an explicit 0"),
    "another version": ({"version": 7}, "version 7, but only version 1"),
    "unknown solver": ({"solver": "dpmpp2n"}, "did you mean 'dpmpp2m'"),
}


@pytest.mark.parametrize("case", PLANS)
@pytest.mark.parametrize("command", ["check", "sample"])
def test_bad_plans(run, plan_text, tmp_path, case, command):
    changes, message = PLANS[case]
    (tmp_path / "bad.json").write_text(edited(plan_text, **changes))
    refused(run, tmp_path, ["check", "bad.json"] if command == "check" else ["sample", "digits", "bad.json"], message)


def refused(run, folder, arguments, message):
    """Exit code 2, one sentence on stderr, nothing written but, perhaps, measurements."""
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    code, out, err = run(*arguments)
    assert code == 2, (out, err)
    assert message in err
    assert err.splitlines()[-1].startswith("error: ")  # a slow machine has said how far it was
    assert len([line for line in err.splitlines() if not line.startswith("tuning: ")]) == 1
    assert not out
    there = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if "plan.run" not in p.parts}
    assert there == before
    assert all(p.suffix == ".npy" or p.name == LOCK for p in folder.glob("plan.run/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "digits", "--solver", "eular"], "did you mean 'euler'"),
        (["tune", "digits", "--calls", 0], "at least 1 network call"),
        (["evaluate", "digits", "plan.json"], "pass a plan with --plan"),
        (["bench", "digits", "plan.json"], "pass a plan with --plans"),
        (["tune", "digits", "--evaluations", 0], "evaluations must be a whole number"),
        (["tune", "digit"], "digits"),
        (["tune", "digits", "-o", "no/folder/plan.json"], "there is no folder no/folder"),
        (["tune", "digits", "--report", "no/where.html"], "there is no folder no"),
        (["tune", "digits", "--report", "folder"], "folder is a folder"),
        (["tune", "digits", "--report", "why.html", "--no-report"], "contradict each other"),
        (["tune", "digits", "-o", "plan.html"], "cannot both be plan.html"),
        (["tune", "digits", "--device", "warp"], "warp"),
        (["schedule", "karas"], "did you mean 'karras'"),
        (["schedule", "karras", "-N", 0], "steps must be a whole number of at least 1"),
        (["schedule", "karras", "-N", 10**8], "steps must be a whole number of at most 10,000"),
        (["schedule", "karras", "-p", "rhoo=7"], "rho"),
        (["schedule", "karras", "-p", "rho"], "name=number"),
        (["schedule", "karras", "--path", "flow"], "finite"),
        (["schedule", "karras", "--path", "flo"], "did you mean 'flow'"),
        (["schedule", "karras", "--sigma-max", 1e5], "range"),
        (["schedule", "uniform-trailing", "-N", 1001], "1000"),
        (["sample", "digits", "none.json"], "cannot read none.json"),
        (["sample", "digits", "good.json", "-n", 0], "n must be a whole number"),
        (["sample", "digits", "good.json", "-o", "images.gif"], "must be a .png or .npz"),
        (["sample", "digits", "good.json", "--solver", "heun"], "tuned for the solver euler, not heun"),
        (["sample", "folder", "good.json"], "folder"),
        (["tune", "pickled"], "pickled weights only"),
        (["check", "."], "cannot read"),
        (["tune", "digits", "--seed", -1, *QUICK], "the seed must be"),
        (["tune", "digits", "-o", "/proc/plan.json", *QUICK], "cannot"),
        (["tune"], "model"),
        (["tune", "digits", "--callz", 4], "--callz"),
        (["tune", "digits", "--calls", 2.5], "--calls"),
        (["tune", "digits", "--calls", 4, 6.5], "--calls"),
        (["tune", "digits", "--calls", 4, 0], "at least 1 network call"),
        (["tune", "digits", "--method", "gradients"], "did you mean 'gradient'"),
        (["tune", "digits", "--budget", "ten"], "a budget is a number of network evaluations"),
        (["tune", "tiny", *QUICK, "--budget", 10], "does not pay for a single plan"),
        (["tune", "digits", "--run", "pickled/model_index.json"], "give the run folder another name"),
        (["tune", "digits", *QUICK, "--method", "evolution", "--study", "nonsense"], "cannot open the study"),
        (["tune", "digits", "--method", "tpe"], "never beat 'surrogate'"),
        (["tune", "digits", "--method", "cma-es"], "take 'search'"),
        (["tuna", "digits"], "tuna"),
        (["demo", "--model", "digit"], "digits"),
        (["schedule", "karras", "-N", 2.5], "--steps"),
        (["schedule", "karras", "-p", "steps=3"], "steps is not an option"),
        (["schedule", "karras", "-p", "rho=0.0001"], "karras"),
        (["schedule", "karras", "-o", "no/where.json"], "there is no folder"),
    ],
)
def test_bad_input(run, plan_text, tmp_path, digits, tiny, little, arguments, message):
    (tmp_path / "tiny").symlink_to(tiny)
    (tmp_path / "folder").mkdir()
    pickled = tmp_path / "pickled"
    (pickled / "unet").mkdir(parents=True)
    weights = load_folder()
    for name in ("model_index.json", "unet/config.json"):
        (pickled / name).write_bytes((weights / name).read_bytes())
    (pickled / "scheduler").mkdir()
    scheduler = "scheduler/scheduler_config.json"
    (pickled / scheduler).write_bytes((weights / scheduler).read_bytes())
    torch.save({}, pickled / "unet" / "diffusion_pytorch_model.bin")
    refused(run, tmp_path, arguments, message)


def load_folder():
    from sigmatune.models.bundled import bundled_folder

    return bundled_folder("digits")


def test_levels_outside_the_models_range(run, plan_text, tmp_path, digits):
    fields = json.loads(plan_text)
    sigmas = [500.0, 5.0, 1.0, 0.2, 0.0]
    fields |= {"sigmas": sigmas, "network_sigmas": sigmas[:-1]}
    fields.pop("network_times")
    (tmp_path / "bad.json").write_text(json.dumps(fields))
    refused(run, tmp_path, ["sample", "digits", "bad.json"], "outside the model's range")


@pytest.mark.filterwarnings("default")
def test_a_plan_for_another_model_is_a_warning(run, plan_text, tmp_path):
    (tmp_path / "other.json").write_text(edited(plan_text, model="sha256:0"))
    code, _, err = run("sample", "digits", "other.json", "-n", 1)
    assert code == 0
    assert "warning: this plan was made for another model" in err


def test_any_solver_makes_a_plan_that_samples(run, tmp_path):
    arguments = ["schedule", "karras", "-N", "4", "--model", "digits", "--plan", "noisy.json", "--solver", "ddpm"]
    assert run(*arguments, "--solver-option", "eta=0.5", "--json")[0] == 0
    plan = load_plan(tmp_path / "noisy.json")
    assert (plan.solver, plan.solver_options, plan.calls) == ("ancestral", {"eta": 0.5}, 4)
    assert not plan.coefficients.deterministic
    assert run("sample", "digits", "noisy.json", "-n", "2", "-o", "grid.png")[0] == 0
    code, _, err = run(*arguments[:-3], "other.json", "--solver", "ddpm", "--solver-option", "etta=1")
    assert (code, (tmp_path / "other.json").exists()) == (2, False)
    assert "did you mean 'eta'" in err
    code, _, err = run(*arguments[:-3], "other.json", "--solver", "ddpm", "-o", "no/folder.json")
    assert (code, (tmp_path / "other.json").exists()) == (2, False)


# -------------------------------------------------------------------------------------------- schedules from data, and rules


@pytest.fixture
def pictures(tmp_path):
    """Two classes of little images, smooth and rough, as files of images and as one array."""
    rng = np.random.default_rng(0)
    for name, blur in (("smooth", 8), ("rough", 1)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            block = rng.integers(0, 256, size=(16 // blur, 16 // blur), dtype=np.uint8)
            Image.fromarray(block).resize((16, 16)).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


def levels_of(text: str) -> np.ndarray:
    return np.array([float(sigma) for sigma in json.loads(text)["sigmas"]])


def test_schedule_reads_the_spectrum_of_data(run, pictures):
    from sigmatune.noise import VE
    from sigmatune.schedules import build
    from sigmatune.spectra.measured_spectra import measure
    from sigmatune.spectra.spectrum_file import save_measured

    whole, both = measure(pictures, by_class=True), ["--family", "spectral-mixed", "--path", "edm", "-N", 6, "--json"]
    code, out, err = run("schedule", *both, "--data", pictures)
    assert code == 0, err
    np.testing.assert_array_equal(levels_of(out), build("spectral-mixed", 6, VE(), spectrum=whole.all.power).sigmas)
    assert json.loads(out)["options"]["spectrum"] == whole.all.power.tolist()
    one = run("schedule", *both, "--data", pictures, "--label", "smooth")[1]
    expected = build("spectral-mixed", 6, VE(), spectrum=whole.classes["smooth"].power).sigmas
    np.testing.assert_array_equal(levels_of(one), expected)
    tilted = levels_of(run("schedule", *both, "--data", pictures, "--texture", 0.5)[1])
    np.testing.assert_allclose(tilted[-2] / levels_of(out)[-2], 8**0.25)
    save_measured(measure(pictures, by_class=True, corners=True), "spectrum.json")  # corners are not whole rings
    for label in ([], ["--label", "smooth"]):
        np.testing.assert_allclose(
            levels_of(run("schedule", *both, "--data", "spectrum.json", *label)[1]), levels_of(one if label else out)
        )
    small = levels_of(run("schedule", *both, "--data", pictures, "--size", 8)[1])
    assert small[0] < levels_of(out)[0]
    assert run("schedule", *both, "--data", pictures, "--sigma-max", 33, "-o", "levels.json")[0] == 0
    assert levels_of(Path("levels.json").read_text())[0] == 33


def test_a_rule_is_made_checked_and_sampled(run, pictures, tmp_path):
    arguments = ["schedule", "spectral-mixed", "-N", 4, "--model", "digits", "--data", pictures, "--per-image"]
    code, out, err = run(*arguments, "--plan", "rule.json", "--solver", "euler", "--label", "rough", "--texture", 0.5)
    assert code == 0, err
    assert "rule: rule.json" in out
    assert "the spectra of 12 images" in out
    code, out, _ = run("check", "rule.json", "--model", "digits", "--json")
    summary = json.loads(out)
    assert code == 0
    assert (summary["calls"], summary["classes"], summary["images"]) == (4, ["rough", "smooth"], 24)
    own = {"label": "rough", "mean": False, "texture": 0.5, "amplitude": 1.0}
    assert summary["control"] == own | {"by_class": False, "shuffled": False}
    assert "rule.json is a valid rule: 4 steps, 4 calls, euler" in run("check", "rule.json")[1]
    for n in (2, 5):
        code, out, err = run("sample", "digits", "rule.json", "-n", n, "-o", f"{n}.npz", "--seed", 3)
        assert (code, f"{n} images, 4 network calls each" in out) == (0, True), err
    few, many = (np.load(f"{n}.npz")["images"] for n in (2, 5))
    np.testing.assert_array_equal(few, many[:2])
    assert many.std() > 30
    code, out, _ = run(*arguments, "--plan", "mean.json", "--mean", "--json", "--reduction", "pca")
    assert json.loads(out) == json.loads(Path("mean.json").read_text())
    assert json.loads(out)["spectra"]["reduction"] == "pca"
    code, _, err = run("sample", "digits", "rule.json", "--solver", "heun")
    assert (code, "tuned for the solver euler, not heun" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["schedule"], "give one family"),
        (["schedule", "karras", "--family", "beta"], "give one family"),
        (["schedule", "--family", "karas"], "did you mean 'karras'"),
        (["schedule", "karras", "--data", "data"], "karras uses no spectrum"),
        (["schedule", "spectral-mixed", "--label", "smooth"], "also pass --data"),
        (["schedule", "spectral-mixed", "--texture", 0.5], "--texture needs data"),
        (["schedule", "spectral-mixed", "--per-image", "--plan", "rule.json"], "--per-image needs data"),
        (["schedule", "spectral-mixed", "--data", "data", "--mean"], "--mean is for rules"),
        (["schedule", "spectral-mixed", "--data", "data", "--per-image"], "--plan, the file to write"),
        (["schedule", "spectral-mixed", "--data", "data", "--label", "smoth"], "did you mean 'smooth'"),
        (["schedule", "spectral-mixed", "--data", "data", "--texture", "nan"], "texture must be a finite number"),
        (["schedule", "spectral-mixed", "--data", "dota"], "there is no dota"),
        (["schedule", "spectral-mixed", "--data", "none.json"], "cannot read none.json"),
        (["schedule", "spectral-mixed", "--data", "good.json"], "not a spectrum file"),
        (["schedule", "spectral-mixed", "--data", "data", "-p", "slope=3"], "leave out the option slope"),
        (["schedule", "spectral-mixed", "--data", "data", "-p", "kappa_min=90"], "kappa_min < kappa_max"),
        ([*RULE, "--plan", "no/rule.json"], "there is no folder no"),
        ([*RULE, "--plan", "rule.json", "-o", "levels.json"], "goes to --plan"),
        ([*RULE, "--plan", "rule.json", "--reduction", "laws"], "law or pca"),
        ([*RULE, "--plan", "rule.json", "--label", "smoth"], "did you mean 'smooth'"),
        ([*RULE, "--plan", "rule.json", "--solver", "eular"], "did you mean 'euler'"),
        ([*RULE, "--plan", "rule.json", "--texture", "nan"], "texture must be a finite number"),
        ([*RULE, "--plan", "rule.json", "-p", "slope=3"], "leave out the option slope"),
        ([*RULE[:3], "good.json", "--per-image", "--plan", "rule.json"], "no images"),
        (["sample", "digits", "rule7.json"], "a rule of version 7, but only version 1"),
        (["check", "rule7.json"], "a rule of version 7, but only version 1"),
    ],
)
def test_bad_input_about_data(run, pictures, plan_text, tmp_path, arguments, message):
    (tmp_path / "rule7.json").write_text('{"format": "sigmatune/rule", "version": 7}')
    refused(run, tmp_path, arguments, message)


def test_a_bundled_model_brings_its_own_spectra(run, tmp_path):
    mixture = Mixture.load(bundled_folder("digits") / "spectra.json")
    for label in (None, "1"):
        chosen = [] if label is None else ["--label", label]
        _, text, _ = run("schedule", "spectral-mixed", "-N", 4, "--model", "digits", "--json", *chosen)
        expected = build("spectral-mixed", 4, load("digits").path, spectrum=mixture.mean(label))
        assert json.loads(text)["sigmas"] == expected.sigmas.tolist()
    code, _, errors = run(
        "schedule", "spectral-mixed", "--model", "digits", "--per-image", "--plan", "rule.json", "-N", 4
    )
    assert code == 0, errors
    assert load_rule(tmp_path / "rule.json").spectra.fields() == mixture.fields()
    code, _, errors = run("schedule", "spectral-mixed", "--model", "digits", "--label", "ten")
    assert code == 2
    assert "ten" in errors
    _, text, _ = run("schedule", "karras", "-N", 4, "--model", "digits", "--json")
    assert "spectrum" not in json.loads(text)["options"]


def test_measurements_stay_out_of_the_folder_of_a_training(run, tmp_path, tiny):
    """Beside them the command says that they may be deleted."""
    (tmp_path / "own.run" / "model").mkdir(parents=True)
    (tmp_path / "own.run" / ".sigmatune.lock").touch()
    code, _, err = run("tune", tiny, "--calls", 4, "-o", "own.json")
    assert code == 2
    assert "own.run holds a trained model" in err
    assert not (tmp_path / "own.json").exists()
