"""What tuning may spend."""

from datetime import timedelta

import pytest

from exact import gaussian
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench, tune
from sigmatune.tuning.baseline import best_default
from sigmatune.tuning.budget import Allowance, Budget
from sigmatune.tuning.forecast import payable_defaults
from sigmatune.tuning.time_budget import untested


@pytest.mark.parametrize(
    ("given", "evaluations", "seconds"),
    [
        (20_000, 20_000, float("inf")), ("20000", 20_000, float("inf")), ("20_000", 20_000, float("inf")),
        ("300s", float("inf"), 300), ("5min", float("inf"), 300), ("1.5h", float("inf"), 5400),
        (timedelta(minutes=2), float("inf"), 120), (None, float("inf"), float("inf")), (Budget(5), 5, float("inf")),
    ],
)  # fmt: skip
def test_budgets_are_numbers_or_times(given, evaluations, seconds):
    assert Budget.of(given) == Budget(evaluations, seconds)


@pytest.mark.parametrize("given", [0, -5, "0s", "ten", "5 days", 2.5, "2.5", True, "-3s", "nan", ""])
def test_anything_else_is_refused(given):
    with pytest.raises(SigmaTuneError, match="a budget is a number of network evaluations"):
        Budget.of(given)


def test_an_allowance_is_what_is_left_and_can_be_shared():
    bench = Workbench(gaussian())
    bench.spend("search", 77)
    whole = Allowance(bench, Budget(1000))
    bench.spend("search", 100)
    bench.spend("reference", 5000)  # the price of the evidence
    assert whole.evaluations == 900
    assert whole.pays(900)
    assert not whole.pays(901)
    part = whole.share(0.5, besides=300)
    assert part.evaluations == 600
    bench.spend("gradient", 250)
    assert (part.evaluations, whole.evaluations) == (350, 650)
    assert whole.share(0.5, besides=5000).evaluations == 650  # never more than there is
    assert not Allowance(bench, Budget(seconds=1e-9)).pays(1)
    assert Allowance(bench, Budget()).pays(10**12)


@pytest.mark.parametrize(
    ("evaluations", "some"), [(10**6, 99), (801, 17), (800, 17), (320, 2), (319, 0), (60, 0), (0, 0)]
)
def test_as_many_defaults_are_compared_as_the_limit_pays_for(evaluations, some):
    """References: 16 noises in 16 calls; then 4 calls for each of 8 noises of a default."""
    bench = Workbench(gaussian(), TuningSettings(tuning=8, validation=8, held_out=8, micro_batch=8, reference_steps=16))
    every = len(best_default(Workbench(gaussian(), bench.settings), 4, "euler").scores)
    payable = payable_defaults(bench, 4, "euler", evaluations)
    assert payable == min(some, every)
    if payable:
        rival = best_default(bench, 4, "euler", most=payable)
        assert len(rival.scores) == payable
        assert bench.spent("reference", "guard") == 256 + 32 * payable <= evaluations
        assert f"is the best of {payable} on 8 noises" in untested(bench, rival).evidence["verdict"]


def test_a_time_is_kept():
    settings = TuningSettings(
        tuning=8, validation=8, held_out=8, micro_batch=8, evaluations=100_000, reference_steps=16
    )
    plan = tune(gaussian(), calls=4, solver="euler", method="search", settings=settings, budget="1s")
    assert plan.evidence["verdict"]
    assert sum(stage["seconds"] for stage in plan.cost["stages"]) < 20


LOOKS = {"search": (0, 1, 2, 4, 7, 10, 13, 14), "auto": (13, 16, 19, 22)}
"""How many looks at the clock still find time left. The next one is: before the stages, before a proposal is measured, in the
search; and of the stages that "auto" has besides, for a proposal, before a stage, in the surrogate, and in the gradient."""


@pytest.mark.parametrize("method", LOOKS)
def test_a_plan_comes_back_wherever_the_time_ends(method, monkeypatch, little):
    """A machine may be held up between any two looks at the clock; each of them may be the one that finds no time left."""
    settings = TuningSettings(tuning=8, validation=8, held_out=8, micro_batch=8, evaluations=20, reference_steps=16)
    options = {"method": method, "settings": settings, "budget": "1h", "progress": False}
    pays, looks = Allowance.pays, 0

    def look(self, evaluations):
        nonlocal looks
        looks += 1
        return looks <= last and pays(self, evaluations)

    monkeypatch.setattr(Allowance, "pays", look)
    for last in LOOKS[method]:
        looks = 0
        plan = tune(gaussian(size=4), calls=3, solver="euler", **options)
        assert plan.calls == 3
        assert plan.evidence["verdict"]
        assert looks > last
