"""The paired statistic and the sliced distance against what they must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from sigmatune.statistics.paired import compare
from sigmatune.statistics.sliced import sliced_wasserstein
from sigmatune.support.errors import SigmaTuneError


def errors(n: int, effect: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors with a large spread between rows, shared by both, and a small one within a pair."""
    rng = np.random.default_rng(seed)
    default = np.exp(rng.normal(0, 1, n))
    return default * np.exp(effect + rng.normal(0, 0.2, n)), default


def test_a_constant_ratio_is_found_exactly():
    _, default = errors(20, 0, 0)
    found = compare(0.5 * default, default)
    for value in (found.statistic, found.low, found.high, found.median):
        assert value == pytest.approx(np.log(0.5), abs=1e-12)
    assert found.gain
    assert found.worse == 0
    assert compare(3 * default, default).much_worse == 1


def test_pairing_removes_the_spread_between_rows():
    plan, default = errors(100, -0.1, 1)
    found = compare(plan, default)
    assert found.gain
    assert found.high - found.low < 0.15
    assert stats.ttest_ind(np.log(plan), np.log(default)).pvalue > 0.2  # unpaired, nothing would be seen


def test_the_interval_covers_the_truth_as_often_as_it_says():
    hits = [
        found.low <= -0.1 <= found.high
        for seed in range(100)
        for found in [compare(*errors(60, -0.1, seed), seed=seed)]
    ]
    assert 0.88 <= np.mean(hits) <= 0.99


def test_no_effect_is_called_a_gain_rarely():
    gains = [compare(*errors(60, 0.0, seed), seed=seed).gain for seed in range(100)]
    assert np.mean(gains) <= 0.06


def test_trimming_keeps_single_rows_from_deciding():
    plan, default = errors(100, -0.1, 2)
    spoiled = plan.copy()
    spoiled[:5] *= 1e6
    assert abs(compare(spoiled, default).statistic - compare(plan, default).statistic) < 0.05
    assert compare(spoiled, default).much_worse >= 0.05


def test_swapping_the_two_flips_the_sign():
    plan, default = errors(50, -0.2, 3)
    assert compare(default, plan).statistic == pytest.approx(-compare(plan, default).statistic)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_bad_errors_are_refused(bad):
    with pytest.raises(SigmaTuneError, match="positive and finite"):
        compare(np.array([1.0, bad]), np.ones(2))
    with pytest.raises(SigmaTuneError, match="equally long"):
        compare(np.ones(3), np.ones(2))


def test_sliced_wasserstein_of_a_shift_is_its_projected_length():
    x = torch.randn(300, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    shift = torch.zeros(2, 8, 8)
    shift[0, 0, 0] = 3.0
    # E |theta . shift|^2 = |shift|^2 / d
    assert sliced_wasserstein(x, x + shift, projections=4000) == pytest.approx(3 / 128**0.5, rel=0.05)
    assert sliced_wasserstein(x, x[torch.randperm(300)]) == pytest.approx(0, abs=1e-6)


def test_sliced_wasserstein_of_scaled_gaussians():
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(4000, 16, generator=g), 2 * torch.randn(4000, 16, generator=g)
    assert sliced_wasserstein(x, y) == pytest.approx(1.0, rel=0.05)  # |2 - 1| along every direction
    with pytest.raises(SigmaTuneError, match="equal shape"):
        sliced_wasserstein(x, y[:5])
