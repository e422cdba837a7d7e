"""Efforts: how many noises, what a search may spend, and that asking for something overrides them."""

from __future__ import annotations

from pathlib import Path

import pytest

from exact import gaussian
from sigmatune import SigmaTuneError, load_plan, tune
from sigmatune.tuning import TuningSettings
from sigmatune.tuning.budget import TUNING
from sigmatune.tuning.effort import EFFORTS


def spent(plan):
    return sum(plan.cost["network_evaluations"].get(purpose, 0) for purpose in TUNING)


def rows(plan):
    return {split: pair[1] - pair[0] for split, pair in plan.evidence["rows"].items() if split != "seed"}


@pytest.mark.parametrize("name", ["low", pytest.param("normal", marks=pytest.mark.slow)])
def test_a_search_keeps_to_the_limit_of_its_effort(name):
    effort = EFFORTS[name]
    plans = tune(gaussian(), [4, 6], solver="euler", effort=name)
    assert sum(map(spent, plans.values())) <= 2 * effort.search
    assert sum(map(spent, plans.values())) > effort.search / 4
    assert rows(plans[6]) == {split: getattr(effort.settings, split) for split in ("tuning", "validation", "held_out")}


def test_limits_are_for_the_method_that_chooses_its_stages():
    normal = EFFORTS["normal"]
    assert normal.budget(3, method="auto", coefficients=False) == 3 * normal.search
    assert normal.budget(3, method="gradient", coefficients=False) is None
    assert normal.budget(3, method="auto", coefficients=True) is None
    assert EFFORTS["high"].budget(1, method="auto", coefficients=False) is None


def test_what_is_asked_for_comes_before_the_effort():
    few = TuningSettings(tuning=8, validation=8, held_out=8, reference_steps=8, micro_batch=8)
    plan = tune(gaussian(), 3, solver="euler", effort="high", settings=few, budget=400)
    assert rows(plan) == {"tuning": 8, "validation": 8, "held_out": 8}
    assert spent(plan) <= 400


def test_the_command_takes_an_effort_and_numbers_beside_it(run, tmp_path, tiny):
    code, _, err = run("tune", tiny, "--calls", 3, "--effort", "low", "--held-out", 8, "--micro-batch", 8, "--no-report",
                       "--method", "static", "-o", tmp_path / "p.json")  # fmt: skip
    assert code == 0, err
    assert rows(load_plan(tmp_path / "p.json")) == {"tuning": 16, "validation": 16, "held_out": 8}
    code, _, err = run("tune", tiny, "--effort", "lots", "-o", tmp_path / "q.json")
    assert code == 2
    assert "there is no effort 'lots'" in err
    assert not (tmp_path / "q.json").exists()


def test_an_unknown_effort_is_refused():
    with pytest.raises(SigmaTuneError, match="there is no effort"):
        tune(gaussian(), 3, effort="some")


def test_the_page_has_the_numbers_of_the_code():
    text = (Path(__file__).parent.parent / "docs" / "tuning.md").read_text()
    for name, effort in EFFORTS.items():
        s, limit = effort.settings, "no limit" if effort.search == float("inf") else f"at most {effort.search:,}"
        assert f"| {name} | {s.tuning}, {s.validation}, {s.held_out} | {s.reference_steps} | {limit} |" in text
