"""Both numbers of a plan's evidence: what leads, what old files have, and what is said where the two disagree."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.both_numbers import both_numbers

ENERGY, SLICED = "squared energy distance", "squared sliced Wasserstein distance"


def evidence(error=(0.82, 0.77, 0.87), sets=(0.25, 1.0), p=0.99, **more):
    """What the guard wrote: the error's ratio, and the distances of plan and baseline."""
    value, low, high = error
    plan, baseline = sets
    distances = {ENERGY: {"plan": plan, "baseline": baseline}, SLICED: {"plan": 1.0, "baseline": 2.0}, **more}
    tests = [{"name": name, "p": p, "plan": one["plan"], "rival": one["baseline"]} for name, one in distances.items()]
    return {
        "error_ratio": {"value": value, "low": low, "high": high},
        "sets": {"space": "whitened", "rows": 48, **distances},
        "no_loss": {"tests": tests},
    }


def test_the_energy_distance_leads_by_its_root():
    both = both_numbers(evidence(sets=(0.25, 1.0)))
    assert (both.error, both.low, both.high) == (0.82, 0.77, 0.87)
    assert both.sets == 0.5
    assert both.distance == "energy distance"
    assert both.large == "18% less error, 50% nearer as a set"
    assert (both.shown_error, both.shown_sets) == ("0.82 (0.77-0.87)", "0.50")
    assert "0.50 times as far" in both.sentence
    assert "energy distance, 48 noises; significantly nearer" in both.sentence
    assert both.contradiction == ""
    assert both.to_dict()["set_ratio"] == {"value": 0.5, "distance": "energy distance", "rows": 48, "significant": True}


def test_a_frechet_distance_leads_where_there_is_one_and_has_no_root():
    spaces = {f"Frechet distance in {name}": {"plan": 14.0, "baseline": 25.0} for name in ("block10", "head-pca64")}
    both = both_numbers(evidence(**spaces))
    assert both.distance == "Frechet distance in block10"
    assert both.sets == pytest.approx(0.56)
    assert both.large == "18% less error, 44% nearer as a set"


@pytest.mark.parametrize(
    ("error", "sets", "p", "large", "said"),
    [
        ((0.8, 0.7, 0.9), (1.44, 1.0), 0.001, "20% less error, but 20% farther as a set",
         "contradict each other: the error is smaller, the set farther, both significantly."),
        ((0.8, 0.7, 0.9), (1.44, 1.0), 0.2, "20% less error, but 20% farther as a set (not significantly)",
         "contradict each other: the error is smaller, the set farther; only the error differs significantly."),
        ((1.1, 0.9, 1.3), (0.81, 1.0), 0.99, "10% more error, but 10% nearer as a set",
         "contradict each other: the error is larger, the set nearer; only the distance of sets differs significantly."),
        ((0.9, 0.7, 1.2), (1.21, 1.0), 0.3, "10% less error, but 10% farther as a set (not significantly)",
         "opposite directions (the error is smaller, the set farther), neither of them significantly."),
        ((0.8, 0.7, 0.9), (1.001, 1.0), 0.4, "20% less error, equally near as a set", ""),
        ((1.0, 1.0, 1.0), (1.0, 1.0), 1.0, "equal error, equally near as a set", ""),
    ],
)  # fmt: skip
def test_a_contradiction_is_said_plainly(error, sets, p, large, said):
    both = both_numbers(evidence(error, sets, p))
    assert both.large == large
    assert both.contradiction.endswith(said)
    assert both.opposite is bool(said)
    assert both.sentence.endswith(said)


def test_a_distance_that_few_rows_cannot_see():
    both = both_numbers(evidence(sets=(-1e-4, 0.01)))
    assert (both.sets, both.large) == (0.0, "18% less error, no measurable distance as a set")
    for baseline in (-1e-4, 0.0, 1e-14):
        assert both_numbers(evidence(sets=(1e-15, baseline))).sets is None


def test_older_plans_have_the_error_alone():
    old = {"error_ratio": {"value": 0.82, "low": 0.77, "high": 0.87}}
    both = both_numbers(old)
    assert (both.large, both.shown_sets, both.sentence) == ("18% less error", "-", "")
    assert both.to_dict() == {"error_ratio": old["error_ratio"], "set_ratio": None, "contradict": False}
    untested = {**evidence(), "no_loss": {}}
    assert "not significantly nearer" in both_numbers(untested).sentence


@pytest.mark.parametrize("none", [None, {}, {"verdict": "gain: by images"}])
def test_without_pairs_there_are_no_numbers(none):
    assert both_numbers(none) is None


@pytest.mark.parametrize(
    "broken",
    [
        {"error_ratio": 0.8},
        {"error_ratio": {"value": "x", "low": 1, "high": 1}},
        {**evidence(), "sets": [1]},
        {**evidence(), "sets": {ENERGY: {"plan": 1.0, "baseline": 2.0}}},
        {**evidence(), "no_loss": {"tests": [3]}},
    ],
)
def test_foreign_evidence_is_refused_in_one_sentence(broken):
    with pytest.raises(SigmaTuneError, match="none that SigmaTune wrote"):
        both_numbers(broken)


def test_the_headline_table_has_both_numbers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent.parent / "tools"))
    from doc_tables.headline import headline_table

    spent = {"total": 1234}
    shared = {"model": "digits", "solver": "euler", "rows": 48, "evaluations": spent}
    cells = [
        {**shared, **both_numbers(evidence(*numbers)).to_dict(), "tuned": kind, "calls": calls, "gain": gain}
        for kind, calls, gain, numbers in [
            ("levels", 4, True, ((0.8, 0.7, 0.9), (0.25, 1.0), 0.999)),
            ("levels", 6, False, ((0.98, 0.9, 1.1), (1.44, 1.0), 0.001)),
            ("levels and coefficients", 4, True, ((0.5, 0.4, 0.6), (1.21, 1.0), 0.2)),
            ("levels and coefficients", 6, True, ((0.5, 0.4, 0.6), (1.0, 0.0), 1.0)),
        ]
    ]
    made = {"date": "2026-01-01", "benchmark": "benchmarks/headline.py", "machine": {"torch": "2"}}
    lines = headline_table({"cells": cells, **made}).splitlines()
    first = "| digits | Euler / DDIM | levels | **0.80 (0.70-0.90); 0.50+** | no gain: 0.98 (0.90-1.10); 1.20- |"
    assert lines[2] == f"{first} 1,234 to 1,234 |"
    assert "| **0.50 (0.40-0.60); 1.10** | **0.50 (0.40-0.60)** |" in lines[3]
    assert "energy distance, tuned over best static default, on 48 held-out noises" in lines[-1]
    assert "point in opposite directions: 1." in lines[-1]
