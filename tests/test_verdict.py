"""One verdict over all figures by the stated rule, intervals inside what a figure can be, and hints."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sigmatune.cli.evaluation_options import table
from sigmatune.evaluation.metrics import METRICS
from sigmatune.evaluation.record import EvaluationSettings, Figure
from sigmatune.evaluation.verdict import beside, hints, verdict
from sigmatune.statistics.jackknife import Estimate

FOLDS = np.linspace(-1, 1, 20)


def figure(value, *, spread=0.001, name="fd", better="lower", space="head", n=5000):
    """A figure whose value without a fold differs from it by up to a spread."""
    settings = EvaluationSettings(n, None, {"name": "x"}, space, {"seed": 0}, "float32", {})
    return Figure(name, better, Estimate(value, tuple(value + spread * FOLDS)), settings)


def said(*pairs):
    """The verdict over figures of a plan and its rival; the rival's folds vary the other way, so nothing cancels."""
    ours = [figure(a, space=f"s{i}") for i, (a, _) in enumerate(pairs)]
    theirs = [figure(b, spread=-0.001, space=f"s{i}") for i, (_, b) in enumerate(pairs)]
    return verdict(beside(ours, theirs), "karras")


def test_the_verdict_follows_the_rule():
    assert said((1, 2), (1, 1)).startswith(
        "gain: 1 of 2 figures significantly better than karras's, none worse (fd s0 1 against 2)"
    )
    assert said((2, 1), (1, 1)).startswith("no gain: 1 of 2 figures significantly worse")
    assert said((1, 1.0001)).startswith("no gain: none of 1 figure differs")
    contradiction = said((1, 2), (2, 1), (1, 1))
    assert contradiction.startswith("contradiction: of 3 figures")
    assert "fd s0 1 against 2" in contradiction
    assert "fd s1 2 against 1" in contradiction


def test_higher_may_be_better():
    ours = figure(0.9, name="precision", better="higher")
    theirs = figure(0.5, name="precision", better="higher", spread=-0.001)
    assert beside([ours], [theirs])[0].side == "better"
    assert beside([theirs], [ours])[0].side == "worse"


def test_many_figures_are_corrected_for_their_number():
    """A difference of 2.3 standard errors is significant alone and not among ten."""
    error = np.sqrt(19 * np.var(2 * 0.001 * FOLDS))
    close = (1.0, 1.0 + 2.3 * error)
    assert said(close).startswith("gain")
    assert said(close, *[(1, 1)] * 9).startswith("no gain: none")


def test_equal_images_do_not_differ():
    same = figure(1.0)
    (pair,) = beside([same], [same])
    assert (pair.p, pair.side) == (1.0, "level")
    assert verdict([pair, pair], "karras") == (
        "no gain: 2 figures equal karras's to the last digit; both plans drew the same images."
    )
    assert "same images" not in said((1, 1.0001))


def test_the_table_fits_a_narrow_terminal(monkeypatch, capsys):
    """Columns that do not fit lose letters, and head-pca64 is not head-pca128."""
    monkeypatch.setenv("COLUMNS", "80")
    spaces = ("projections", "head-pca64", "head-pca128")
    ours, theirs = (
        [figure(v, name="precision", better="higher", space=s, n=10_000) for s in spaces] for v in (0.91234, 0.5)
    )
    table(ours, beside(ours, theirs))
    said = capsys.readouterr().out
    for space in spaces:
        (row,) = (line for line in said.splitlines() if space in line)
        assert row.split()[0] == "precision"
        assert row.split()[-1] == "better"
    assert len(said.strip().splitlines()) == len(spaces) + 4, "a row is a line, below four lines of a heading"


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.title)
def test_intervals_end_where_a_figure_does(metric):
    for name, (low, high) in metric.bounds.items():
        assert name in metric.better
        wide = Estimate(min(low + 0.9, high), tuple(0.9 + 5 * FOLDS), (low, high)).interval
        assert low <= wide[0] <= wide[1] <= high
    if "precision" in metric.better:
        assert metric.bounds["precision"] == metric.bounds["recall"] == metric.bounds["coverage"] == (0.0, 1.0)
    if "fd" in metric.better:
        assert metric.bounds["fd"] == (0.0, math.inf)


def test_alarming_figures_get_a_hint():
    assert hints([figure(1.0), figure(0.5, name="recall", better="higher")]) == []
    told = hints([figure(1.0, n=40), figure(0.0045, name="recall", better="higher"), figure(0.02, name="coverage")])
    assert "40 images" in told[0]
    assert told[1].startswith("recall 0.0045 in head: the images reach hardly any")
    assert told[2].startswith("coverage 0.02")
