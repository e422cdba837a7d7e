"""What a call costs is said by one function, guidance intervals included."""

from __future__ import annotations

import pytest

from exact import PATHS, gaussian
from sigmatune import schedules
from sigmatune.cli.untuned import Untuned
from sigmatune.core import soundness
from sigmatune.core.guidance import Guided
from sigmatune.core.wrappers import Counted
from sigmatune.evaluation.leaderboard import entries
from sigmatune.plan import compile_plan, sample
from sigmatune.plan.calls import largest, most_per_call
from sigmatune.solvers import SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, tune

INTERVALS = [(0.0, float("inf")), (2.0, 20.0), (0.5, 0.9), (2.0, 2.0001), (90.0, 100.0)]
QUICK = TuningSettings(tuning=8, validation=8, held_out=8, evaluations=10, reference_steps=16, micro_batch=8)


def guided(interval, scale=3.0):
    return Guided(gaussian(), gaussian(), scale, interval)


def evaluations(model, plan):
    """Network evaluations per image, counted where they happen."""
    sides = [Counted(side) for side in (model.conditional, model.unconditional)]
    counted = Guided(*sides, model.scale, model.interval)
    soundness.check(counted)
    checked = sum(side.images for side in sides)
    sample(counted, plan, 1, micro_batch=1)
    return sum(side.images for side in sides) - checked


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp2m"])
def test_an_untuned_plan_costs_at_most_what_was_asked_and_not_less_than_it_could(solver, interval):
    model = guided(interval)
    for calls in (6, 8, 11):
        untuned = Untuned("x", solver, calls, "karras", "", [], "")
        plan = untuned.plan(model)
        assert evaluations(model, plan) == plan.network_calls(model) <= calls
        longer = compile_plan(schedules.build("karras", plan.steps + 1, model.path), solver, model)
        assert longer.network_calls(model) > calls


def test_one_step_that_costs_too_much_is_refused():
    with pytest.raises(SigmaTuneError, match="ask for more"):
        Untuned("x", "euler", 1, "karras", "", [], "").plan(guided((0.0, float("inf"))))
    with pytest.raises(SigmaTuneError, match="needs at least 1 network call"):
        Untuned("x", "euler", 0, "karras", "", [], "").plan(gaussian())


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_most_that_a_call_costs_is_found_in_any_interval(interval):
    assert most_per_call(guided(interval)) == (1 if interval[0] > 80 else 2)
    assert most_per_call(guided(interval, scale=1.0)) == 1
    assert most_per_call(Counted(guided(interval))) == most_per_call(guided(interval))
    infinite = Guided(gaussian(PATHS["flow"]), gaussian(PATHS["flow"]), 3.0, (5e3, float("inf")))
    assert most_per_call(infinite) == 2


def test_a_leaderboard_and_a_rival_keep_to_the_budget():
    model = guided((2.0, 20.0))
    families = [("karras", {}), ("log-uniform", {}), ("uniform-trailing", {})]
    for entry in entries(model, families, ["euler", "heun"], [6, 8]):
        assert entry.plan.network_calls(model) <= entry.budget
        assert SOLVERS[entry.solver].calls(entry.plan.steps) > entry.budget / 2 - 2


def test_a_number_of_steps_that_is_not_defined_is_passed_over():
    model = guided((2.0, 20.0))

    def build(steps):
        if steps > 3:
            raise SigmaTuneError("not so many.")
        return compile_plan(schedules.build("karras", steps, model.path), "euler", model)

    assert largest(build, SOLVERS["euler"], 8, model).steps == 3


@pytest.mark.parametrize("method", ["search", "discretisation", "trajectory", "gradient"])
def test_the_total_of_a_guided_tuning_is_what_was_counted(method):
    sides = [Counted(gaussian(size=4)) for _ in range(2)]
    model = Guided(*sides, 3.0, (0.5, 20.0))
    plan = tune(model, 6, solver="euler", method=method, settings=QUICK, progress=False)
    assert plan.network_calls(model) <= 6
    spent = plan.cost["network_evaluations"]
    # A gradient counts three per image, forward and twice back; one of them passes through the counters.
    assert spent["total"] - spent.get("gradient", 0) * 2 // 3 == sum(side.images for side in sides)
    assert spent["total"] == sum(count for purpose, count in spent.items() if purpose != "total")
