"""Laws of the numbers that decide: intervals have the right width, weights are repetitions, noises are kept apart."""

from __future__ import annotations

import importlib
import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats
from scipy.spatial.distance import cdist

from exact import gaussian
from sets import drawn, drawn_same, statistics, statistics_of
from sigmatune.core.wrappers import Observed
from sigmatune.evaluation import reference_set as reference
from sigmatune.evaluation import stochastic_guard as guard
from sigmatune.evaluation.extractors.own_function import FunctionExtractor
from sigmatune.evaluation.metrics import METRICS
from sigmatune.evaluation.metrics.neighbours import K
from sigmatune.noise import VE
from sigmatune.phase_space import compose
from sigmatune.phase_space.compose import Grid
from sigmatune.phase_space.updates import update_a, update_b, update_o
from sigmatune.processes import PSLD
from sigmatune.schedules import build
from sigmatune.solvers import PHASE_SPACE, SOLVERS
from sigmatune.spectra.sources import open_images
from sigmatune.statistics.bootstrap import centred_interval
from sigmatune.statistics.frechet import Gaussian, frechet_distance
from sigmatune.statistics.jackknife import folds
from sigmatune.statistics.moments import Moments
from sigmatune.statistics.paired import TRIM, compare
from sigmatune.tuning import TuningSettings, Workbench
from sigmatune.tuning.error_table import ErrorTable
from sigmatune.workflows.judge import Judge, ReferenceData

# ---------------------------------------------------------------------------------------------------------- intervals


def test_the_paired_interval_is_as_wide_as_the_error_of_a_trimmed_mean():
    """Tukey and McLaughlin: from the winsorised variance, to a few percent for a few hundred rows."""
    rng, ratios = np.random.default_rng(1), []
    for seed in range(4):
        logs = rng.normal(0, 0.2, 300)
        found = compare(np.exp(logs), np.ones(300), seed=seed)
        error = np.std(stats.mstats.winsorize(logs, (TRIM, TRIM)), ddof=1) / ((1 - 2 * TRIM) * np.sqrt(len(logs)))
        ratios.append((found.high - found.low) / (2 * stats.norm.ppf(0.975) * error))
        assert found.statistic == pytest.approx(stats.trim_mean(logs, TRIM), abs=1e-12)
    assert 0.96 < np.mean(ratios) < 1.04


def test_the_guard_of_pictures_covers_the_truth_and_knows_a_worse_set(monkeypatch):
    """Two Gaussians beside the data's: their distances differ by that of the squares of their means. And signs."""
    monkeypatch.setattr(guard, "RESAMPLES", 100)
    data = np.random.default_rng(9).standard_normal((4000, 2))
    known = statistics((data - data.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(data.T))).T)
    rng, hits = np.random.default_rng(3), []
    for seed in range(120):
        x, y = rng.standard_normal((2, 200, 2)) + np.array([0.8, 0.7])[:, None, None]
        found = guard.compare(x, y, known, seed=seed)
        hits.append(found.low <= 2 * (0.8**2 - 0.7**2) <= found.high)
    assert 0.90 <= np.mean(hits) <= 0.985
    for name in guard.DISTANCES:
        worse = guard.compare(x + 0.5, y, known, name)
        better = guard.compare(y, x + 0.5, known, name)
        assert worse.low > 0
        assert better.gain
        assert (worse.value, worse.plan, worse.rival) == pytest.approx((-better.value, better.rival, better.plan))
        assert worse.value == pytest.approx(worse.plan - worse.rival)
        assert worse.low < worse.value < worse.high
        assert worse.verdict.startswith("no gain: the plan is worse")


# ------------------------------------------------------------------------------------------- weights, moments, distances


def _repeated(rows, parts, counts):
    return np.concatenate([np.repeat(rows[part][None], int(n), axis=0).reshape(-1, rows.shape[1])
                           for part, n in zip(parts, counts, strict=True)])  # fmt: skip


def test_what_all_resamples_have_too_much_moves_no_centred_interval():
    """A distance of resamples is too large, because they hold fewer different rows; the interval is that without it."""
    x = np.random.default_rng(0).standard_normal(20)

    def mean(weights):
        return float(weights @ x / weights.sum())

    low, high = centred_interval(20, mean, resamples=200)
    shifted = centred_interval(20, lambda w: mean(w) + (0.0 if (w == 1).all() else 5.0), resamples=200)
    assert shifted == pytest.approx((low, high))
    assert low < mean(np.ones(20)) < high


def test_the_guard_of_pictures_compares_all_rows():
    x, y, z = (drawn(n, 3, seed) for seed, n in enumerate((500, 500, 300)))
    found = guard.compare(x, y, statistics_of(z), resamples=2)
    assert found.n == 500
    assert (found.plan, found.rival) == pytest.approx((frechet_distance(x, z), frechet_distance(y, z)))


def test_weights_of_the_frechet_bootstrap_are_repetitions():
    rows, known = drawn(90, 3, 1, shift=0.3), statistics_of(drawn(300, 3, 2))
    parts = list(np.array_split(np.arange(90), 13))
    weighted = guard._frechet(rows, parts, known)
    for seed in range(5):
        counts = np.random.default_rng(seed).multinomial(13, np.ones(13) / 13).astype(float)
        expected = Gaussian.of(Moments.of(_repeated(rows, parts, counts))).distance(known.gaussian)
        assert weighted(counts) == pytest.approx(expected, rel=1e-9)


def test_weights_of_the_kernel_bootstrap_are_repetitions_without_a_row_and_itself():
    rows, known = drawn(40, 3, 1, shift=0.3), statistics_of(drawn(60, 3, 2))
    parts = list(np.array_split(np.arange(40), 7))
    weighted = guard._kernel(rows, parts, known)
    owner = np.concatenate([np.full(len(part), j) for j, part in enumerate(parts)])

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    y = known.rows
    others = (kernel(y, y).sum() - np.trace(kernel(y, y))) / (len(y) * (len(y) - 1))
    for seed in range(3):
        counts = np.random.default_rng(seed).multinomial(7, np.ones(7) / 7).astype(float)
        who = np.concatenate([np.repeat(np.flatnonzero(owner == j), int(n)) for j, n in enumerate(counts)])
        apart = who[:, None] != who[None, :]
        within = kernel(rows[who], rows[who])[apart].sum()
        # Copies of one row are no pair: n^2 less the squares of how often each row is there.
        pairs = len(who) ** 2 - np.square(np.bincount(who)).sum()
        expected = within / pairs + others - 2 * kernel(rows[who], y).mean()
        assert weighted(counts) == pytest.approx(expected, rel=1e-9)


def test_moments_of_projected_rows_are_projected_moments():
    rows, basis = drawn(50, 5, 3, shift=1.0), np.random.default_rng(0).standard_normal((5, 2))
    found, expected = Moments.of(rows).projected(basis), Moments.of(rows @ basis)
    assert found.n == expected.n
    assert_allclose(found.mean, expected.mean, rtol=1e-12)
    assert_allclose(found.scatter, expected.scatter, rtol=1e-10)


@pytest.mark.parametrize(("n", "d"), [(40, 5), (6, 9)])
def test_both_ways_to_a_gaussian_give_one_distance(n, d):
    """From the covariance and from the rows; and in one dimension the formula (mean gap)^2 + (deviation gap)^2."""
    x, y = drawn(n, d, 1), drawn(n + 3, d, 2, shift=0.5)
    by_moments = Gaussian.of(Moments.of(x)).distance(Gaussian.of(Moments.of(y)))
    assert frechet_distance(x, y) == pytest.approx(by_moments, rel=1e-6)
    a, b = x[:, :1], y[:, :1]
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_what_the_jackknife_leaves_out_is_left_out_of_every_figure():
    """Without fold j a figure is that of the other rows alone, against the same reference."""
    x, y = drawn_same(60, 0), drawn_same(60, 1)
    powers, other_powers = np.exp(drawn(60, 5, 3)), np.exp(drawn(60, 5, 4))
    for name, metric in METRICS.items():
        if name in ("prdc", "fd-infinite"):
            continue  # which look at as many rows of the reference, or at shares of the folds
        rows, known = (powers, other_powers) if metric.source == "rings" else (x, y)
        found = metric.estimate(rows, statistics_of(known) if metric.needs_reference else None)
        for j in (0, 7, 19):
            kept = np.delete(rows, folds(60)[j], axis=0)
            alone = metric.estimate(kept, statistics_of(known) if metric.needs_reference else None)
            for label, estimate in found.items():
                assert estimate.left[j] == pytest.approx(alone[label].value, rel=1e-6), (name, label)


def _prdc(x, y):
    """The four numbers by their definitions, pair by pair."""
    radius_x, radius_y = (np.sort(cdist(v, v), axis=1)[:, K] for v in (x, y))
    away = cdist(x, y)
    return (
        np.mean([any(away[i, j] <= radius_y[j] for j in range(len(y))) for i in range(len(x))]),
        np.mean([any(away[i, j] <= radius_x[i] for i in range(len(x))) for j in range(len(y))]),
        sum(away[i, j] <= radius_y[j] for i in range(len(x)) for j in range(len(y))) / (K * len(x)),
        np.mean([any(away[i, j] <= radius_y[j] for i in range(len(x))) for j in range(len(y))]),
    )


def test_precision_and_recall_by_their_definitions_and_without_each_fold():
    """The balls around generated images reach to the neighbours that are left."""
    x, y = drawn(40, 3, 5, shift=0.4), drawn(40, 3, 6)
    found = list(METRICS["prdc"].estimate(x, statistics_of(y)).values())
    assert_allclose([one.value for one in found], _prdc(x, y), rtol=1e-6)
    for j, fold in enumerate(folds(40)):
        assert_allclose([one.left[j] for one in found], _prdc(np.delete(x, fold, axis=0), y), rtol=1e-6)


# -------------------------------------------------------------------------------------------------- noises and stores


def test_a_judge_ranks_and_decides_on_noises_that_never_meet():
    """Every row that the network sees first, by its bytes: validation's, held-out ones, and those of both rivals."""
    model = gaussian(VE(0.02, 20.0))
    model.value_range = (-3.0, 3.0)
    seen: list[set[bytes]] = [set()]

    def watch(z, sigma, x0):
        if float(sigma[0]) == 20.0:
            seen[-1] |= {row.numpy().tobytes() for row in z if bool(row.any())}

    observed = Observed(model, watch)
    pictures = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 1), dtype=np.uint8)
    few = FunctionExtractor(lambda x: x.float().flatten(1)[:, :4], (1, 8, 8))
    known = reference.measure(open_images(pictures, layout="NHWC"), [few], name="noise")
    judge = Judge(ReferenceData(known, few, n=64, seed=5), (1, 8, 8))
    euler, heun = (SOLVERS[name] for name in ("euler", "heun"))
    plans = [Workbench(model).plan(build("karras", 2, model.path), solver.name) for solver in (euler, heun)]
    judge.score(observed, plans[0])
    seen.append(set())
    judge.score(observed, plans[1])
    seen.append(set())
    judge.verdict((observed, plans[0]), (model, plans[1]))
    seen.append(set())
    judge.verdict((model, plans[0]), (observed, plans[1]))
    first, second, ours, rivals = seen
    assert first == second, "candidates are ranked on the same noises"
    assert ours == rivals, "both sides of a verdict start from the same noises"
    assert not first & ours, "what chose a candidate must not judge it"
    assert [len(first), len(ours)] == [64, 64]
    rows = judge.about()["rows"]
    assert rows["validation"][0] != rows["held_out"][0]


def test_what_a_store_keeps_is_found_again_under_the_same_conditions_only(tmp_path):
    """Whatever a measurement depends on is part of its name: rows, seed, micro-batch, solver, levels, model."""
    settings = TuningSettings(tuning=4, validation=4, held_out=8, reference_steps=8, micro_batch=4)

    def errors(model, settings, solver="euler", split="tuning", rho=7.0, store=tmp_path):
        bench = Workbench(model, settings, store=store)
        plan = bench.plan(build("karras", 4, model.path, rho=rho), solver)
        return bench.errors(plan, split)

    model = gaussian(VE(0.02, 20.0))
    first = errors(model, settings)
    assert_allclose(errors(model, settings), first, rtol=0)
    changes = {
        "seed": (model, TuningSettings(**{**vars(settings), "seed": 1})),
        "reference": (model, TuningSettings(**{**vars(settings), "reference_steps": 16})),
        "rows": (model, TuningSettings(**{**vars(settings), "tuning": 3})),
        "path": (gaussian(VE(0.02, 30.0)), settings),
        "size": (gaussian(VE(0.02, 20.0), size=6), settings),
    }
    for name, (other, asked) in changes.items():
        found, alone = errors(other, asked), errors(other, asked, store=None)
        assert np.array_equal(found, alone), name
        assert not np.array_equal(found, first), name
    for options in ({"solver": "dpmpp2m"}, {"split": "validation"}, {"rho": 5.0}):
        assert np.array_equal(errors(model, settings, **options), errors(model, settings, **options, store=None)), (
            options
        )
    before = {file: file.read_bytes() for file in tmp_path.glob("*.npy")}
    batches = TuningSettings(**{**vars(settings), "micro_batch": 3})  # whose bits may be others
    errors(model, batches)
    errors(model, batches, store=tmp_path / "fresh")
    assert len(list(tmp_path.glob("*.npy"))) == len(before) + len(list((tmp_path / "fresh").glob("*.npy")))
    assert all(file.read_bytes() == content for file, content in before.items()), "what is kept never changes"


def test_a_store_believes_nothing_that_was_changed(tmp_path):
    settings = TuningSettings(tuning=4, validation=4, held_out=8, reference_steps=8, micro_batch=4)
    model, errors = gaussian(VE(0.02, 20.0)), []
    for _ in range(2):
        bench = Workbench(model, settings, store=tmp_path)
        errors.append(bench.errors(bench.plan(build("karras", 4, model.path), "euler"), "tuning"))
        for file in tmp_path.glob("*.npy"):
            array = np.load(file) * 2
            buffer = io.BytesIO()
            np.save(buffer, array)
            file.write_bytes(buffer.getvalue() + file.read_bytes()[-32:])  # the digest is that of what was there
    assert np.array_equal(errors[0], errors[1])


@pytest.mark.parametrize("measure", ["rms", "whitened"])
def test_errors_against_a_finer_reference_are_stored_apart(measure, tmp_path):
    model = gaussian(VE(0.02, 20.0))
    settings = TuningSettings(tuning=4, validation=4, held_out=8, reference_steps=8, micro_batch=4)
    bench, alone = (Workbench(model, settings, store=store, measure=measure) for store in (tmp_path, None))
    plan = bench.plan(build("karras", 4, model.path), "euler")
    coarse, fine = bench.errors(plan, "tuning"), bench.errors(plan, "tuning", reference_steps=32)
    assert not np.array_equal(coarse, fine)
    assert_allclose(fine, alone.errors(plan, "tuning", reference_steps=32), rtol=1e-12)


def test_an_error_table_is_read_between_its_levels_by_the_log_of_sigma():
    table = ErrorTable(np.array([0.1, 1.0, 10.0]), np.array([1.0, 3.0, 4.0]), np.array([0.1, 0.1, 0.1]), 4)
    assert_allclose(table.at(np.array([0.1, 10**-0.5, 1.0, 10**0.5, 10.0])), [1, 2, 3, 3.5, 4], rtol=1e-12)
    assert_allclose(table.at(np.array([0.01, 100.0])), [1, 4])
    # Two entries out of order share their mean, weighted by precision: 4 to 1 here.
    crossed = ErrorTable(np.array([0.1, 1.0, 10.0]), np.array([1.0, 5.0, 4.0]), np.array([0.1, 0.1, 0.2]), 4)
    assert_allclose(crossed.rising, [1.0, 4.8, 4.8], rtol=1e-9)


# -------------------------------------------------------------------------------------------------------- phase space

P = PSLD()
NAMES = [*PHASE_SPACE, "naive-abo"]


def _last_call(name: str, t: float, power: float, **options):
    """The map of the state (x, m) at time t to the result by one last call, its law there, and the time that is left."""
    at = torch.tensor([t], dtype=torch.float64)
    sigma = P.sigma(at)
    table = SOLVERS[name].build(torch.cat([sigma, sigma.new_zeros(1)]), **options)
    law, alpha, s = P.law(at), 1 / torch.hypot(sigma, torch.ones(1)), sigma / torch.hypot(sigma, torch.ones(1))
    said = alpha * power / (alpha**2 * power + s**2)  # the exact denoiser of Gaussian data on the unit state
    row = (table.c[-1] @ (table.A[0] + torch.outer(table.b[0], said * table.c[0]))).numpy()
    a = law.a[0].numpy()
    return row, a, np.outer(a, a) * power + P.covariance(at)[0].numpy(), float(P.tau(at))


@pytest.mark.parametrize("name", NAMES)
def test_the_last_euler_step_follows_its_own_equation(name):
    """To first order: the flow carries the data's variance to 0; the SDE without its noise, the mean given the state."""
    power, gaps, left = 0.7, [], []
    for t in (4e-3, 2e-3, 1e-3):
        row, a, cov, tau = _last_call(name, t, power)
        if SOLVERS[name].deterministic():
            gaps.append(abs(row @ cov @ row - power))
        else:
            gaps.append(np.abs((row - power * a @ np.linalg.inv(cov)) @ np.linalg.cholesky(cov)).max())
        left.append(tau)
    for (far, near), (long, short) in zip(pairwise(gaps), pairwise(left), strict=True):
        assert np.log(far / near) / np.log(long / short) > 1.35, gaps


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_last_euler_step_keeps_the_stationary_law_of_position(deterministic):
    """Where the score is minus the position, the flow leaves it, and the SDE's drift pulls it by gamma h."""
    t = torch.tensor([0.3], dtype=torch.float64)
    F, B, _ = compose._final(P, t, "euler", deterministic=deterministic)
    pull = 0.0 if deterministic else P.gamma * float(P.tau(t))
    assert_allclose(float((F - B)[..., 0, 0]), 1 - pull, rtol=1e-12)


def _grid() -> Grid:
    return Grid(P, P.sigma(torch.tensor([0.8, 0.5, 0.2, 0.05], dtype=torch.float64)))


@pytest.mark.parametrize("lambda_s", [0.0, 0.5, 2.0])
def test_the_update_o_is_a_semigroup_with_the_stationary_law_of_its_noise(lambda_s):
    whole, half = (update_o(_grid(), share, lambda_s) for share in (1.0, 0.5))
    twice = half.after(half)
    assert_allclose(twice.F, whole.F, rtol=1e-12)
    assert_allclose(twice.Q, whole.Q, rtol=1e-10, atol=1e-15)
    # A position of unit variance keeps it, a momentum its mass.
    assert_allclose(whole.F[:, 0, 0] ** 2 + whole.Q[:, 0, 0], np.ones(3), rtol=1e-12)
    assert_allclose(whole.F[:, 1, 1] ** 2 * P.mass + whole.Q[:, 1, 1], np.full(3, P.mass), rtol=1e-12)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_updates_a_and_b_are_euler_steps_that_add_up(factor):
    """Linear in the share of the step; a score of minus the state leaves nothing of the pull but the coupling."""
    for update in (update_a, update_b):
        whole, half = update(_grid(), 1.0, factor), update(_grid(), 0.5, factor)
        one = torch.eye(2, dtype=torch.float64)
        assert_allclose(whole.F - one, 2 * (half.F - one), rtol=1e-12)
        assert_allclose(whole.B, 2 * half.B, rtol=1e-12)
        coupled = whole.F - one - whole.B @ torch.diag(torch.tensor([1.0, 1 / P.mass], dtype=torch.float64))
        assert_allclose(torch.diagonal(coupled, dim1=-2, dim2=-1), np.zeros((3, 2)), atol=1e-12)
        assert not whole.Q.any()


def test_a_judges_module_is_what_finetuning_and_spectra_use():
    """One judge for both workflows, so that the law of its noises holds for both."""
    judge = importlib.import_module("sigmatune.workflows.judge").Judge
    for name in ("finetune", "tune_by_spectrum"):
        assert importlib.import_module(f"sigmatune.workflows.{name}").Judge is judge
