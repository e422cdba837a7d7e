"""Intervals of 95% cover the truth in 93 to 97% of 2,000 simulated sets; where a statistic misses that, in the stated band."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import trim_mean

from sigmatune.report.measurements import interval
from sigmatune.statistics import paired
from sigmatune.statistics.bootstrap import centred_interval, percentile_interval
from sigmatune.statistics.jackknife import Estimate, folds, half_width, jackknife, standard_error

SETS, RESAMPLES = 2000, 250
LAW = (0.93, 0.97)

DRAWS = {
    "normal": lambda rng, *shape: rng.normal(0, 1, shape),
    "heavy": lambda rng, *shape: rng.standard_t(3, shape),
}


def trimmed(x):
    return trim_mean(x, paired.TRIM, axis=1)


def median(x):
    return np.median(x, axis=1)


def frechet(x):
    """The squared distance of sets of rows of two numbers, (sets, n, 2), to a standard normal distribution, in closed form."""
    mean = x.mean(axis=1)
    centred = x - mean[:, None]
    covariance = np.einsum("sni,snj->sij", centred, centred) / (x.shape[1] - 1)
    trace = covariance[:, 0, 0] + covariance[:, 1, 1]
    root = np.sqrt(trace + 2 * np.sqrt(np.maximum(np.linalg.det(covariance), 0)))
    return np.square(mean).sum(axis=1) + trace + 2 - 2 * root


def without(x, statistic):
    """The statistic of every set without each fold, (folds, sets)."""
    return np.stack([statistic(np.delete(x, fold, axis=1)) for fold in folds(x.shape[1])])


def covered(value, left, truth):
    return np.mean(np.abs(value - truth) <= half_width(left))


def test_the_vectorised_interval_is_that_of_the_jackknife():
    x = np.random.default_rng(0).normal(0, 1, (3, 60))
    left = without(x, trimmed)
    for row, (value, half) in enumerate(zip(trimmed(x), half_width(left), strict=True)):
        (estimate,) = jackknife(60, lambda rows, row=row: float(trim_mean(x[row, rows], paired.TRIM)))
        assert (estimate.value, estimate.half) == pytest.approx((value, half), rel=1e-12)
        assert estimate.half == pytest.approx(Estimate(0.0, tuple(left[:, row])).half, rel=1e-12)


# --------------------------------------------------------------------------------------------------------------- bootstrap


def test_the_guards_ratio(monkeypatch):
    """exp is monotone, so the typical ratio is covered where the trimmed mean of its logarithm is."""
    monkeypatch.setattr(paired, "RESAMPLES", RESAMPLES)
    rng, hits = np.random.default_rng(1), 0
    for seed in range(SETS):
        ratio = paired.compare(np.exp(rng.normal(-0.1, 0.2, 48)), np.ones(48), seed=seed)
        hits += np.exp(ratio.low) <= np.exp(-0.1) <= np.exp(ratio.high)
    assert LAW[0] <= hits / SETS <= LAW[1]


def test_eight_rows_are_too_few():
    """As the module says; eight held-out noises are the guard's minimum."""
    rng, hits = np.random.default_rng(1), 0
    for seed in range(SETS // 4):
        low, high = percentile_interval(rng.normal(0, 1, 8), trimmed, seed=seed, resamples=RESAMPLES)
        hits += low <= 0 <= high
    assert 0.86 <= 4 * hits / SETS <= 0.92


def test_the_reports_interval_of_a_geometric_mean(monkeypatch):
    monkeypatch.setattr(percentile_interval, "__kwdefaults__", {"seed": 0, "resamples": RESAMPLES})
    rng = np.random.default_rng(2)
    ends = [interval(np.exp(rng.normal(0.5, 1, 64)), seed=seed) for seed in range(SETS)]
    assert LAW[0] <= np.mean([low <= np.exp(0.5) <= high for low, high in ends]) <= LAW[1]


def test_the_centred_interval_of_a_difference_of_distances():
    """Of two Gaussians beside the data's, as the guard of images compares them: one feature, a quarter of the sets."""
    rng, hits = np.random.default_rng(3), 0

    def moments(x):
        parts = np.stack([np.full(100, 2.0), x.reshape(100, 2).sum(axis=1), np.square(x).reshape(100, 2).sum(axis=1)])

        def distance(weights):
            n, total, square = parts @ weights
            mean = total / n
            return mean**2 + (np.sqrt((square - n * mean**2) / (n - 1)) - 1) ** 2

        return distance

    for seed in range(SETS // 4):
        ours, theirs = moments(rng.normal(0.8, 1, 200)), moments(rng.normal(0.7, 1, 200))
        low, high = centred_interval(
            100, lambda weights, a=ours, b=theirs: a(weights) - b(weights), seed=seed, resamples=RESAMPLES
        )
        hits += low <= 0.8**2 - 0.7**2 <= high
    assert LAW[0] <= 4 * hits / SETS <= LAW[1]


# --------------------------------------------------------------------------------------------------------------- jackknife


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(
    ("statistic", "band"),
    [
        (lambda x: x.mean(axis=1), LAW),
        (trimmed, LAW),
        (lambda x: np.exp(trimmed(x)), LAW),
        (median, (0.84, 0.92)),  # as the module says
    ],
    ids=["mean", "trimmed mean", "typical error", "median"],
)
def test_the_jackknife(statistic, band, draw):
    x = DRAWS[draw](np.random.default_rng(2), SETS, 60)
    truth = float(statistic(np.zeros((1, 60)))[0])  # symmetric about 0
    assert band[0] <= covered(statistic(x), without(x, statistic), truth) <= band[1]


def test_the_jackknife_of_what_two_sets_of_images_do_not_share():
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 1, (SETS, 60))
    x, y = (shared + rng.normal(0, 0.3, (SETS, 60)) + shift for shift in (1.0, 0.8))
    x_left, y_left = (without(v, lambda part: part.mean(axis=1)) for v in (x, y))
    assert LAW[0] <= covered((x - y).mean(axis=1), x_left - y_left, 0.2) <= LAW[1]
    assert (half_width(x_left - y_left) < half_width(x_left)).all()


@pytest.mark.parametrize(("shift", "band"), [(0.8, LAW), (0.1, (0.97, 1.0))], ids=["far", "near"])
def test_the_jackknife_of_a_difference_of_frechet_distances(shift, band):
    """Near the data the distance is almost quadratic and the interval too wide, as the module says."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(shift, 1, (SETS, 200, 2)), rng.normal(shift - 0.1, 1, (SETS, 200, 2))
    left = without(x, frechet) - without(y, frechet)
    assert band[0] <= covered(frechet(x) - frechet(y), left, 2 * (shift**2 - (shift - 0.1) ** 2)) <= band[1]


@pytest.mark.parametrize("n", [3, 8, 50])
def test_of_a_mean_of_single_rows_the_jackknife_is_the_standard_error(n):
    """Exact for any data: sqrt((n - 1) / n sum (mean without i - mean)^2) = s / sqrt(n)."""
    x = np.random.default_rng(n).normal(size=n)
    without = (x.sum() - x) / (n - 1)
    assert float(standard_error(without)) == pytest.approx(x.std(ddof=1) / np.sqrt(n), rel=1e-12)
