"""The paired errors of a leaderboard: whose they are, on which noises, and what is said where two rankings disagree."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from exact import gaussian
from sigmatune import compile_plan, measures, schedules
from sigmatune.evaluation.execution import Execution
from sigmatune.evaluation.generation import end_points
from sigmatune.evaluation.leaderboard import Entry, Row, to_dict, two_rankings, without_error
from sigmatune.evaluation.paired_distance import FIRST, UNSETTLED, paired, together
from sigmatune.evaluation.record import EvaluationSettings, Figure
from sigmatune.noise import vp
from sigmatune.plan.reference import reference_plan
from sigmatune.report.leaderboard_page import headline
from sigmatune.statistics.jackknife import Estimate
from sigmatune.support.errors import SigmaTuneError
from sigmatune.workflows.paired_errors import asked_for, unseen, with_errors

SETTINGS = EvaluationSettings(64, None, {}, "block10", {"seed": 0}, "torch.float32", {})


@pytest.fixture(scope="module")
def model():
    return gaussian(vp())


def plan(model, solver="euler", family="karras", steps=4):
    built = compile_plan(schedules.build(family, steps, model.path), solver, model)
    return dataclasses.replace(built, micro_batch=8)


def figure(value, width, seed, name="fd"):
    """A figure whose folds differ by so much."""
    left = value + width * np.random.default_rng(seed).standard_normal(20)
    return Figure(name, "lower", Estimate(value, tuple(left.tolist())), SETTINGS)


def row(name, fd, error, *, width=1e-3, model_plan=None):
    """A row by its two numbers; all differences are significant unless the folds are wide."""
    seed = sum(map(ord, name))
    errors = None if error is None else figure(error, width, seed + 1, "paired")
    why = "" if error is not None else "it adds noise"
    return Row(Entry(name, "euler", 4, model_plan), 4, [figure(fd, width, seed)], errors, why)


def test_two_rankings_that_agree():
    (said,) = two_rankings([row("a", 1.0, 0.1), row("b", 2.0, 0.2), row("c", 3.0, 0.3)])
    assert said.startswith("4 calls, paired error: a with euler is best, 0.1 (")
    assert said.endswith("), as by fd.")


def test_the_headline_names_the_best_of_each_budget_and_where_the_error_disagrees():
    def entry(name, budget, error):
        return {"name": name, "solver": "euler", "budget": budget, "paired": error and {"value": error}}

    rows = [entry("a", 4, 0.1), entry("b", 4, 0.2), entry("a", 8, 0.3), entry("b", 8, 0.2), entry("b", 10, 0.1)]
    assert headline(rows[:2]) == "Best: a with euler at 4 calls"
    assert (
        headline(rows) == "Best: a with euler at 4, 8 calls; b with euler at 10 calls; the paired error disagrees at 8"
    )
    assert headline([entry("a", 4, None), entry("b", 4, None)]) == "Best: a with euler at 4 calls"


def test_two_rankings_that_contradict_each_other():
    (said,) = two_rankings([row("a", 1.0, 0.3), row("b", 2.0, 0.2), row("c", 3.0, 0.1)])
    assert "c with euler is best, 0.1 (" in said
    assert "a with euler, best by fd, has 0.3; the two rankings contradict each other, both significantly" in said
    assert said.endswith("fd and error order 3 of 3 pairs oppositely, 3 of them significantly by both.")
    (said,) = two_rankings([row("a", 1.0, 0.3, width=1.0), row("b", 2.0, 0.2, width=1.0)])
    assert "contradict each other, but not both significantly" in said
    assert said.endswith("1 of 1 pairs oppositely, 0 of them significantly by both.")


def test_entries_without_an_error(model):
    rows = [row("a", 1.0, None, model_plan=plan(model)), row("b", 2.0, 0.2, model_plan=plan(model))]
    (said,) = two_rankings(rows)
    assert said.endswith("a with euler, best by fd, has no paired error.")
    assert two_rankings(rows[:1]) == []
    assert without_error(rows) == ["No paired error (a in 4 calls): it adds noise."]
    first, second = to_dict(rows, model)["rows"]
    assert (first["paired"], first["unpaired"]) == (None, "it adds noise")
    assert second["paired"]["value"] == 0.2
    assert second["unpaired"] == ""


def test_errors_are_of_one_measure_one_reference_and_the_noises_behind_a_tuning(model, tmp_path):
    tuned = plan(model).with_notes(evidence={"rows": {"seed": 0, "tuning": [0, 4], "held_out": [4, 8]}})
    plans = {
        "tuned": tuned,
        "noisy": plan(model, "ancestral"),
        "phase": plan(model),
        "fine": plan(model, "dpmpp2m", steps=24),
    }
    plans["phase"] = dataclasses.replace(plans["phase"], solver="reduced-oba")
    entries = [Entry(name, one.solver, 4, one) for name, one in plans.items()]
    rows = with_errors(model, [Row(entry, 4, []) for entry in entries], 8, Execution(folder=tmp_path))
    found = {row.entry.name: row for row in rows}
    assert "adds noise" in found["noisy"].unpaired
    assert "phase space" in found["phase"].unpaired
    assert found["noisy"].paired is found["phase"].paired is None
    settings = found["tuned"].paired.settings
    assert settings.seeds == {"seed": 0, "indices": [8, 16]}
    assert settings == found["fine"].paired.settings, "else they could not be compared"
    exact = end_points(model, reference_plan(model, FIRST), range(8, 16))
    measure = measures.fit("whitened", exact, model)
    assert settings.extractor["measure"]["digest"] == measure.digest()
    (again,) = together(model, [tuned], range(8, 16), measure=measure)
    assert again.estimate.value == pytest.approx(found["tuned"].paired.estimate.value, rel=0.02)
    assert found["fine"].paired.estimate.value < found["tuned"].paired.estimate.value
    assert unseen(entries, 1) == 0, "of another seed every noise is new"
    for foreign in (3, {"seed": 0, "tuning": [4]}, {"seed": 0, "tuning": 7}, {"seed": 0, "tuning": [0, 10**30]}):
        assert unseen([Entry("x", "euler", 4, plan(model).with_notes(evidence={"rows": foreign}))], 0) == 0


def test_a_reference_that_is_too_coarse_for_one_entry(model, monkeypatch):
    monkeypatch.setattr("sigmatune.evaluation.paired_distance.LAST", FIRST)
    rows = with_errors(model, [Row(Entry("a", "euler", 4, plan(model)), 4, [])], 4)
    assert (rows[0].paired, rows[0].unpaired) == (None, UNSETTLED)
    with pytest.raises(SigmaTuneError, match="did not converge"):
        paired(model, plan(model), 4)


def test_how_many_noises():
    assert [asked_for(64, 2000), asked_for(64, 20), asked_for(0, 20)] == [64, 20, 0]
    for wrong in (-1, 3, 257):
        with pytest.raises(SigmaTuneError, match="of 4 to 256 noises, or of 0 for none"):
            asked_for(wrong, 2000)


def test_the_page_names_the_leaders_shows_images_and_no_raw_json(model):
    import torch

    from sigmatune.report.leaderboard_page import page

    rows = [row("a", 1.0, 0.1, model_plan=plan(model)), row("b", 2.0, 0.05, model_plan=plan(model))]
    fields = to_dict(rows, model, source="x", n=8, seed=0)
    for one in fields["rows"]:
        one["paired"]["settings"]["seeds"] = {"seed": 0, "indices": [0, 8]}
    text = page(fields, [("4 calls, best: a", torch.zeros(2, 3, 4, 4))])
    assert "Best: a with euler at 4 calls; the paired error disagrees at 4" in text
    assert text.count("data:image/png") == 2
    assert "&quot;" not in text.partition("<h2>What the figures are</h2>")[2], "a table, not JSON"
    assert "<script" not in text


def test_entries_of_one_number_of_calls_are_drawn_in_order_and_those_of_several_as_curves(model):
    from sigmatune.report.leaderboard_charts import MOST, charts

    rows = [row(f"s{i}", 1.0 + i, 0.1, model_plan=plan(model)) for i in range(MOST + 3)]
    fields = to_dict(rows, model, source="x", n=8, seed=0)["rows"]
    title, drawn = charts(fields)
    assert title == "Quality at 4 calls"
    names = [f"s{i}, euler" for i in range(MOST + 3)]
    places = [drawn.find(f">{name}<") for name in names[:MOST]]
    assert places == sorted(places)
    assert -1 not in places
    assert all(f">{name}<" not in drawn for name in names[MOST:])
    assert f"The best {MOST} of {MOST + 3}" in drawn
    assert "table has all" not in charts(fields[:3])[1]
    title, drawn = charts([*fields[:2], {**fields[2], "calls": 8, "name": "s0"}])
    assert title == "Quality against calls"
    assert "<h3>euler</h3>" in drawn


@pytest.mark.parametrize("narrow", [False, True])
def test_an_entry_is_drawn_at_its_value_with_its_interval(model, monkeypatch, narrow):
    from matplotlib.figure import Figure as Drawing

    from sigmatune.report import leaderboard_charts

    rows = [row(f"s{i}", 1.0 + i, 0.1, width=0.01 + 0.01 * i, model_plan=plan(model)) for i in range(3)]
    fields, drawing, drawn = to_dict(rows, model, source="x", n=8, seed=0)["rows"], Drawing(), []
    fields[0]["figures"][0] |= {"low": 0.9, "high": 1.3}  # longer to the right
    monkeypatch.setattr(leaderboard_charts, "chart", lambda draw, *_: drawn.append(draw) or "")
    leaderboard_charts.charts(fields)
    drawn[0](drawing, narrow)
    axis = drawing.axes[0]
    spans = [bar.get_segments()[0].tolist() for bar in axis.collections]
    figures = [one["figures"][0] for one in fields]
    assert spans == [[[pytest.approx(f["low"]), i], [pytest.approx(f["high"]), i]] for i, f in enumerate(figures)]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines]
    assert points == [(f["value"], i) for i, f in enumerate(figures)]
    assert axis.get_ylim()[0] > axis.get_ylim()[1], "the best on top"
