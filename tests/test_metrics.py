"""Metrics against libraries and exact answers, and the laws that all of them keep."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.testing import assert_allclose
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from sets import drawn, drawn_same, statistics, statistics_of
from sigmatune.evaluation.extractors.raw_pixels import Projections, Rings
from sigmatune.evaluation.metrics import METRICS
from sigmatune.evaluation.reference_set import Statistics
from sigmatune.statistics.frechet import Gaussian, frechet_distance
from sigmatune.statistics.jackknife import folds, jackknife
from sigmatune.statistics.moments import Moments
from sigmatune.support.errors import SigmaTuneError


class Identity(torch.nn.Module):
    """Passes features through torchmetrics, which asks how many there are."""

    num_features = 24

    def forward(self, x):
        return x


# ------------------------------------------------------------------------------------------------------------- moments


@settings(max_examples=40, deadline=None)
@given(
    sizes=some.lists(some.integers(1, 40), min_size=1, max_size=5),
    offset=some.sampled_from([0.0, 1e3, 1e6]),
    seed=some.integers(0, 999),
)
def test_moments_do_not_depend_on_how_the_rows_arrive(sizes, offset, seed):
    rows = np.random.default_rng(seed).standard_normal((sum(sizes) + 1, 3)) + offset
    parts = np.split(rows, np.cumsum([1, *sizes[:-1]])) if len(sizes) > 1 else [rows]
    total = sum((Moments.of(part) for part in parts[1:]), Moments.of(parts[0]))
    assert total.n == len(rows)
    assert_allclose(total.mean, rows.mean(axis=0), rtol=1e-12)
    assert_allclose(total.covariance, np.cov(rows.T), atol=1e-9)
    left = total - Moments.of(parts[0]) if len(parts) > 1 else None
    if left is not None and left.n > 1:
        assert_allclose(left.covariance, np.cov(np.concatenate(parts[1:]).T), atol=1e-8 + 1e-13 * offset**2)


def test_moments_of_what_is_none():
    with pytest.raises(SigmaTuneError, match="at least two images, not 1"):
        Moments.of(np.ones((1, 3))).covariance  # noqa: B018
    with pytest.raises(SigmaTuneError, match="NaN"):
        Moments.of(np.array([[1.0], [np.nan]]))
    with pytest.raises(SigmaTuneError, match="rows of numbers"):
        Moments.of(np.ones(3))


# ------------------------------------------------------------------------------------------------------------- frechet


def test_the_frechet_distance_is_that_of_scipy_and_torchmetrics():
    x, y = drawn(500, 24), drawn(700, 24, seed=1, shift=0.3)
    found = METRICS["fd"].estimate(x.astype(np.float64), statistics_of(y))["fd"].value
    cx, cy = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(cx @ cy).real
    exact = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cx + cy - 2 * root)
    assert_allclose(found, exact, rtol=1e-6)
    theirs = FrechetInceptionDistance(feature=Identity(), normalize=False, input_img_size=(24,)).set_dtype(
        torch.float64
    )
    for rows, real in ((y, True), (x, False)):
        theirs.update(torch.from_numpy(rows), real=real)
    assert_allclose(found, float(theirs.compute()), rtol=1e-6)
    assert_allclose(found, frechet_distance(x, y), rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(n=some.integers(4, 60), d=some.integers(1, 30), seed=some.integers(0, 99))
def test_the_frechet_distance_is_zero_on_identical_sets_and_never_negative(n, d, seed):
    x, y = drawn(n, d, seed), drawn(n, d, seed + 1000)
    scale = np.trace(np.atleast_2d(np.cov(x.T)))
    a, b = Gaussian.of(Moments.of(x)), Gaussian.of(Moments.of(y))
    assert 0 <= a.distance(a) <= 1e-9 * scale
    assert a.distance(b) >= 0
    assert_allclose(a.distance(b), b.distance(a), atol=1e-9 * scale)
    assert_allclose(a.distance(b), frechet_distance(x, y), atol=1e-6 * scale)


@pytest.mark.filterwarnings("ignore:30 images cannot fill")
def test_fewer_pictures_than_dimensions_take_another_way_to_the_same_distance():
    x, y = drawn(30, 40), statistics_of(drawn(90, 40, 1))
    found = METRICS["fd"].estimate(x, y)["fd"]
    assert_allclose(found.value, Gaussian.of(Moments.of(x)).distance(y.gaussian), rtol=1e-9)
    for fold, left in zip(folds(30), found.left, strict=True):
        rest = np.delete(x, fold, axis=0)
        assert_allclose(left, Gaussian.of(Moments.of(rest)).distance(y.gaussian), rtol=1e-9)


def test_a_frechet_distance_warns_of_few_pictures_and_refuses_too_few():
    y = statistics(drawn(100, 24))
    with pytest.warns(UserWarning, match="10 images cannot fill 24 dimensions"):
        METRICS["fd"].estimate(drawn(10, 24, 1).astype(np.float32), y)
    for n in (0, 1, 3):
        with pytest.raises(SigmaTuneError, match=f"at least 4 images, not {n}"):
            METRICS["fd"].estimate(drawn(5, 24)[:n].astype(np.float32), y)


def test_the_limit_at_infinite_n_takes_the_bias_out():
    """Of one distribution against its own exact moments the distance is 0; the estimate from n images is not."""
    d, n = 12, 600
    exact = Statistics(Moments(10**9, np.zeros(d), np.eye(d) * (10**9 - 1)), np.zeros((2, d), np.float32))
    raw, limit = [], []
    for seed in range(6):
        x = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
        raw.append(METRICS["fd"].estimate(x, exact)["fd"].value)
        limit.append(METRICS["fd-infinite"].estimate(x, exact)["fd-infinite"].value)
    bias = (d + d * (d + 1) / 4) / n  # of the mean, and of the covariance to second order
    assert_allclose(np.mean(raw), bias, rtol=0.15)
    assert abs(np.mean(limit)) < 0.2 * np.mean(raw)


# -------------------------------------------------------------------------------------------------- the other metrics


def test_the_kernel_distance_is_that_of_torchmetrics():
    x, y = drawn(120, 24), drawn(120, 24, seed=1, shift=0.3)
    found = METRICS["kid"].estimate(x, statistics_of(y))["kid"].value
    theirs = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=120).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(y), real=True)
    theirs.update(torch.from_numpy(x), real=False)
    assert_allclose(found, float(theirs.compute()[0]), rtol=1e-9)


def test_the_kernel_distance_is_unbiased_and_its_jackknife_exact():
    values = [
        METRICS["kid"].estimate(drawn_same(60, s), statistics(drawn_same(80, s + 500)))["kid"] for s in range(150)
    ]
    mean, spread = np.mean([v.value for v in values]), np.std([v.value for v in values])
    assert abs(mean) < 3 * spread / np.sqrt(len(values))
    x, y = drawn_same(40, 1), statistics(drawn_same(50, 2))
    whole = METRICS["kid"].estimate(x, y)["kid"]
    for fold, left in zip(folds(40), whole.left, strict=True):
        assert_allclose(left, METRICS["kid"].estimate(np.delete(x, fold, axis=0), y)["kid"].value, rtol=1e-9)


def test_the_score_is_that_of_torchmetrics_and_of_the_formula():
    logits = 3 * np.random.default_rng(0).standard_normal((200, 24))
    found = METRICS["is"].estimate(logits, None)["is"].value
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    assert_allclose(found, np.exp(np.mean(np.sum(p * np.log(p / p.mean(0)), axis=1))), rtol=1e-6)
    theirs = InceptionScore(feature=Identity(), splits=1)
    theirs.update(torch.from_numpy(logits))
    assert_allclose(found, float(theirs.compute()[0]), rtol=1e-5)
    state = torch.random.get_rng_state()
    METRICS["is"].estimate(logits, None)
    assert torch.equal(state, torch.random.get_rng_state()), "a metric must leave the random state alone"


def test_precision_recall_density_and_coverage_of_known_sets():
    y = drawn_same(400, 0)
    same = {k: v.value for k, v in METRICS["prdc"].estimate(y.astype(np.float32), statistics(y)).items()}
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    far = {k: v.value for k, v in METRICS["prdc"].estimate((y + 100).astype(np.float32), statistics(y)).items()}
    assert set(far.values()) == {0.0}
    narrow = {k: v.value for k, v in METRICS["prdc"].estimate((0.2 * y).astype(np.float32), statistics(y)).items()}
    assert narrow["precision"] > 0.95 > 0.4 > narrow["recall"], narrow
    spread = {k: v.value for k, v in METRICS["prdc"].estimate((3 * y).astype(np.float32), statistics(y)).items()}
    assert spread["recall"] > 0.9 > 0.5 > spread["precision"], spread
    # Naeem et al., lemma 2: for one distribution the expected coverage is 1 - (1 - k / (2n))^..., near 1 - 2^-k.
    other = METRICS["prdc"].estimate(drawn_same(400, 1).astype(np.float32), statistics(y))
    assert_allclose(other["coverage"].value, 1 - 2.0**-5, atol=0.03)
    assert_allclose(other["density"].value, 1, atol=0.15)


def test_the_sliced_distance_of_a_shift_is_the_shift_per_direction():
    rng = np.random.default_rng(0)
    base = rng.integers(60, 180, (300, 16, 16, 3)).astype(np.uint8)
    own = Projections()
    y = own(base)["projections"]
    assert METRICS["sw"].estimate(y, statistics(y))["sw"].value < 1e-6
    moved = own(base + np.uint8(10))["projections"]
    directions = (
        torch.cat(list(own._directions())).numpy().sum(axis=0) * 10 / 127.5
    )  # how far each direction sees the shift
    assert_allclose(
        METRICS["sw"].estimate(moved, statistics(y))["sw"].value, np.sqrt(np.mean(directions**2)), rtol=1e-3
    )


def test_the_spectrum_distance_of_scaled_pictures_is_the_log_of_their_power():
    base = np.random.default_rng(0).integers(100, 156, (200, 16, 16, 3)).astype(np.uint8)
    double = (127.5 + 2 * (base.astype(float) - 127.5)).astype(np.uint8)
    own = Rings()
    assert METRICS["spectrum"].estimate(own(base)["rings"], statistics(own(base)["rings"]))["spectrum"].value < 1e-6
    found = METRICS["spectrum"].estimate(own(double)["rings"], statistics(own(base)["rings"]))["spectrum"]
    assert_allclose(found.value, np.log(4), rtol=1e-2)
    assert found.error < 0.05
    swing = np.exp(
        0.3 * np.array([5, 1, -1, 1, -1])
    )  # too much in one ring, too little in the next; the mean is ring 0
    rows = np.ones((20, 5))
    assert_allclose(METRICS["spectrum"].estimate(rows * swing, statistics_of(rows))["spectrum"].value, 0.3, rtol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_laws_of_all_metrics(name):
    """Equal sets are as near as can be, other ones are worse; figures do not depend on the rows' order in a fold."""
    metric = METRICS[name]
    if metric.source == "rings":
        x, y, far = np.exp(drawn(3 * 200, 8)).reshape(3, 200, 8)
        far = 9 * far
    else:
        x, y = drawn_same(200, 0), drawn_same(200, 1)
        far = 1 + 2.5 * drawn_same(200, 2)
    known = statistics(y) if metric.needs_reference else None
    same, other = (metric.estimate(rows.astype(np.float32), known) for rows in (x, far))
    assert set(same) == set(metric.better) == set(other), metric
    for label, better in metric.better.items():
        if name == "is":
            continue  # knows nothing of the data
        closer = same[label].value < other[label].value
        assert closer is (better == "lower") or label == "recall", metric
        assert np.isfinite([*same[label].interval, same[label].error]).all(), metric
        assert len(same[label].left) == len(folds(200)), metric
    again = metric.estimate(x.astype(np.float32), known)
    assert again == same, metric


def test_the_jackknife_is_exact_for_a_mean():
    x = np.random.default_rng(0).standard_normal(60)
    (found,) = jackknife(60, lambda rows: float(x[rows].mean()))
    parts = np.array([x[fold].mean() for fold in folds(60)])
    assert_allclose(found.error, parts.std(ddof=1) / np.sqrt(len(parts)), rtol=1e-12)
    assert found.value == x.mean()
    (twin,) = jackknife(60, lambda rows: float(x[rows].mean()) + 1)
    gap = twin - found
    assert_allclose([gap.value, gap.error], [1, 0], atol=1e-12)
