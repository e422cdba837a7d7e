"""A schedule is validated and never repaired; resampling and partial ranges read one and the same curve."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sigmatune.core.schedule import Schedule, whole
from sigmatune.noise import VE, Flow, vp
from sigmatune.support.errors import SigmaTuneError

LOG_UNIFORM = Schedule([*np.geomspace(80, 0.01, 9), 0])
INFINITE = Schedule([np.inf, 12, 4.5, 2, 0.75, 0.01, 0])
ROWS = Schedule([[80, 20, 3, 0.5, 0], [np.inf, 9, 2, 0.1, 0], [10, 9, 8, 7, 0]])


@st.composite
def schedules(draw):
    """Any schedule: gaps in log sigma from 0.001 to 3, the first level sometimes infinite."""
    count = draw(st.integers(2, 40))
    gaps = draw(st.lists(st.floats(1e-3, 3), min_size=count - 1, max_size=count - 1))
    levels = 1e-3 * np.exp(np.concatenate([[0], np.cumsum(gaps)]))[::-1]
    if draw(st.booleans()):
        levels[0] = np.inf
    return Schedule([*levels, 0])


@pytest.mark.parametrize(
    ("sigmas", "says"),
    [
        ([1.0, 2.0, 0.0], "sigma 1 is followed by the larger 2"),
        ([0.0, 1.0, 2.0], "ends in an explicit 0"),
        ([2.0, 1.0, 1.0, 0.0], "sigma 1 appears twice"),
        ([2.0, 1.0, 0.0, 0.0], "sigma 0 appears twice"),
        ([2.0, np.nan, 0.0], "NaN"),
        ([2.0, 1.0, np.nan], "NaN"),
        ([2.0, 1.0, -1.0], "sigma -1 is negative"),
        ([2.0, 1.0, 0.1], "the last sigma is 0.1; a schedule ends in an explicit 0, so append it"),
        ([np.inf, np.inf, 0.0], "only the first sigma may be infinite"),
        ([2.0, np.inf, 0.0], "only the first sigma may be infinite"),
        ([0.0], "at least two points"),
        ([], "at least two points"),
        (3.0, "at least two points"),
        (np.zeros((0, 3)), "at least two points"),
        (np.zeros((1, 2, 3)), "at least two points"),
        ([[2.0, 1.0, 0.0], [2.0, 2.0, 0.0]], "sigma 2 appears twice"),
        ([[2.0, 1.0, 0.0], [2.0, 1.0, 0.5]], "explicit 0"),
        ([[2.0, 1.0, 0.0], [2.0, 0.0]], "all of one length"),
        ("many", "sigmas must be numbers"),
        ([2.0, "x", 0.0], "sigmas must be numbers"),
        (None, "at least two points"),
    ],
)
def test_what_is_no_schedule_is_refused_in_one_sentence(sigmas, says):
    with pytest.raises(SigmaTuneError) as caught:
        Schedule(sigmas)
    message = str(caught.value)
    assert says in message
    assert message.endswith(".")
    assert "\n" not in message


def test_levels_outside_the_models_range_are_refused():
    path = vp()
    assert Schedule([150.0, 1.0, 0.0]).bound(path).points == 3
    for levels, named in [([158.0, 1.0], "158"), ([150.0, 0.009], "0.009"), ([np.inf, 1.0], "inf")]:
        with pytest.raises(SigmaTuneError, match=f"sigma {named} is outside the model's range"):
            Schedule([*levels, 0.0]).bound(path)
    with pytest.raises(SigmaTuneError, match="sigma 81 is outside"):
        Schedule([[80.0, 1.0, 0.0], [81.0, 1.0, 0.0]]).bound(VE())
    assert INFINITE.bound(Flow()) is INFINITE


def test_a_schedule_cannot_be_changed():
    source = np.array([2.0, 1.0, 0.0])
    options = {"rho": 7.0}
    schedule = Schedule(source, "karras", options)
    source[0], options["rho"] = 9.0, 1.0
    assert schedule.sigmas.tolist() == [2.0, 1.0, 0.0]
    assert schedule.options == {"rho": 7.0}
    with pytest.raises(ValueError, match="read-only"):
        schedule.sigmas[0] = 9.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.family = "other"


def test_steps_points_rows_and_equality():
    assert (LOG_UNIFORM.steps, LOG_UNIFORM.points, LOG_UNIFORM.rows) == (9, 10, None)
    assert (ROWS.steps, ROWS.points, ROWS.rows) == (4, 5, 3)
    same = Schedule(LOG_UNIFORM.sigmas)
    assert same == LOG_UNIFORM
    assert hash(same) == hash(LOG_UNIFORM)
    assert Schedule(LOG_UNIFORM.sigmas, "other") != LOG_UNIFORM
    assert Schedule([*np.nextafter(LOG_UNIFORM.sigmas, 0)[:-1], 0]) != LOG_UNIFORM


@given(schedules(), st.integers(1, 120))
def test_resample_keeps_the_ends_and_falls_strictly(schedule, steps):
    new = schedule.resample(steps)  # Schedule itself asserts the strict fall
    assert new.steps == steps
    assert new.sigmas[0] == schedule.sigmas[0]
    assert new.sigmas[-1] == 0
    if steps > 1:
        assert new.sigmas[-2] == schedule.sigmas[-2]
    assert schedule.resample(schedule.steps) is schedule


@given(schedules(), st.integers(2, 4))
def test_a_refined_schedule_passes_through_the_old_levels(schedule, times):
    fine = schedule.resample((schedule.steps - 1) * times + 1)
    assert_allclose(fine.sigmas[:-1][::times], schedule.sigmas[:-1], rtol=1e-9)
    assert_allclose(fine.resample(schedule.steps).sigmas, schedule.sigmas, rtol=1e-9)


def test_resampling_reads_the_curve_that_is_there():
    """Log-uniform stays log-uniform, at any number of steps."""
    for steps in (2, 3, 7, 30):
        assert_allclose(LOG_UNIFORM.resample(steps).sigmas[:-1], np.geomspace(80, 0.01, steps), rtol=1e-12)
    halves = INFINITE.resample(11).sigmas
    assert np.isinf(halves[0])
    assert 12 < halves[1] < np.inf


def test_resampling_says_where_it_came_from():
    karras = Schedule([2.0, 1.0, 0.5, 0.0], "karras", {"rho": 7.0})
    new = karras.resample(5)
    assert (new.family, new.options) == ("resampled", {"steps": 5, "of": {"family": "karras", "rho": 7.0}})


def test_resampling_one_step():
    one = Schedule([80.0, 0.0])
    assert one.resample(1) is one
    assert LOG_UNIFORM.resample(1).sigmas.tolist() == [80.0, 0.0]
    assert INFINITE.resample(1).sigmas.tolist() == [np.inf, 0.0]
    with pytest.raises(SigmaTuneError, match="one step holds a single level and cannot be resampled to 2 steps"):
        one.resample(2)


def test_resampling_rows_resamples_each_row():
    for steps in (1, 3, 9):
        together = ROWS.resample(steps)
        assert (together.rows, together.steps) == (3, steps)
        assert_array_equal(together.sigmas[:, 0], ROWS.sigmas[:, 0])
    finite = Schedule(ROWS.sigmas[[0, 2]])
    for row, sigmas in zip(finite.resample(9).sigmas, finite.sigmas, strict=True):
        assert_allclose(row, Schedule(sigmas).resample(9).sigmas, rtol=1e-12)


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, None, "4", np.nan])
def test_a_number_of_steps_is_a_whole_number_of_at_least_one(steps):
    for asks in (lambda: whole(steps, "steps"), lambda: LOG_UNIFORM.resample(steps)):
        with pytest.raises(SigmaTuneError, match="steps must be a whole number of at least 1, not"):
            asks()
    if steps is not None:
        with pytest.raises(SigmaTuneError, match="steps must be a whole number of at least 1, not"):
            LOG_UNIFORM.partial(1.0, steps)
    assert whole(np.int64(3), "steps") == 3


@given(schedules(), st.floats(0, 1), st.integers(1, 60))
def test_partial_starts_at_the_level_and_takes_exactly_the_steps(schedule, share, steps):
    low, high = schedule.sigmas[-2], min(schedule.sigmas[0], 1e6)
    sigma = float(np.exp((1 - share) * np.log(low) + share * np.log(high)).clip(low * 1.01, high))
    part = schedule.partial(sigma, steps)
    assert part.steps == steps
    assert part.sigmas[0] == sigma
    assert part.sigmas[-1] == 0
    if steps > 1:
        assert part.sigmas[-2] == low


@given(schedules(), st.integers(0, 38))
def test_partial_from_an_own_level_gives_the_rest_of_the_schedule(schedule, index):
    index = min(index, schedule.steps - 1)
    rest = schedule.sigmas[index:]
    assert_array_equal(schedule.partial(rest[0]).sigmas, rest)
    assert_allclose(schedule.partial(rest[0], schedule.steps - index).sigmas, rest, rtol=1e-9)


@given(schedules())
def test_partial_from_just_above_the_last_level(schedule):
    low = schedule.sigmas[-2]
    start = np.nextafter(low, np.inf)
    assert schedule.partial(start, 2).sigmas.tolist() == [start, low, 0.0]
    with pytest.raises(SigmaTuneError, match=r"appears twice|followed by the larger"):
        schedule.partial(start, 3)  # no room for a third level


def test_partial_keeps_the_levels_below_and_never_loses_the_last_step():
    part = INFINITE.partial(3.0)
    assert part.sigmas.tolist() == [3.0, 2.0, 0.75, 0.01, 0.0]
    assert (part.family, part.options["sigma"]) == ("partial", 3.0)
    assert INFINITE.partial(0.01).sigmas.tolist() == [0.01, 0.0]
    assert INFINITE.partial(0.01, 1).sigmas.tolist() == [0.01, 0.0]
    assert INFINITE.partial(np.inf) == dataclasses.replace(
        INFINITE, family="partial", options={"sigma": "inf", "of": {"family": "given"}}
    )


def test_partial_reads_the_curve_that_is_there():
    for steps in (2, 3, 10):
        assert_allclose(LOG_UNIFORM.partial(1.7, steps).sigmas[:-1], np.geomspace(1.7, 0.01, steps), rtol=1e-9)


@pytest.mark.parametrize("sigma", [80.1, 0.009, np.nan, np.inf, -1.0, 0.0])
def test_partial_refuses_levels_outside(sigma):
    with pytest.raises(SigmaTuneError, match=r"must lie in \[0.01, 80\]"):
        LOG_UNIFORM.partial(sigma)


def test_partial_refuses_what_has_no_answer():
    with pytest.raises(SigmaTuneError, match=r"only one step is left at the last level, 0\.01; ask for one step"):
        LOG_UNIFORM.partial(0.01, 2)
    with pytest.raises(SigmaTuneError, match="needs a shared schedule"):
        ROWS.partial(5.0)
