"""Black-box search: its spaces, its objectives, and that a study goes on as if nothing had happened."""

import sqlite3

import numpy as np
import pytest
import torch

from exact import PATHS, gaussian
from sigmatune.core.schedule import Schedule
from sigmatune.core.wrappers import Counted
from sigmatune.noise import Flow, vp
from sigmatune.schedules import build
from sigmatune.statistics.frechet import frechet_distance
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench
from sigmatune.tuning.blackbox import TIMESTEPS, SearchSpace, _Builder, tune_by_trials

SETTINGS = TuningSettings(tuning=8, validation=8, held_out=8, micro_batch=8, reference_steps=24)


def workbench(path="vp", **options):
    return Workbench(Counted(gaussian(PATHS[path])), SETTINGS, **options)


@pytest.mark.parametrize(("path", "levels"), [("vp", "subset"), ("flow", "subset"), ("flow", "free")])
def test_evolution_finds_better_levels_than_its_first_ones(path, levels):
    bench, values = workbench(path), []

    def objective(plan):
        values.append(bench.score(plan, "tuning"))
        return values[-1]

    found = tune_by_trials(bench, 4, SearchSpace(["euler"], levels), trials=40, objective=objective)
    assert found.value == min(values) == bench.score(found.plan, "tuning")
    assert 30 <= len(values) <= found.trials == 40, "a plan that evolution repeats is not measured again"
    assert np.median(values[-12:]) < np.median(values[:12])
    assert found.plan.calls == 4


def test_beta_timesteps_and_subsets_are_what_they_say():
    bench = workbench()
    beta = tune_by_trials(bench, 5, SearchSpace(["euler"], "beta"), trials=12).plan.schedule
    again = build("beta", 5, bench.model.path, a=beta.options["a"], b=beta.options["b"])
    assert again.sigmas.tobytes() == beta.sigmas.tobytes()
    subset = tune_by_trials(bench, 5, SearchSpace(["euler"], "subset"), trials=14).plan.schedule
    all_of_them = build("uniform-trailing", TIMESTEPS, bench.model.path).sigmas
    assert set(subset.sigmas) <= set(all_of_them)


def test_a_subset_of_equal_choices_is_filled_up():
    class Same:
        def suggest_int(self, *_):
            return 0

    bench = workbench()
    schedule = _Builder(bench, SearchSpace(["euler"], "subset"), 4)._schedule(Same(), 4)
    all_of_them = build("uniform-trailing", TIMESTEPS, bench.model.path).sigmas
    assert schedule.sigmas.tolist() == [*all_of_them[:4], 0.0]


def test_solvers_and_their_order_are_chosen_within_the_calls():
    bench = workbench()
    found = tune_by_trials(bench, 6, SearchSpace(["euler", "heun", "unipc2", "dpmpp3m"]), trials=30)
    assert found.plan.calls <= 6
    assert found.plan.solver != "euler"  # first order loses on an exact model


@pytest.mark.parametrize("objective", ["sliced-wasserstein", "frechet"])
def test_noise_on_the_way_is_searched_with_a_distance_of_distributions(objective):
    bench = workbench()
    space = SearchSpace(["ancestral"], "beta", eta=(0.0, 1.0))
    found = tune_by_trials(bench, 6, space, trials=10, objective=objective)
    assert found.plan.solver == "ancestral"
    assert 0 <= found.plan.solver_options["eta"] <= 1
    assert found.value == float(bench.watched(found.plan, objective)[0])
    with pytest.raises(SigmaTuneError, match="no paired errors"):
        tune_by_trials(bench, 6, space, trials=2)


def test_a_study_that_was_stopped_ends_like_an_undisturbed_one(tmp_path):
    class Killed(BaseException):
        pass

    space = SearchSpace(["euler"], "subset")
    whole = tune_by_trials(workbench(store=tmp_path / "whole"), 4, space, trials=14)
    for stop in (2, 5, 4):
        bench = workbench(store=tmp_path / "stopped")
        left = stop

        def objective(plan, bench=bench):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed  # as by kill -9: the trial stays open
            return bench.score(plan, "tuning")

        objective.__qualname__ = "same"
        with pytest.raises(Killed):
            tune_by_trials(bench, 4, space, trials=14, objective=objective)
    bench = workbench(store=tmp_path / "stopped")
    objective = lambda plan: bench.score(plan, "tuning")  # noqa: E731
    objective.__qualname__ = "same"
    found = tune_by_trials(bench, 4, space, trials=14, objective=objective)
    assert found.plan.schedule == whole.plan.schedule
    assert found.trials == 14
    assert bench.model.images < 8 * 4 * 14 + 8 * 24  # what was measured before is not measured again
    assert bench.spent("search") == 8 * 4 * 14  # but counted


def test_a_study_may_live_in_any_database(tmp_path):
    url = f"sqlite:///{tmp_path / 'mine.db'}"
    first = tune_by_trials(workbench(study=url), 4, SearchSpace(["euler"]), trials=3)
    second = tune_by_trials(workbench(study=url), 4, SearchSpace(["euler"]), trials=5)
    assert (first.study, first.trials, second.trials) == (second.study, 3, 5)
    with sqlite3.connect(tmp_path / "mine.db") as database:
        assert database.execute("select count(*) from trials").fetchone() == (5,)


def test_a_machine_does_not_repeat_what_another_is_trying(tmp_path):
    url, tried = f"sqlite:///{tmp_path / 'shared.db'}", []

    def objective(plan):
        tried.append(tuple(plan.schedule.sigmas))
        if len(tried) == 1:
            raise KeyboardInterrupt  # its trial stays open, as that of a machine at work
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        tune_by_trials(workbench(study=url), 4, SearchSpace(["euler"]), trials=2, objective=objective)
    tune_by_trials(workbench(study=url), 4, SearchSpace(["euler"]), trials=1, objective=objective)
    assert len(set(tried)) == 2


def test_a_password_is_not_shown():
    with pytest.raises(SigmaTuneError, match=r"study at nowhere://me:\*\*\*@host/db") as caught:
        tune_by_trials(workbench(study="nowhere://me:s3cret@host/db"), 4, SearchSpace(["euler"]), trials=1)
    assert "s3cret" not in str(caught.value)


def test_refusals(tmp_path):
    bench = workbench()
    with pytest.raises(SigmaTuneError, match="an objective is one of"):
        tune_by_trials(bench, 4, SearchSpace(["euler"]), objective="fid")
    with pytest.raises(SigmaTuneError, match="cannot open the study at nonsense"):
        tune_by_trials(workbench(study="nonsense"), 4, SearchSpace(["euler"]))
    with pytest.raises(SigmaTuneError, match="at least one solver"):
        SearchSpace([])
    with pytest.raises(SigmaTuneError, match="did you mean 'euler'"):
        SearchSpace(["eular"])
    with pytest.raises(SigmaTuneError, match="does not pay for one"):
        tune_by_trials(bench, 4, SearchSpace(["euler"]), affordable=lambda plan: False)
    assert bench.model.calls == 0


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(SigmaTuneError, match=r"pip install 'sigmatune\[search\]'"):
        tune_by_trials(workbench(), 4, SearchSpace(["euler"]))


def test_frechet_distance_of_known_gaussians():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    x, y = rng.normal(size=(200_000, 3)) @ a, rng.normal(size=(200_000, 3)) @ b + [0.5, 0.0, -1.0]
    Cx, Cy = a.T @ a, b.T @ b
    root = torch.linalg.eigvals(torch.from_numpy(Cx @ Cy)).sqrt().sum().real
    exact = 1.25 + np.trace(Cx + Cy) - 2 * float(root)
    assert frechet_distance(x, y) == pytest.approx(exact, rel=0.02)
    assert frechet_distance(x, x) < 1e-9
    with pytest.raises(SigmaTuneError, match="two samples of features"):
        frechet_distance(x, y[:, :2])


def test_infinite_first_levels_stay():
    bench = Workbench(gaussian(Flow(2.0)), SETTINGS)
    assert np.isinf(tune_by_trials(bench, 3, SearchSpace(["euler"]), trials=3).plan.schedule.sigmas[0])
    assert isinstance(
        tune_by_trials(Workbench(gaussian(vp("linear")), SETTINGS), 1, SearchSpace(["euler"]), trials=2).plan.schedule,
        Schedule,
    )
