"""What work will cost, how far it is, and how long it may take: estimates, progress, budgets in time."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from exact import PATHS, gaussian
from sigmatune import SigmaTuneError, load, tune
from sigmatune.core.wrappers import Wrapper
from sigmatune.models.imagined import Imagined
from sigmatune.spectra import measured_spectra
from sigmatune.support.durations import about, rounded
from sigmatune.support.progress import Count, Overall, Parts, shown
from sigmatune.training import training_cost
from sigmatune.training.recipe import loads
from sigmatune.training.run import train
from sigmatune.tuning import TuningSettings, Workbench
from sigmatune.tuning.budget import Budget
from sigmatune.tuning.costs import ENOUGH, Costs
from sigmatune.tuning.effort import EFFORTS
from sigmatune.tuning.estimates import TuningJob
from sigmatune.tuning.forecast import of_purposes
from sigmatune.workflows.finetune import TRAINING
from sigmatune.workflows.finetune_cost import ImageNumbers, finetune_estimate, work_of
from sigmatune.workflows.finetune_settings import KEEP, FinetuneSettings

FEW = TuningSettings(tuning=8, validation=8, held_out=16, reference_steps=16, micro_batch=8)


class Slow(Wrapper):
    """Waits before it answers."""

    def __init__(self, model, seconds):
        super().__init__(model)
        self.seconds = seconds

    def denoise(self, z, sigma):
        time.sleep(self.seconds)
        return self.inner.denoise(z, sigma)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (4, "4 s"), (42, "40 s"), (75, "75 s"), (130, "2 min"), (1500, "25 min"), (9000, "2.5 h"),
     (300_000, "3 days"), (float("inf"), "an unknown time")],
)  # fmt: skip
def test_durations_are_said_with_the_digits_that_an_estimate_has(seconds, said):
    assert about(seconds) == said


@pytest.mark.parametrize(("amount", "said"), [(7, "7"), (12_345, "12,000"), (987, "990"), (20_373, "20,000")])
def test_amounts_have_two_digits(amount, said):
    assert rounded(amount) == said


def test_the_share_never_falls_and_the_time_left_starts_at_the_estimate():
    now = 0.0
    overall = Overall(100, clock=lambda: now)
    assert overall.left == pytest.approx(100)
    shares = []
    for now, done in ((10, 2), (20, 1), (30, 5), (40, 3)):  # noqa: B007 - the clock reads it
        overall("stage", done, 10)
        shares.append(overall.share)
    assert shares == [0.2, 0.2, 0.5, 0.5]
    assert overall.left == pytest.approx(0.5 * (10 + 40) / 0.6)
    limited = Overall(1000, limit=60, clock=lambda: now)  # it began at 40
    limited("stage", 1, 10)
    assert limited.left == pytest.approx(60)
    now = 90
    assert limited.left == pytest.approx(10)
    now = 120
    assert limited.left == 0
    unknown = Overall(clock=lambda: now)
    unknown("stage", 0, 10)
    assert unknown.time_left == "time left unknown"


def test_parts_share_one_progress_by_their_work():
    seen = []
    parts = Parts(lambda what, done, total: seen.append((what, done / total)), [1, 3])
    first, second = parts.take(), parts.take()
    first("a", 1, 2)
    second("b", 2, 3)
    assert seen == [("a", 0.125), ("b", 0.75)]
    assert parts.over
    counted = []
    count = Count(lambda *said: counted.append(said), "images", 10)
    count.add(4)
    count.add(8)
    assert [done for _, done, _ in counted] == [4, 10], "at most the whole"


def test_lines_without_a_terminal_and_silence_by_option(capsys, monkeypatch):
    monkeypatch.setattr("sigmatune.support.progress.FIRST", 0.0)
    monkeypatch.setattr("sigmatune.support.progress.EVERY", 0.0)
    for progress in (True, False):
        with shown(progress, "tuning", seconds=60) as report:
            for done in (3, 1, 8):
                report("stage", done, 10)
        err = capsys.readouterr().err
        shares = [int(share) for share in re.findall(r"tuning: (\d+)%, about \d+ s left \(stage\)", err)]
        assert shares == ([30, 30, 80] if progress else [])
    mine = []
    with shown(lambda *said: mine.append(said), "tuning") as report:
        report("stage", 1, 2)
    assert mine == [("stage", 1, 2)]


def test_tuning_reports_one_whole_that_never_runs_backwards():
    said = []
    tune(gaussian(), 3, solver="euler", settings=FEW, progress=lambda *one: said.append(one))
    assert len({total for _, _, total in said}) == 1
    shares = [done / total for _, done, total in said]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert any(what.startswith("reference solution") for what, _, _ in said)


def test_pending_work_is_not_done_and_the_pace_is_that_of_work_that_was_done():
    costs = Costs(gaussian().device)
    costs.call_seconds = 7.0
    costs.spend("reference", 1000)
    assert (costs.done, costs.pace) == (1000, 7.0), "found in a store"
    costs.spend("search", 2 * ENOUGH)
    with costs.working(2 * ENOUGH) as tick:
        tick(ENOUGH)
        assert costs.done == 1000 + ENOUGH
        time.sleep(0.05)
    assert costs.done == 1000 + 2 * ENOUGH
    assert 0.05 / (2 * ENOUGH) <= costs.pace < 1


@pytest.mark.parametrize(
    ("make", "calls"),
    [
        pytest.param(lambda: gaussian(PATHS["vp"]), 4, id="exact-4"),
        pytest.param(lambda: load("digits"), 6, id="digits-6", marks=pytest.mark.slow),
    ],
)
def test_an_estimate_counts_what_tuning_takes(make, calls):
    model, settings = make(), EFFORTS["normal"].settings
    job = TuningJob([calls], "dpmpp2m", budget=Budget.of(EFFORTS["normal"].search))
    twin = job.estimate(Imagined.of(model), settings, each=1e-4)
    assert twin.total == job.estimate(model, settings, each=1e-4).total, "counts need no network"
    plan = tune(model, calls, solver="dpmpp2m", progress=False)
    spent = plan.cost["network_evaluations"]
    assert max(twin.total / spent["total"], spent["total"] / twin.total) < 1.5
    parts = of_purposes(spent)
    assert sum(parts.values()) == spent["total"]
    for purpose in ("check", "guard"):
        assert 0.8 < twin.evaluations[purpose] / parts[purpose] < 1.25, purpose


def test_seconds_are_evaluations_times_a_call():
    job = TuningJob([4], "euler")
    slow, fast = (job.estimate(gaussian(), FEW, each=each) for each in (1.0, 0.01))
    assert slow.total == fast.total
    assert slow.seconds - fast.seconds == pytest.approx(0.99 * slow.total)


def test_an_estimate_is_no_longer_than_the_limit():
    whole = TuningJob([4], "euler", budget=Budget(seconds=20)).estimate(gaussian(), FEW, each=1.0)
    assert whole.seconds == 20
    assert whole.sentence.startswith("as many network evaluations of single images as 20 s pay for")


def test_guidance_counts_double():
    one, two = (TuningJob([8 * n], "euler").estimate(Imagined(per_call=n), FEW, each=1).evaluations for n in (1, 2))
    assert two["reference"] == 2 * one["reference"]
    assert two["guard"] == 2 * one["guard"]


@pytest.mark.parametrize(("seconds", "each"), [(3, 0.004), (8, 0.01)])
def test_a_time_holds_all_in_and_a_plan_comes_back(seconds, each):
    model = Slow(gaussian(), 8 * each)
    began = time.monotonic()
    plan = tune(model, 4, solver="euler", settings=FEW, budget=f"{seconds}s", progress=False)
    assert time.monotonic() - began < 1.2 * seconds + 1  # a loaded machine
    assert plan.evidence["verdict"]


def test_a_time_that_pays_for_nothing_brings_a_default_and_says_so():
    model = Slow(gaussian(), 0.2)
    plan = tune(model, 4, solver="euler", budget="2s", progress=False)
    assert plan.evidence["tested"] is False
    assert "pays for no test" in plan.evidence["verdict"]
    assert plan.calls == 4
    assert json.loads(json.dumps(plan.cost))["stages"] == []


def test_less_time_means_fewer_noises():
    def chosen(seconds):
        return TuningJob([4], "euler", budget=Budget(seconds=seconds)).settings(gaussian(), TuningSettings(), 0.001)

    assert chosen(10_000) == TuningSettings()
    assert chosen(10).held_out < TuningSettings().held_out
    assert chosen(4).tuning <= chosen(10).tuning


def test_rows_are_not_padded_in_vain():
    size = {n: TuningSettings(tuning=n).of((3, 8, 8)).micro_batch for n in (8, 12, 48)}
    assert size == {8: 8, 12: 12, 48: 16}
    assert TuningSettings(tuning=8, micro_batch=16).of((3, 8, 8)).micro_batch == 16
    bench = Workbench(gaussian(), TuningSettings(tuning=8))
    assert bench.padded(8) == 8


# -------------------------------------------------------------------------------------------------------- the command line


def test_a_dry_run_says_what_it_costs_and_writes_nothing(run, tmp_path, tiny):
    code, out, err = run("tune", tiny, "--calls", 4, "--dry-run", "--call-seconds", 0.4)
    assert (code, err) == (0, ""), err
    assert re.search(r"about [\d,]+ network evaluations of single images, about [\d.]+ \w+ on cpu", out)
    assert "report " in out
    assert list(tmp_path.iterdir()) == []
    code, out, _ = run("tune", tiny, "--calls", 4, "--dry-run", "--json", "--no-report")
    said = json.loads(out)
    assert said["network_evaluations"]["total"] > 5000
    assert said["seconds"] >= said["network_evaluations"]["total"] * said["seconds_per_evaluation"]


def test_a_dry_run_of_a_model_that_is_not_here(run, tmp_path):
    code, out, err = run("tune", "someone/sdxl", "--calls", 8, "--guidance", 7.5, "--dry-run", "--call-seconds", 0.4)
    assert code == 0, err
    assert "someone/sdxl is not here" in out
    assert "two evaluations per call" in out
    assert list(tmp_path.iterdir()) == []


SAMPLED = ("--solver", "euler", "--calls", 50, "-n", 16)


@pytest.mark.parametrize(
    ("words", "evaluations"), [(("sample", *SAMPLED), 800), (("analyze", "-n", 16, "--steps", 30), 480)]
)
def test_images_have_a_dry_run_too(run, tmp_path, tiny, words, evaluations):
    for model, at in ((tiny, "on cpu"), ("someone/sdxl", "in all")):
        code, out, err = run(words[0], model, *words[1:], "--dry-run", "--call-seconds", 0.5)
        assert (code, err) == (0, ""), err
        said = re.search(r"about ([\d,]+) network evaluations of single images, about (\S+) min (.*)", out)
        assert (said[1], said[3]) == (f"{evaluations}", at)
        assert float(said[2]) == pytest.approx(evaluations / 120, rel=0.1)
    assert list(tmp_path.iterdir()) == []


def test_the_demo_has_a_dry_run(run, tmp_path):
    code, out, err = run("demo", "--smoke", "--dry-run")
    assert code == 0, err
    assert "network evaluations of single images, about" in out
    assert list(tmp_path.iterdir()) == []


def test_a_spectrum_has_a_dry_run(run, tmp_path):
    """The time is that of a few images times how many there are; a data set of which most is unread costs the same to ask."""
    images = np.random.default_rng(0).integers(0, 256, (4000, 64, 64, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images)
    began = time.monotonic()
    measured_spectra.measure(tmp_path / "data.npz")
    took = time.monotonic() - began
    code, out, err = run("spectrum", "data.npz", "--dry-run", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert (said["images"], said["shape"]) == (4000, [3, 64, 64])
    assert said["seconds"] == pytest.approx(4000 * said["seconds_per_image"])
    assert took / 8 < said["seconds"] < 8 * took
    code, out, _ = run("spectrum", "data.npz", "--dry-run", "--size", 16)
    assert re.fullmatch(r"about \d+ s for 4,000 images of 3 x 16 x 16; no network evaluations\n", out)
    code, _, err = run("spectrum", "data.npz", "--dry-run", "--by-class")
    assert (code, "has no class labels" in err) == (2, True)
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]


def test_long_sampling_says_first_how_long(run, tiny, monkeypatch):
    monkeypatch.setattr("sigmatune.plan.estimate.LONG", 0.0)
    _, _, err = run("sample", tiny, *SAMPLED)
    assert err.startswith("sampling: about 800 network evaluations of single images, about ")
    _, _, err = run("sample", tiny, "--solver", "euler", "--calls", 5, "-n", 16, "-o", "few.png")
    assert "about" not in err, "measuring a call would be a large part of five"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--call-seconds", 0.4], "--call-seconds belongs to --dry-run"),
        (["--call-seconds", -1, "--dry-run"], "--call-seconds must be positive, not -1"),
    ],
)
def test_a_time_per_call_is_for_estimates(run, words, says):
    code, _, err = run("tune", "digits", *words)
    assert code == 2
    assert says in err


def test_evaluate_and_bench_say_what_they_cost(run, tmp_path):
    code, out, err = run("bench", "digits", "--families", "karras", "--solvers", "euler", "--calls", 4, "-n", 100,
                         "--paired", 0, "--dry-run", "--call-seconds", 0.1)  # fmt: skip
    assert code == 0, err
    assert "images 450" in out  # 112 rows of whole micro-batches, 4 calls
    code, _, err = run("evaluate", "--images", "x.npz", "--dry-run")
    assert code == 2
    assert "nothing to estimate" in err
    assert list(tmp_path.iterdir()) == []


def test_models_are_listed_with_their_size(run):
    code, out, _ = run("models", "--json")
    assert code == 0
    known = {model["name"]: model for model in json.loads(out)}
    assert known["digits"]["shape"] == [1, 8, 8]
    assert known["digits"]["parameters"] == sum(p.numel() for p in load("digits").modules()[0].parameters())
    assert known["exact:cifar10-mixture-16"]["parameters"] == 0
    code, out, _ = run("models")
    assert all(name in out for name in known)


def test_the_doctor_tries_the_main_job_and_says_what_is_wrong(run, little, monkeypatch):
    fewer = TuningSettings(tuning=4, validation=4, held_out=8, reference_steps=8, micro_batch=4)
    monkeypatch.setattr("sigmatune.workflows.self_test.SMALL", fewer)
    code, out, _ = run("doctor", "--json")
    said = json.loads(out)
    assert (code, said["works"]) == (0, True), said
    states = {check["name"]: check["state"] for check in said["checks"]}
    assert states["self-test: plan file"] == "ok"

    def broken(*_args, **_options):
        raise SigmaTuneError("the weights are damaged.")

    monkeypatch.setattr("sigmatune.workflows.self_test.load", broken)
    code, out, _ = run("doctor")
    assert code == 1
    assert "bad   self-test: load: the weights are damaged" in out
    assert "-> try --device cpu" in out
    assert "self-test: sample" not in out


def recipe_of(images):
    return loads(
        f"{{name: x, model: {{channels: [8], head: 8, groups: 4}}, training: {{images: {images}, batch: 8}}, "
        "previews: {every: 400, n: 4, calls: 6}, saving: {spectra: false, trackers: []}}"
    )


def test_a_training_is_measured_in_steps_and_leaves_nothing(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    monkeypatch.setattr(training_cost, "MEASURED", 0.05)
    cost = training_cost.training_cost(recipe_of(800), tmp_path / "run", source=images, device="cpu")
    assert (cost.steps, cost.batch, cost.preview_calls) == (100, 8, 3 * 4 * 6)
    assert cost.seconds == pytest.approx(cost.each * (100 + 72 / 24))
    assert list(tmp_path.iterdir()) == []
    began = time.monotonic()
    train(recipe_of(160), tmp_path / "run", source=images, device="cpu", progress=False)
    assert 0 < cost.each < time.monotonic() - began, "a step is shorter than a run"
    left = training_cost.training_cost(recipe_of(160), tmp_path / "run", source=images, device="cpu")
    assert (left.steps, left.to_dict()["parameters"]) == (0, cost.weights)


def test_a_fine_tuning_is_counted_by_stage():
    model = gaussian()
    settings = FinetuneSettings(rounds=2, training=TRAINING.model_copy(update={"images": 640}), budget=1000)
    whole = finetune_estimate(model, 6, settings, ImageNumbers(500, 64, 200), each=0.1)
    assert whole.evaluations["training"] == 2 * 640 * 3
    assert whole.evaluations["tuning"] == 2 * whole.evaluations["first plan"] > 2000
    assert whole.evaluations["candidates' images"] >= 2 * 4 * 64 * 6
    work = work_of(whole, 2)
    assert len(work) == 1 + 2 * 4 + 1
    assert sum(work) == pytest.approx(sum(whole.work))
    kept = finetune_estimate(model, 6, replace(settings, method=KEEP), ImageNumbers(500, 64, 200), each=0.1)
    assert kept.evaluations["tuning"] == kept.evaluations["candidates' images"] == 0
