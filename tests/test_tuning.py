"""Tuning and its guard on exact models."""

from __future__ import annotations

import importlib
import json
import threading
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exact import PATHS, gaussian, power_law
from sigmatune import schedules
from sigmatune.core.guidance import Guided
from sigmatune.core.schedule import Schedule
from sigmatune.core.wrappers import Counted, Observed
from sigmatune.models.analytic import Empirical, GaussianSpectrum
from sigmatune.noise import VE, Flow
from sigmatune.plan import compile_plan, sample
from sigmatune.plan import file as plan_file
from sigmatune.solvers import POSITION, SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench, candidates
from sigmatune.tuning import tune as tune_by
from sigmatune.tuning import tune_on as tune_on_by
from sigmatune.tuning.climb import Climb
from sigmatune.tuning.guard import judge
from sigmatune.tuning.search import SPACING, repair, search
from sigmatune.tuning.stages import FINALISTS

DETERMINISTIC = [name for name, solver in POSITION.items() if solver.deterministic()]
# What is tested here holds for every method; this one is fast on exact models.
tune, tune_on = partial(tune_by, method="search"), partial(tune_on_by, method="search")
QUICK = TuningSettings(tuning=16, validation=16, held_out=32, evaluations=40, reference_steps=16)


def test_the_three_kinds_of_noise_never_meet():
    ranges = [set(QUICK.rows(split)) for split in ("tuning", "validation", "held_out")]
    assert [len(r) for r in ranges] == [16, 16, 32]
    assert len(set.union(*ranges)) == 64


@pytest.mark.parametrize("path", PATHS)
def test_the_reference_is_the_models_own_solution(path):
    """From the model's own start to its sigma_min, one denoise, against the closed form."""
    model = gaussian(PATHS[path])
    bench = Workbench(model, QUICK)
    starts: list[torch.Tensor] = []
    sample(
        model, bench.reference_plan(), indices=list(QUICK.rows("tuning")), on_step=lambda s: starts.append(s.z.clone())
    )
    first, last = model.path.sigma_max, model.path.sigma_min
    exact = model(model.flow(starts[0], first, last), last)
    gaps = [(bench.reference("tuning", n) - exact).square().mean().sqrt().item() for n in (32, 64, 128)]
    assert gaps[0] < 1e-2
    assert gaps[2] < gaps[0] / 12  # second order


@cache
def shared(path, purpose, **settings):
    """A workbench that all tests of a path use for one purpose, as several budgets do: its references are made once.

    Its data are small, of standard deviation .05, which no static default was made for.
    """
    model = GaussianSpectrum(power_law(8, mean=0.0025), (1, 8, 8), PATHS[path])
    model.integer_time = purpose == "whole timesteps"
    return Workbench(model, replace(QUICK, **{"evaluations": 48, "held_out": 96, "micro_batch": 96, **settings}))


# The best default happens to be within the error of the coarse reference, so more trials against a finer one are needed.
NEAR = {"unipc-bh1": {"evaluations": 150, "reference_steps": 64}}
JUDGED_AGAIN = ("euler", "dpmpp2m", "deis3")  # one of each path
# Lower orders of a family whose highest order, or a neighbour, is tried here anyway; whole timesteps tune all of them.
REPEATING = {"unipc1", "unipc2", "unipc-bh1", "deis2", "ipndm1", "ipndm2", "ipndm3"}


@pytest.mark.parametrize(
    ("path", "solver"),
    [
        pytest.param(("vp", "ve", "flow")[i % 3], solver, marks=[pytest.mark.slow] * (solver in REPEATING))
        for i, solver in enumerate(DETERMINISTIC)
    ]
    + [("vp", "dpmpp2m")],
)
def test_tuning_beats_the_best_default_on_held_out_noise(solver, path):
    calls = SOLVERS[solver].calls(5)
    settings = NEAR.get(solver, {})
    plan = tune_on(shared(path, "tuning", **settings), calls, solver=solver)
    assert plan.evidence["statistic"]["high"] < 0
    if solver == "heun" and not plan.evidence["gain"]:  # nearer row by row, and the set of end points is not
        assert "worse in its squared energy distance" in plan.evidence["verdict"]
        return
    assert plan.evidence["gain"], plan.evidence["verdict"]
    assert plan.calls == calls
    assert plan.schedule.sigmas[0] <= PATHS[path].sigma_max
    assert plan.schedule.sigmas[-2] >= PATHS[path].sigma_min
    if solver not in JUDGED_AGAIN:
        return
    # The evidence can be had again from the plan file alone, on a workbench that has seen no tuning.
    bench = shared(path, "judging", **settings)
    model = bench.model
    back = plan_file.loads(plan_file.dumps(plan))
    label = plan.evidence["baseline"]
    family, options = next((f, o) for name, f, o in schedules.defaults(model.path) if name == label)
    default = compile_plan(schedules.build(family, back.steps, model.path, **options), solver, model)
    again = judge(bench, back, default)
    assert again.comparison.statistic == plan.evidence["statistic"]["statistic"]


def test_the_rival_is_the_best_default_on_validation():
    plan = tune(gaussian(), calls=4, solver="euler", settings=QUICK)
    scores = plan.evidence["defaults_on_validation"]
    assert scores[0]["name"] == plan.evidence["baseline"]
    assert [s["mean_log_error"] for s in scores] == sorted(s["mean_log_error"] for s in scores)
    names = [name for s in scores for name in (s["name"], *s.get("same_levels", ()))]
    assert sorted(names) == sorted(label for label, _, _ in schedules.defaults(gaussian().path))


def test_no_gain_returns_the_default_with_these_words(monkeypatch):
    """Whatever the search brings, here a bad schedule, what is handed out is no worse than the best default."""
    module = importlib.import_module("sigmatune.tuning.tuner")

    model = gaussian()
    bad = Schedule([0.02, 0.015, 0.01, 0.005, 0.0])
    monkeypatch.setattr(module, "climb", lambda bench, *_, **__: Climb(bench.plan(bad, "euler"), bad, []))
    plan = module.tune(model, calls=4, solver="euler", settings=QUICK)
    assert plan.evidence["verdict"].startswith("no gain")
    assert plan.evidence["gain"] is False
    assert plan.evidence["baseline"].startswith(plan.schedule.family)
    assert plan.schedule != bad


def test_held_out_noises_are_used_by_the_guard_alone():
    """The search must not see a row of the held-out range, nor of validation."""
    model = gaussian()
    bench = Workbench(model, QUICK)
    seen: dict[str, set[str]] = {}
    outputs = bench.outputs

    def watched(plan, split, **options):
        seen.setdefault(split, set()).add(options.get("purpose", "search"))
        return outputs(plan, split, **options)

    bench.outputs = watched  # type: ignore[method-assign]
    tune_on(bench, 4, solver="euler")
    assert seen["held_out"] == {"guard", "reference"}


def test_the_cost_is_what_was_spent():
    model = Counted(gaussian())
    plan = tune(model, calls=4, solver="euler", settings=QUICK, progress=False)
    spent = plan.cost["network_evaluations"]
    assert spent["check"] == 5  # three calls of a row, with another, with a third, and alone
    assert spent["total"] == 5 + spent["reference"] + spent["search"] + spent["guard"] == model.images
    rivals = len(schedules.rivals(4, model.path))
    assert spent["guard"] == (3 * 32 + rivals * 16) * 4, (
        "plan, rival and the best family with searched ends; every default once"
    )
    assert spent["search"] <= ((1 + FINALISTS) * 16 + QUICK.evaluations * 16 + 2 * 16) * 4
    assert plan.cost["peak_memory_mib"] > 50


@pytest.mark.parametrize("budget", [3000, 6000])
def test_a_budget_of_network_evaluations_is_kept(budget):
    found = tune(gaussian(), calls=[4, 6], solver="euler", settings=replace(QUICK, evaluations=1000), budget=budget)
    spent = sum(plan.cost["network_evaluations"]["search"] for plan in found.values())
    assert spent <= budget
    assert spent > budget - 2 * 10 * 16 * 6  # less than a generation of each search is left
    with pytest.raises(SigmaTuneError, match="the budget does not pay for a single plan of 6 steps"):
        tune(gaussian(), calls=[4, 6], solver="euler", settings=QUICK, budget=300)


def test_several_numbers_of_calls_are_tuned_together(little):
    model = Counted(gaussian())
    found = tune_by(model, calls=[3, 5, 4], solver="euler", settings=replace(QUICK, evaluations=3), effort="high",
                    progress=False)  # fmt: skip
    assert list(found) == [3, 5, 4]
    assert all((plan.steps, plan.tuned_for["calls"]) == (n, n) for n, plan in found.items())
    spent = [plan.cost["network_evaluations"] for plan in found.values()]
    made = [name for name in ("table", "trajectory") for part in spent if part.get(name)]
    assert made == ["table", "trajectory"]  # once, by the first that was tuned
    shared = spent[0]["reference"] + sum(part["total"] - part["reference"] for part in spent)
    assert model.images == shared - sum(part.get("gradient", 0) for part in spent) * 2 // 3
    alone = tune_by(gaussian(), calls=5, solver="euler", settings=replace(QUICK, evaluations=3), effort="high")
    assert alone.schedule == found[5].schedule


def test_budgets_share_one_reference_and_count_it_each():
    model = Counted(gaussian())
    bench = Workbench(model, QUICK)
    first, second = (tune_on(bench, 4, solver=solver) for solver in ("euler", "dpmpp2m"))
    spent = [plan.cost["network_evaluations"]["reference"] for plan in (first, second)]
    fine, finer = (plan.evidence["reference"]["steps"] for plan in (first, second))
    doubled = [steps for steps in (16, 32, 64, 128, 256, 512) if fine < steps <= finer]
    assert spent[1] - spent[0] == 32 * sum(doubled), "only what the second comparison needs besides"
    assert model.images == sum(bench.costs.spent.values())


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path):
    class Killed(BaseException):
        pass

    model, reports = gaussian(), []
    whole = tune(gaussian(), calls=4, solver="euler", settings=QUICK, progress=lambda *said: reports.append(said))
    for stop in (3, len(reports) // 2, len(reports) - 1):
        count = 0

        def progress(*_args, stop=stop):
            nonlocal count
            count += 1
            if count == stop:
                raise Killed

        try:
            tune(model, calls=4, solver="euler", settings=QUICK, store=tmp_path, progress=progress)
        except Killed:
            continue
    counted = Counted(gaussian())
    resumed = tune(counted, calls=4, solver="euler", settings=QUICK, store=tmp_path)
    assert resumed.schedule == whole.schedule
    assert resumed.evidence == whole.evidence
    assert counted.images < whole.cost["network_evaluations"]["total"] / 2
    assert resumed.cost["network_evaluations"] == whole.cost["network_evaluations"]
    assert not list(tmp_path.glob("*.partial"))


def test_tuning_is_reproducible_and_depends_on_the_seed():
    plans = [
        tune(gaussian(), calls=4, solver="euler", settings=TuningSettings(**{**vars(QUICK), "seed": s}))
        for s in (0, 0, 1)
    ]
    assert plans[0].schedule == plans[1].schedule
    assert plans[0].evidence == plans[1].evidence
    assert plans[0].evidence["statistic"] != plans[2].evidence["statistic"]


def test_whole_timestep_networks_get_levels_of_their_own():
    model = gaussian(PATHS["vp"])
    model.integer_time = True
    plan = tune(model, calls=4, solver="dpmpp2m", settings=QUICK)
    t = model.path.time(plan.coefficients.q.numpy())
    np.testing.assert_allclose(t, np.rint(t), atol=1e-9)
    assert len(set(np.rint(t))) == 4


@pytest.mark.parametrize("solver", [name for name in DETERMINISTIC if not SOLVERS[name].between])
def test_every_solver_tunes_a_whole_timestep_network(solver):
    bench = shared("vp", "whole timesteps", evaluations=10, held_out=16, micro_batch=16)
    model = bench.model
    plan = tune_on(bench, 5, solver=solver)
    t = model.path.time(plan.coefficients.q.numpy())
    np.testing.assert_allclose(t, np.rint(t), atol=1e-9)
    assert sample(model, plan, 2).isfinite().all()


def test_a_solver_that_asks_between_its_levels_is_refused_for_whole_timesteps_before_any_work():
    model = Counted(gaussian(PATHS["vp"]))
    model.integer_time = True
    with pytest.raises(SigmaTuneError, match=r"res2s also asks between .* whole timesteps only"):
        tune(model, calls=7, solver="res2s", settings=QUICK)
    assert model.calls == 0


def test_guidance_is_paid_for_out_of_the_budget_and_recorded():
    guided = Guided(gaussian(), gaussian(), 2.0, (0.3, 5.0))
    counted = Counted(guided)
    plan = tune(counted, calls=8, solver="euler", settings=QUICK, progress=False)
    assert plan.steps == 4
    assert plan.network_calls(guided) <= 8
    assert plan.tuned_for["guidance"] == {"scale": 2.0, "interval": [0.3, 5.0]}
    assert plan.cost["network_evaluations"]["total"] == counted.images


def test_a_plan_that_is_the_default_is_no_gain():
    model = gaussian()
    bench = Workbench(model, QUICK)
    plan = bench.plan(schedules.build("karras", 4, model.path), "euler")
    judged = judge(bench, plan, plan)
    assert not judged.gain
    assert judged.converged
    assert judged.comparison.statistic == 0


def test_a_model_that_every_plan_solves_is_no_gain():
    image = torch.linspace(-1, 1, 16, dtype=torch.float64).view(1, 1, 4, 4)
    plan = tune(Empirical(image), calls=4, solver="euler", settings=QUICK)
    assert plan.evidence["verdict"].startswith("no gain")
    json.loads(plan_file.dumps(plan))


def test_a_reference_that_does_not_converge_is_no_gain(monkeypatch):
    """Without the right to double the reference's steps nothing can be said, however large the gain looks."""
    guard = importlib.import_module("sigmatune.tuning.guard")
    monkeypatch.setattr(guard, "MOST_REFERENCE_STEPS", QUICK.reference_steps)
    plan = tune(gaussian(), calls=4, solver="euler", settings=QUICK)
    assert plan.evidence["statistic"]["high"] < 0
    assert plan.evidence["gain"] is False
    assert plan.evidence["verdict"].startswith("no gain: the reference did not converge")
    assert plan.evidence["baseline"].startswith(plan.schedule.family)
    json.loads(plan_file.dumps(plan))


def test_a_model_that_returns_nan_is_refused():
    model = gaussian()
    model.denoise = lambda z, sigma: z * torch.nan  # type: ignore[method-assign]
    with pytest.raises(SigmaTuneError, match="NaN"):
        tune(model, calls=4, settings=QUICK)


@pytest.mark.parametrize(("calls", "message"), [(0, "calls must be"), (-3, "calls must be"), (2.5, "calls must be")])
def test_bad_budgets_are_refused(calls, message):
    with pytest.raises(SigmaTuneError, match=message):
        tune(gaussian(), calls=calls, settings=QUICK)
    with pytest.raises(SigmaTuneError, match="did you mean 'euler'"):
        tune(gaussian(), calls=4, solver="eular", settings=QUICK)
    with pytest.raises(SigmaTuneError, match="held-out"):
        TuningSettings(held_out=4)


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30))
def test_any_trial_becomes_a_valid_schedule(values):
    low, high = np.log(0.002), np.log(80)
    y = repair(np.array(values), low, high)
    assert len(y) == len(values)
    assert (y >= low - 1e-12).all()
    assert (y <= high + 1e-12).all()
    assert (np.diff(y) <= -SPACING + 1e-9).all()
    Schedule([*np.exp(y), 0.0])


def test_repair_leaves_a_valid_trial_alone():
    y = np.array([3.0, 1.0, -2.0])
    np.testing.assert_array_equal(repair(y.copy(), -5, 4), y)


def test_the_search_finds_the_minimum_of_a_known_function():
    target = np.log([30.0, 4.0, 0.7])
    objective = lambda s: float(np.square(np.log(s.sigmas[:-1]) - target).sum())  # noqa: E731
    start = Schedule([70.0, 10.0, 0.1, 0.0])
    batch = lambda trials: [objective(s) for s in trials]  # noqa: E731
    found = search([start, Schedule([9.0, 8.0, 7.0, 0.0])], batch, PATHS["ve"], evaluations=400, seed=0)
    assert objective(found) < 1e-2 * objective(start)


def test_the_search_keeps_an_infinite_start_and_its_budget():
    spent = 0

    def objective(trials):
        nonlocal spent
        spent += len(trials)
        assert all(np.isinf(s.sigmas[0]) for s in trials)
        return [float(np.square(np.log(s.sigmas[1:-1])).sum()) for s in trials]

    search([Schedule([np.inf, 5.0, 1.0, 0.0])], objective, PATHS["flow"], evaluations=60, seed=0)
    assert 50 <= spent <= 60
    one = Schedule([np.inf, 0.0])
    assert search([one], lambda trials: [0.0] * len(trials), PATHS["flow"], evaluations=10, seed=0) == one


def test_evidence_is_json():
    plan = tune(gaussian(PATHS["flow"]), calls=2, solver="euler", settings=QUICK)
    assert json.loads(plan_file.dumps(plan))["evidence"] == plan.evidence


def test_micro_batches_side_by_side_give_the_same_bits():
    model, settings = gaussian(), replace(QUICK, micro_batch=4)
    threads = torch.get_num_threads()
    try:
        found = []
        for count, concurrent in ((1, True), (4, True), (4, False)):
            torch.set_num_threads(count)
            model.concurrent = concurrent
            seen: set[str] = set()
            watched = Observed(model, lambda z, sigma, x0, seen=seen: seen.add(threading.current_thread().name))
            watched.concurrent = concurrent
            bench = Workbench(watched, settings)
            plan = bench.plan(schedules.build("karras", 4, model.path), "euler")
            found.append(bench.outputs(plan, "tuning"))
            assert torch.get_num_threads() == count
            assert (seen == {"MainThread"}) == (count == 1 or not concurrent)
        assert all(torch.equal(found[0], other) for other in found)
    finally:
        torch.set_num_threads(threads)


def test_the_search_for_ends_meets_the_best_of_all_combinations():
    """On a path that starts above the usual last level, too."""
    for path in (VE(), VE(0.1, 80.0), Flow()):
        tried = candidates.rank(6, path, lambda some: [abs(np.log(schedule.sigmas[-2] / 0.2)) for schedule in some])
        assert len({schedule.sigmas.tobytes() for schedule in tried}) == len(tried) <= candidates.most(path)
        assert tried[0].sigmas[-2] == pytest.approx(0.2)


def test_stochastic_solvers_are_refused_before_any_work():
    model = Counted(gaussian())
    with pytest.raises(SigmaTuneError, match="tune a deterministic position-space solver"):
        tune(model, calls=4, solver="ancestral", settings=QUICK)
    assert model.calls == 0
