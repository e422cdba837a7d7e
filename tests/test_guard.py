"""Laws of the guard's second half: a plan that loses what its typical error does not see is refused, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from engine_pieces import Counted
from exact import gaussian
from sigmatune import schedules, tune
from sigmatune.core.schedule import Schedule
from sigmatune.measures import fit
from sigmatune.models.analytic import GaussianMixture
from sigmatune.noise import VE
from sigmatune.plan import file as plan_file
from sigmatune.plan import sample
from sigmatune.statistics.energy import distances, mean_of_pairs, pair_terms
from sigmatune.statistics.holm import holm
from sigmatune.statistics.jackknife import Estimate
from sigmatune.statistics.sliced import projected, sliced_wasserstein, squared
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench, baseline, frechet_sets, guard
from sigmatune.tuning.guard import Judged, judge
from sigmatune.tuning.guard_evidence import evidence, statement, verdict
from sigmatune.tuning.no_loss import FALSE_ALARMS, MARGIN, MEAN, EndPoints, chance, compared, losses, worst

QUICK = TuningSettings(tuning=16, validation=16, held_out=96, evaluations=10, reference_steps=16, micro_batch=32)
NAMES = [
    "mean error",
    "mean of the worst 10% of errors",
    "squared energy distance",
    "squared sliced Wasserstein distance",
]


def ends_of(plan, rival, exact):
    """End points with their root mean square errors."""
    errors = tuple((x - exact).square().mean(dim=1).sqrt().numpy() for x in (plan, rival))
    return EndPoints(plan, rival, exact, errors)


def found_by(plan, rival, exact):
    return losses(fit("rms", exact), ends_of(plan, rival, exact))


def two_modes(rows=96, share=0.06, seed=0):
    """A main mode and a rare one far away: (samples, which are of the rare one)."""
    rng = np.random.default_rng(seed)
    rare = np.arange(rows) % round(1 / share) == 0
    x = rng.normal(0, 0.3, (rows, 2)) + np.where(rare, 5.0, 0.0)[:, None]
    return torch.from_numpy(x), torch.from_numpy(rare)


def disturbed(x, size, seed):
    return x + torch.from_numpy(np.random.default_rng(seed).normal(0, size, tuple(x.shape)))


# --------------------------------------------------------------------------------------------------------------- the laws


def test_a_plan_that_loses_a_rare_mode_is_refused():
    exact, rare = two_modes()
    plan, rival = disturbed(exact, 0.01, 1), disturbed(exact, 0.03, 2)
    plan[rare] -= 5.0
    found = {loss.name: loss for loss in found_by(plan, rival, exact)}
    assert list(found) == NAMES
    errors = ends_of(plan, rival, exact).errors
    assert np.median(errors[0] / errors[1]) < 0.5, "typically it is much better"
    assert found["mean error"].lost
    assert found["mean of the worst 10% of errors"].lost
    assert found["mean error"].plan == pytest.approx(errors[0].mean())
    assert not any(loss.lost for loss in found_by(rival, plan, exact))


def test_a_plan_without_contrast_is_refused():
    """Every row is nearer than the rival's, but all of them lie too near the middle."""
    exact = torch.from_numpy(np.random.default_rng(0).normal(size=(96, 3)))
    plan, rival = 0.8 * exact, disturbed(exact, 0.25, 1)
    errors = ends_of(plan, rival, exact).errors
    assert errors[0].mean() < errors[1].mean()
    lost = [loss.name for loss in found_by(plan, rival, exact) if loss.lost]
    assert lost == NAMES[2:]


def test_a_plan_that_is_the_rival_loses_nothing():
    exact, _ = two_modes()
    rival = disturbed(exact, 0.1, 1)
    for loss in found_by(rival.clone(), rival, exact):
        assert (loss.difference.value, loss.p, loss.adjusted, loss.lost) == (0.0, 1.0, 1.0, False)


def test_a_plan_that_is_better_in_everything_passes():
    exact, _ = two_modes()
    found = found_by(disturbed(exact, 0.02, 1), disturbed(exact, 0.2, 2), exact)
    assert all(loss.difference.value < 0 and loss.p > 0.5 for loss in found)


def test_false_alarms_are_as_rare_as_stated():
    """Plan and rival of one distribution: something is called lost in at most a tenth of the sets, and not in none."""
    sets, alarms = 150, 0
    rng = np.random.default_rng(0)
    for _ in range(sets):
        exact = torch.from_numpy(rng.normal(size=(64, 2)))
        sides = [exact + torch.from_numpy(rng.normal(size=(64, 2)) * rng.lognormal(-1, 1, (64, 1))) for _ in range(2)]
        alarms += any(loss.significant for loss in found_by(*sides, exact))
    assert 1 <= alarms <= stats.binom.ppf(0.999, sets, FALSE_ALARMS)


def test_the_correction_is_for_several_tests():
    estimate = Estimate(1.0, tuple(1.0 + 0.12 * np.sin(np.arange(20))))
    p = chance(estimate)
    assert p == pytest.approx(stats.t.sf(1.0 / estimate.error, 19))
    assert chance(Estimate(-1.0, estimate.left)) == pytest.approx(1 - p)
    assert chance(Estimate(1.0, (1.0,) * 20)) == 0.0
    rows = np.random.default_rng(0).normal(0, 1, 96)
    rows += 0.2 - rows.mean()  # two standard errors
    one = ("a", (lambda kept: float(rows[kept].mean()), lambda kept: 0.0))
    alone, among = compared([one], 96)[0], compared([one] * 6, 96)[0]
    assert among.p == alone.p
    assert among.adjusted == pytest.approx(6 * alone.p)
    assert (alone.lost, among.lost) == (True, False)


@pytest.mark.parametrize(("larger", "lost"), [(0.9, False), (1.1, True)])
def test_a_mean_that_is_larger_by_the_margin_counts_without_being_significant(larger, lost):
    rng = np.random.default_rng(0)
    rival = rng.lognormal(0, 1, 96)
    plan = rival * rng.lognormal(0, 0.3, 96)
    plan *= rival.mean() * (1 + larger * MARGIN) / plan.mean()
    mean = compared([(MEAN, (lambda rows: float(plan[rows].mean()), lambda rows: float(rival[rows].mean())))], 96)[0]
    assert (mean.significant, mean.lost) == (False, lost)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_the_upper_tail():
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert worst(errors) == pytest.approx(np.mean(np.arange(91, 101)))
    assert worst(np.arange(1.0, 16.0)) == pytest.approx((15 + 14 / 2) / 1.5)
    assert worst(np.array([3.0, 1.0, 2.0])) == 3.0


# ----------------------------------------------------------------------------------------------------------- energy distance


def test_the_energy_distance_is_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 1)), rng.normal(0.5, 2, size=(30, 1))
    terms = pair_terms(torch.from_numpy(x), torch.from_numpy(y))
    assert np.array_equal(terms, terms.T)
    with_own_pairs = (terms.sum() + 2 * np.abs(x - y).sum()) / 30**2
    assert with_own_pairs == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0]) ** 2)
    some = np.arange(0, 30, 2)
    assert mean_of_pairs(terms, some) == pytest.approx(
        mean_of_pairs(pair_terms(torch.from_numpy(x[some]), torch.from_numpy(y[some])), np.arange(15))
    )


def test_the_energy_distance_is_unbiased_although_rows_are_coupled():
    """x is a reflection of y row by row, and of one distribution: distance 0, of either sign in a sample."""
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        y = torch.from_numpy(rng.normal(size=(12, 2)))
        found.append(mean_of_pairs(pair_terms(-y, y), np.arange(12)))
    assert abs(np.mean(found)) < 3 * np.std(found) / 300**0.5
    assert min(found) < 0 < max(found)


def test_distances_in_blocks(monkeypatch):
    x = torch.randn(5, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).flatten(1)
    whole = distances(x, x[:4])
    monkeypatch.setattr("sigmatune.statistics.energy.BLOCK", 4)
    assert distances(x, x[:4]) == pytest.approx(whole, abs=1e-7)
    assert whole == pytest.approx(torch.cdist(x, x[:4]).numpy() / 21**0.5, abs=1e-7)
    with pytest.raises(SigmaTuneError, match="equal shape"):
        pair_terms(x, x[:4])


def test_projections_give_the_sliced_distance():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, 4, generator=g), torch.randn(20, 3, 4, generator=g)
    assert squared(*projected([x, y], seed=3)) == pytest.approx(sliced_wasserstein(x, y, seed=3) ** 2)


# ------------------------------------------------------------------------------------------------------------ on real plans


def broad(weight=0.2):
    """A narrow lobe and a broad one about the same place."""
    return GaussianMixture([1 - weight, weight], np.zeros((2, 1)), np.array([[[0.01]], [[9.0]]]), VE())


@pytest.fixture(scope="module")
def lost():
    """M1: the plan that `tune(model, 5, "dpmpp2m")` finds, which loses the broad mode, the rival, and the verdict."""
    model = broad()
    bench = Workbench(model, replace(QUICK, tuning=48, validation=48, reference_steps=48, micro_batch=96))
    tuned = bench.plan(Schedule([14.48179, 0.170187, 0.0610331, 0.0308076, 0.0218879, 0.0]), "dpmpp2m")
    rival = baseline.best_default(bench, 5, "dpmpp2m").plan
    return bench, tuned, rival, judge(bench, tuned, rival, searched=tuned)


def test_a_plan_that_loses_the_broad_mode_is_no_gain(lost):
    bench, tuned, rival, judged = lost
    assert np.exp(judged.comparison.statistic) < 0.2
    assert judged.comparison.gain
    assert not judged.gain
    assert {"mean error", "mean of the worst 10% of errors"} <= {loss.name for loss in judged.lost}
    exact, ours, theirs = (
        sample(bench.model, plan, 2048, seed=7, micro_batch=2048) for plan in (bench.reference_plan(96), tuned, rival)
    )
    root = [float((x - exact).square().mean().sqrt()) for x in (ours, theirs)]
    assert root[0] > 2 * root[1], "as 2048 fresh noises say"
    assert ours.std() < 0.7 * exact.std() < theirs.std()


def test_the_verdict_says_what_is_lost(lost):
    bench, _, _, judged = lost
    said = verdict(judged, "uniform-trailing")
    assert said.startswith("no gain: on 96 held-out noises the tuned plan's typical error is 0.")
    assert "but it is worse in its" in said
    assert said.count(".") == said.replace(". ", "").count("."), "one sentence"
    report = evidence(bench, judged, [], "uniform-trailing", searched_label="karras")
    assert report["no_loss"]["held"] is False
    assert [test["name"] for test in report["no_loss"]["tests"]] == NAMES
    assert set(report["sets"]) == {"space", "rows", *NAMES[2:]}
    assert report["best_searched_family"] == {"name": "karras", "error_ratio": {"value": 1.0, "low": 1.0, "high": 1.0}}
    assert any("worse, p = " in line for line in statement(report))


def test_every_failure_of_the_second_half_alone_means_no_gain():
    bench = Workbench(gaussian(), QUICK)
    plans = [bench.plan(schedules.build(name, 4, bench.model.path), "euler") for name in ("ays-sd15", "karras")]
    judged = judge(bench, *plans)
    assert judged.gain
    for place, loss in enumerate(judged.losses):
        assert not loss.lost
        others = [one for i, one in enumerate(judged.losses) if i != place]
        refused = replace(judged, losses=(*others, replace(loss, adjusted=FALSE_ALARMS)))
        assert not refused.gain
        assert loss.name in verdict(refused, "any")


def test_evidence_has_both_halves_and_the_best_searched_family():
    plan = tune(gaussian(), calls=4, solver="euler", method="search", settings=QUICK)
    e = plan_file.loads(plan_file.dumps(plan)).evidence
    assert e["no_loss"]["held"] is True
    assert (e["no_loss"]["correction"], e["no_loss"]["false_alarm_rate"]) == ("Holm", 0.1)
    assert list(e["other_measures"]) == ["rms"]
    assert e["sets"]["space"] == "whitened"
    family = e["best_searched_family"]
    assert e["error_ratio"]["value"] < family["error_ratio"]["value"] <= 1.01
    assert family["name"].split()[0] in schedules.FAMILIES
    assert len(statement(e)) == len(NAMES) + 2
    assert statement({}) == []
    with pytest.raises(SigmaTuneError, match="tune the plan again"):
        statement({"no_loss": {"tests": [{"name": 3}]}})


def test_held_out_rows_are_sampled_once(monkeypatch):
    bench = Workbench(gaussian(), QUICK)
    plans = [
        bench.plan(schedules.build(name, 4, bench.model.path), "euler") for name in ("karras", "kl-optimal", "beta")
    ]
    seen = []
    take = bench._sampled
    monkeypatch.setattr(
        bench, "_sampled", lambda plan, rows, why: seen.append((plan.steps, rows)) or take(plan, rows, why)
    )
    judged = judge(bench, plans[0], plans[1], searched=plans[2])
    assert isinstance(judged, Judged)
    held_out = [steps for steps, rows in seen if rows == QUICK.rows("held_out")]
    assert sorted(held_out)[:3] == [4, 4, 4]
    assert len(set(held_out[3:] + held_out[2:3])) >= 2
    assert held_out.count(4) == 3


def test_frechet_distances_join_where_there_are_enough_images(monkeypatch):
    monkeypatch.setattr(frechet_sets, "FRECHET_ROWS", 40)
    model = gaussian(size=8)
    exact = model.draw(40)
    plan, rival = disturbed(exact, 0.4, 1), disturbed(exact, 0.05, 2)
    errors = tuple((x - exact).flatten(1).square().mean(dim=1).sqrt().numpy() for x in (plan, rival))
    ends = EndPoints(plan, rival, exact, errors)
    found = frechet_sets.frechet(model, ends)
    assert [name for name, _ in found] == ["Frechet distance in block10", "Frechet distance in head-pca64"]
    assert all(plan(np.arange(40)) > rival(np.arange(40)) for _, (plan, rival) in found)
    monkeypatch.setattr(frechet_sets, "PIECE", 16)
    elsewhere, rows = Counted(), np.arange(40)
    again = frechet_sets.frechet(model, ends, elsewhere)
    assert [[one(rows) for one in pair] for _, pair in again] == [[one(rows) for one in pair] for _, pair in found]
    assert elsewhere.pieces == 9
    joined = losses(fit("whitened", exact), ends, features=found)
    assert [loss.name for loss in joined][:4] == NAMES
    assert len(joined) == 6
    few = EndPoints(plan[:39], rival[:39], exact[:39], (errors[0][:39], errors[1][:39]))
    assert frechet_sets.frechet(model, few) == []


# ---------------------------------------------------------------------------------------------------------------- the rivals


def test_defaults_are_measured_in_two_rounds_where_that_is_cheaper():
    model = gaussian()
    bench = Workbench(model, replace(QUICK, validation=48, micro_batch=16))
    bench.reference("validation")
    found = baseline.best_default(bench, 4, "euler")
    plan, label, scores = found.plan, found.label, found.scores
    rivals = schedules.rivals(4, model.path)
    assert bench.spent("guard") == (16 * len(rivals) + 48 * baseline.FINALISTS) * 4
    assert [score["rows"] for score in scores] == [48] * 4 + [16] * (len(rivals) - 4)
    assert [score["mean_log_error"] for score in scores[:4]] == sorted(score["mean_log_error"] for score in scores[:4])
    assert label == scores[0]["name"]
    every = [name for score in scores for name in (score["name"], *score.get("same_levels", ()))]
    assert sorted(every) == sorted(name for name, _, _ in schedules.defaults(model.path))
    values = {rival.label: bench.score(bench.plan(rival.schedule, "euler"), "validation") for rival in rivals}
    assert label == min(values, key=values.get)
    assert plan.schedule == next(rival.schedule for rival in rivals if rival.label == label)
    again = baseline.baseline(bench, plan.with_notes(evidence={"baseline": label}))
    assert again.schedule == plan.schedule


def test_the_reference_doubles_until_the_verdict_would_not_move():
    """A reference of two steps moves the statistic by most of itself, so one doubling is not enough."""
    model = gaussian(VE(0.02, 20.0))
    bench = Workbench(model, replace(QUICK, reference_steps=2, held_out=32))
    plan, default = (bench.plan(schedules.build(name, 6, model.path), "dpmpp2m") for name in ("karras", "log-uniform"))
    judged = judge(bench, plan, default)
    half = (judged.comparison.high - judged.comparison.low) / 2
    assert judged.converged
    assert judged.reference_steps > 4
    assert judged.change <= 0.1 * max(abs(judged.comparison.statistic), half)


def test_the_two_sides_of_the_guard_are_alike():
    """What is measured of the plan is measured of the rival: exchanged, they exchange every number, and signs turn."""
    bench = Workbench(gaussian(), QUICK)
    plans = [bench.plan(schedules.build(name, 4, bench.model.path), "euler") for name in ("ays-sd15", "karras")]
    one, other = judge(bench, *plans), judge(bench, *reversed(plans))
    assert one.comparison.statistic == pytest.approx(-other.comparison.statistic)
    assert one.distances == {"plan": other.distances["default"], "default": other.distances["plan"]}
    for loss, turned in zip(one.losses, other.losses, strict=True):
        assert loss.plan != loss.rival
        assert (loss.plan, loss.rival) == (turned.rival, turned.plan), loss.name
        assert loss.difference.value == -turned.difference.value
    for name, found in one.others.items():
        assert found.statistic == pytest.approx(-other.others[name].statistic), name


@pytest.mark.parametrize(
    ("moves", "effect", "width", "steps"),
    [
        ([0.009], 0.1, 0.01, 2),  # less than a tenth of the effect
        ([0.011, 0.0], 0.1, 0.01, 4),
        ([0.009], 0.001, 0.2, 2),  # less than a tenth of half the interval
        ([0.011, 0.0], 0.001, 0.2, 4),
    ],
)
def test_a_reference_is_fine_enough_below_a_tenth_of_the_effect_or_of_half_the_interval(
    monkeypatch, moves, effect, width, steps
):
    bench = Workbench(gaussian(), replace(QUICK, reference_steps=8))
    plans = [bench.plan(schedules.build(name, 4, bench.model.path), "euler") for name in ("ays-sd15", "karras")]
    found, errors = guard._compared(bench, *plans, 8)
    values = iter([effect + sum(moves), *(effect + sum(moves[i:]) for i in range(1, len(moves))), effect])

    def compared(*_):
        value = next(values)
        return replace(found, statistic=value, low=value - width / 2, high=value + width / 2), errors

    monkeypatch.setattr(guard, "_compared", compared)
    judged = judge(bench, *plans)
    assert judged.converged
    assert judged.reference_steps == 8 * steps


def test_the_energy_distance_of_few_rows_is_on_average_that_of_all():
    """It is a mean over pairs, so the mean over all subsets of three rows counts every pair equally often."""
    x, y = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 6, 3)))
    terms = pair_terms(x, y)
    few = [mean_of_pairs(terms, np.array(rows)) for rows in combinations(range(6), 3)]
    assert np.mean(few) == pytest.approx(mean_of_pairs(terms, np.arange(6)), rel=1e-12)
