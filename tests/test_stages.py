"""Tuning in stages: what each may see, what it costs, when the climb ends."""

from unittest import mock

import numpy as np
import pytest
import torch

from sigmatune.core.unrolled import unrolled
from sigmatune.core.wrappers import Counted
from sigmatune.models.analytic import GaussianMixture
from sigmatune.noise import Flow, vp
from sigmatune.plan import load_plan, sample
from sigmatune.solvers import SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench, stages, tune, tune_on
from sigmatune.tuning import climb as climbing
from sigmatune.tuning.budget import Allowance, Budget
from sigmatune.tuning.climb import climb
from sigmatune.tuning.stage_choice import AUTO
from sigmatune.tuning.stage_words import WORDS, in_words
from sigmatune.tuning.stages import STAGES, table_of
from sigmatune.tuning.task import Goal

SETTINGS = TuningSettings(tuning=16, validation=16, held_out=32, evaluations=4, micro_batch=16, reference_steps=24)


def mixture(path=None):
    rng = np.random.default_rng(0)
    axes = [np.linalg.qr(rng.normal(size=(9, 9)))[0] for _ in range(4)]
    covariances = np.array([a * np.geomspace(0.3, 0.001, 9) @ a.T for a in axes])
    return GaussianMixture(np.full(4, 0.25), rng.normal(size=(4, 1, 3, 3)) * 0.5, covariances, path or vp("linear"))


@pytest.fixture(scope="module")
def auto():
    """The climb of one budget, coefficients included, on a model that counts."""
    model = Counted(mixture())
    with mock.patch.object(stages, "TRIALS", 4), mock.patch.dict(stages.ITERATIONS, coefficients=10):
        return model, tune(
            model, calls=5, solver="euler", method="auto", coefficients=True, settings=SETTINGS, progress=False
        )


def test_the_stages_run_in_order_and_the_leader_never_falls_back(auto):
    _, plan = auto
    log = plan.cost["stages"]
    names = [entry["stage"] for entry in log]
    assert names == [*(name for name in AUTO if name in names and name != "gradient"), "coefficients"]
    assert (np.diff([entry["tuning"] for entry in log]) <= 0).all()
    assert plan.evidence["gain"]
    assert plan.solver == "custom"
    assert log[-1]["validation"] < log[0]["validation"] - 0.2


def test_what_the_stages_cost_is_what_the_network_did(auto):
    """A backward pass is two evaluations more, so that a gradient does a third of what it counts."""
    model, plan = auto
    spent = plan.cost["network_evaluations"]
    assert model.images == spent["total"] - spent["gradient"] * 2 // 3
    by_stage = {}
    for entry in plan.cost["stages"]:
        for purpose, count in entry["network_evaluations"].items():
            by_stage[purpose] = by_stage.get(purpose, 0) + count
    for purpose in ("table", "trajectory", "gradient"):
        assert by_stage[purpose] == spent[purpose]


def test_the_plan_with_its_coefficients_goes_through_the_file(auto, tmp_path):
    model, plan = auto
    plan.save(tmp_path / "plan.json")
    back = load_plan(tmp_path / "plan.json")
    assert torch.equal(sample(model, back, 3), sample(model, plan, 3))
    assert [entry["stage"] for entry in back.cost["stages"]] == [entry["stage"] for entry in plan.cost["stages"]]


@pytest.mark.parametrize(("solver", "path"), [("heun", vp("linear")), ("unipc", Flow(2.0))])
def test_every_solver_and_path_climbs_and_never_sees_held_out_noise(solver, path, little):
    bench = Workbench(mixture(path), SETTINGS)
    seen = {}
    outputs = bench.outputs

    def watched(plan, split, **options):
        seen.setdefault(split, set()).add(options.get("purpose", "search"))
        return outputs(plan, split, **options)

    bench.outputs = watched
    plan = tune_on(bench, 5, solver=solver, method="auto")
    assert seen["held_out"] == {"guard", "reference"}
    assert plan.calls <= 5
    assert plan.evidence["gain"] or plan.evidence["verdict"].startswith("no gain")


@pytest.mark.parametrize("name", [name for name in STAGES if name != "static"])
def test_one_stage_by_name(name, little):
    bench = Workbench(mixture(), SETTINGS)
    log = climb(bench, Goal(4, "euler"), ("static", name)).log
    assert [entry["stage"] for entry in log] == ["static", name]
    assert log[1]["proposals"] >= 1
    assert log[1]["peak_memory_mib"] > 50


def test_the_levels_that_are_asked_at_move_apart_from_the_steps():
    """The stage of queries: better than the levels alone on an exact model, with Euler's own coefficients."""
    bench = Workbench(mixture(), SETTINGS)
    plan = tune_on(bench, 4, solver="euler", method="queries", budget=12_000)
    log = plan.cost["stages"]
    assert [entry["stage"] for entry in log][-1] == "queries"
    assert log[-1]["validation"] < log[-2]["validation"]
    assert plan.solver == "custom"
    euler = unrolled(SOLVERS["euler"].build(torch.from_numpy(plan.schedule.sigmas.copy())))
    found = unrolled(plan.coefficients)
    torch.testing.assert_close(found.W, euler.W, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.rho, euler.rho, rtol=1e-9, atol=1e-12)
    assert (found.q / euler.q).log().abs().max() > 1e-3


def test_a_costly_stage_that_does_not_pay_ends_the_search_for_levels(monkeypatch):
    bench = Workbench(mixture(), SETTINGS)
    monkeypatch.setattr(climbing, "PAYS", 100.0)
    monkeypatch.setitem(stages.ITERATIONS, "coefficients", 1)
    log = climb(bench, Goal(4, "euler"), ("static", "discretisation", "search", "gradient", "coefficients")).log
    assert [entry["stage"] for entry in log] == ["static", "discretisation", "search", "coefficients"]
    assert [entry["paid"] for entry in log] == [True, False, False, False]


@pytest.mark.parametrize("spare", [0, 900, 2600])
def test_what_a_gradient_finds_can_still_be_measured(spare, little):
    """However little is left, the plan that was paid for is not thrown away for want of one more measurement."""
    bench = Workbench(mixture(), SETTINGS)
    first = climb(bench, Goal(4, "euler"), ("static",))
    spent = bench.spent("search")
    bench = Workbench(mixture(), SETTINGS)
    names = ("static", "coefficients")
    found = climb(bench, Goal(4, "euler"), names, allowance=Allowance(bench, Budget(spent + spare)))
    assert bench.spent("search", "gradient") <= spent + spare
    if bench.spent("gradient"):
        assert found.log[-1]["proposals"] == 1
    assert found.log[-1]["validation"] <= first.log[-1]["validation"]


def test_the_table_is_measured_once_and_kept(tmp_path):
    model = Counted(mixture())
    bench = Workbench(model, SETTINGS, store=tmp_path / "store")
    first = table_of(bench)
    spent = model.images
    assert table_of(bench) is first
    again = Workbench(model, SETTINGS, store=tmp_path / "store")
    assert table_of(again).error.tobytes() == first.error.tobytes()
    assert model.images == spent
    assert again.spent("table") == bench.spent("table") == 16 * 32  # the run that was stopped has paid for it
    for file in (tmp_path / "store").glob("*.npy"):
        file.write_bytes(b"{")
    assert table_of(Workbench(model, SETTINGS, store=tmp_path / "store")).error.tobytes() == first.error.tobytes()


def test_a_network_of_whole_timesteps_is_tuned_without_a_gradient(little):
    class Whole(GaussianMixture):
        integer_time = True

    kind = mixture()
    model = Whole(kind.weights, kind.arrays[1], kind.arrays[2], vp("linear"))
    plan = tune(model, calls=4, solver="euler", method="auto", settings=SETTINGS)
    times = model.path.time(plan.schedule.sigmas[:-1])
    np.testing.assert_allclose(times, np.rint(times), atol=1e-6)
    assert [entry["proposals"] for entry in plan.cost["stages"] if entry["stage"] == "gradient"] in ([], [0])


def test_refusals():
    with pytest.raises(SigmaTuneError, match="did you mean 'auto'"):
        tune(mixture(), calls=4, solver="euler", method="autos", settings=SETTINGS)
    with pytest.raises(SigmaTuneError, match="no number of calls"):
        tune(mixture(), calls=[], solver="euler", settings=SETTINGS)
    with pytest.raises(SigmaTuneError, match="add 'static'"):
        climb(Workbench(mixture(), SETTINGS), Goal(4, "euler"), ("gradient",))


def test_every_stage_is_explained_in_words():
    assert list(WORDS) == list(STAGES)
    assert all(words.summary and words.price for words in WORDS.values())
    assert in_words("spacing")
    assert in_words("a stage of a later version") == ""
