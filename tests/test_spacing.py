"""Levels that nearly touch: when they do, how they are spaced, and that the better of both stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.testing import assert_allclose

from exact import gaussian
from sigmatune.core.schedule import Schedule
from sigmatune.noise import Flow
from sigmatune.tuning import TuningSettings, Workbench
from sigmatune.tuning.budget import Allowance, Budget
from sigmatune.tuning.climb import _Run
from sigmatune.tuning.spacing import TOUCHING, spaced, touching
from sigmatune.tuning.task import Goal

QUICK = TuningSettings(tuning=16, validation=16, held_out=16, reference_steps=24, micro_batch=16)


def test_the_levels_of_the_case_touch():
    """Ten calls, of which two ask at .099 and at .0745."""
    schedule = Schedule([40.0, 14.0, 5.6, 2.4, 1.1, 0.5, 0.22, 0.099, 0.0745, 0.022, 0.0])
    assert touching(schedule)
    assert not touching(Schedule(np.append(np.geomspace(40.0, 0.02, 10), 0.0)))
    assert not touching(Schedule([1.0, 0.99, 0.0]))  # a single gap has none to be compared with


@given(some.lists(some.floats(0.001, 2.0), min_size=2, max_size=25))
def test_spaced_levels_keep_their_number_and_their_ends_and_do_not_touch(gaps):
    start = Schedule(np.append(20.0 * np.exp(-np.concatenate([[0.0], np.cumsum(gaps)])), 0.0))
    made = spaced(start)
    assert bool(made) == touching(start)
    for schedule in made:
        assert schedule.steps == start.steps
        assert schedule.sigmas[[0, -2]].tobytes() == start.sigmas[[0, -2]].tobytes()
        gaps = -np.diff(np.log(schedule.sigmas[:-1]))
        assert gaps.min() > TOUCHING * gaps.mean() * (1 - 1e-6)


def test_spacing_by_hand():
    y = np.array([3.0, 1.0, 0.9, 0.0])
    apart, moved = spaced(Schedule(np.append(np.exp(y), 0.0)))
    assert_allclose(np.log(apart.sigmas[:-1]), [3.0, 3 - 2.6 * 2 / 2.9, 2.6 * 0.9 / 2.9, 0.0], atol=1e-12)
    assert_allclose(np.log(moved.sigmas[:-1]), [3.0, 1.975, 0.95, 0.0], atol=1e-12)
    two, _ = spaced(Schedule(np.append(np.exp([4.0, 2.0, 1.9, 1.8, 0.0]), 0.0)))
    assert_allclose(-np.diff(np.log(two.sigmas[:-1])), [2 * 3.2 / 3.8, 0.4, 0.4, 1.8 * 3.2 / 3.8], atol=1e-12)
    infinite = spaced(Schedule([np.inf, *np.exp(y), 0.0]))
    assert [schedule.sigmas[0] for schedule in infinite] == [np.inf, np.inf]
    assert_allclose(infinite[1].sigmas[1:], moved.sigmas)


def run_from(levels, model=None):
    bench = Workbench(model or gaussian(), QUICK)
    run = _Run(bench, Goal(len(levels), "euler"), Allowance(bench, Budget()), [])
    plan = bench.plan(Schedule([*levels, 0.0]), "euler")
    run.ranked = [(bench.score(plan, "tuning"), plan)]
    run.best = (bench.score(plan, "validation"), plan)
    return bench, run, plan


def test_levels_that_touch_for_nothing_are_replaced_and_the_others_measured():
    bench, run, plan = run_from([20.0, 2.0, 1.9, 0.1])
    run.space()
    (entry,) = run.log
    assert (entry["stage"], entry["proposals"], entry["paid"]) == ("spacing", 2, True)
    assert run.best[1].schedule.family == "spaced"
    assert run.best[0] == bench.score(run.best[1], "validation") < bench.score(plan, "validation")
    assert [one for _, one in run.ranked] == [run.best[1]]
    assert entry["network_evaluations"] == {"search": 3 * 16 * 4}


def test_levels_that_touch_and_are_better_so_stay():
    """Errors of the spaced plans made a little larger on every noise: then the levels that touch are significantly better."""
    bench, run, plan = run_from([20.0, 2.0, 1.9, 0.1])
    errors, least = bench.errors, bench.errors(plan, "validation")
    bench.errors = lambda one, split, **how: (
        errors(one, split, **how) if one is plan or split != "validation" else 1.05 * least
    )
    run.space()
    assert run.log[0]["paid"] is False
    assert run.best[1] is plan
    run.space()
    assert len(run.log) == 1  # not asked again


def test_nothing_is_asked_where_no_levels_touch_or_nothing_can_be_paid():
    bench, run, _ = run_from([20.0, 2.0, 0.4, 0.1])
    spent = bench.spent("search")
    run.space()
    assert run.log == []
    bench, run, plan = run_from([20.0, 2.0, 1.9, 0.1])
    run.allowance = Allowance(bench, Budget(evaluations=1))
    run.space()
    assert run.log == []
    assert bench.spent("search") == spent
    assert run.best[1] is plan


@pytest.mark.parametrize("levels", [[np.inf, 2.0, 1.9, 0.1], [30.0, 2.0, 1.95, 0.1]])
def test_an_infinite_first_level_stays(levels):
    _, run, _ = run_from(levels, gaussian(Flow(2.0)))
    run.space()
    assert run.best[1].schedule.sigmas[0] == levels[0]
