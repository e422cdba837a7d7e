"""The error table against exact errors; the identities of the discretisation loss; its exact solution."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sigmatune.core.rng import noise
from sigmatune.core.schedule import Schedule
from sigmatune.core.wrappers import Counted
from sigmatune.models.analytic import Empirical, GaussianMixture, GaussianSpectrum
from sigmatune.noise import VE, Flow, vp
from sigmatune.plan import compile_plan, sample
from sigmatune.schedules import build
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import discretisation
from sigmatune.tuning.discretisation import by_gradient, interval_costs, loss, shortest
from sigmatune.tuning.error_table import ErrorTable, TableSize, tabulate

F = np.fft.fftfreq(8) * 8
POWER = np.maximum(np.hypot(F[:, None], F[None, :]), 0.5) ** -2.2
WIDE = TableSize(24, micro_batch=64)
GAUSSIAN = GaussianSpectrum(POWER, (1, 8, 8), VE(0.01, 50.0))
SIGMA = np.geomspace(0.01, 50, 80)
EXACT = np.array([(POWER * s**2 / (POWER + s**2)).mean() for s in SIGMA])
TABLE = ErrorTable(SIGMA, EXACT, 1e-3 * EXACT, 1)


@pytest.fixture(scope="module")
def measured():
    return tabulate(GAUSSIAN, GAUSSIAN.draw(600, seed=1), WIDE)


def test_the_table_holds_the_exact_errors_within_its_standard_errors(measured):
    exact = np.array([(POWER * s**2 / (POWER + s**2)).mean() for s in measured.sigma])
    z = (measured.error - exact) / measured.standard_error
    assert np.abs(z).max() < 4, z
    repeats = [tabulate(GAUSSIAN, GAUSSIAN.draw(60, seed=s), TableSize(3, s, 64)) for s in range(60)]
    scatter = np.std([one.error for one in repeats], axis=0, ddof=1)
    stated = np.mean([one.standard_error for one in repeats], axis=0)
    assert_allclose(scatter, stated, rtol=0.35)


def test_one_noise_for_all_levels_makes_a_smooth_curve(measured):
    exact = np.array([(POWER * s**2 / (POWER + s**2)).mean() for s in measured.sigma])
    jumps = np.diff(measured.error / exact)
    alone = np.sqrt(2) * np.median(measured.standard_error / exact)  # what independent noises would give
    assert np.abs(jumps).mean() < 0.7 * alone


def test_the_table_costs_what_it_says_and_survives_the_disk(measured, tmp_path):
    counted = Counted(GAUSSIAN)
    seen = []
    again = tabulate(counted, GAUSSIAN.draw(600, seed=1), WIDE, progress=lambda *p: seen.append(p))
    assert again.error.tobytes() == measured.error.tobytes()
    assert counted.calls == 24 * 10
    assert seen[-1] == (240, 240)
    again.save(tmp_path / "t.json")
    loaded = ErrorTable.load(tmp_path / "t.json")
    for name in ("sigma", "error", "standard_error"):
        assert getattr(loaded, name).tobytes() == getattr(again, name).tobytes()
    assert (loaded.images, loaded.about) == (600, again.about)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "sigmatune/error-table", "version": 9}'])
def test_other_files_are_refused(text, tmp_path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(SigmaTuneError, match=r"not an error table|not JSON"):
        ErrorTable.load(tmp_path / "t.json")
    with pytest.raises(SigmaTuneError, match="cannot read"):
        ErrorTable.load(tmp_path / "other.json")


def test_the_isotonic_fit_pools_neighbours_that_fall():
    table = ErrorTable(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0]), np.ones(4), 5)
    assert table.rising.tolist() == [1, 2.5, 2.5, 4]
    assert_allclose(table.at(np.array([np.sqrt(2), 100.0, 0.1])), [1.75, 4, 1])


def test_whole_timesteps_are_taken_once():
    class Whole(GaussianSpectrum):
        integer_time = True

    model = Whole(POWER, (1, 8, 8), vp("linear", levels=20))
    table = tabulate(model, model.draw(4), TableSize(64))
    times = model.path.time(table.sigma)
    assert_allclose(times, np.rint(times), atol=1e-9)
    assert (np.diff(times) > 0.5).all()


def test_tower_identity():
    """E|D(x_s) - D(x_t)|^2 = e(t) - e(s) for the ideal denoiser along Markov noise, on data that are not Gaussian."""
    model = Empirical(noise(0, range(6), 0, (3,), dtype=torch.float64), VE(0.01, 50.0))
    n, s, t = 10_000, 0.4, 1.1
    x0 = model.draw(n, seed=2)
    x_s = x0 + s * noise(3, range(n), 0, (3,), dtype=torch.float64)
    x_t = x_s + np.sqrt(t**2 - s**2) * noise(4, range(n), 0, (3,), dtype=torch.float64)
    d_s, d_t = (model(x / np.hypot(1, level), level) for x, level in ((x_s, s), (x_t, t)))
    left = (d_s - d_t).square().sum(1)
    right = (d_t - x0).square().sum(1) - (d_s - x0).square().sum(1)
    difference = left - right
    assert abs(difference.mean().item()) < 4 * difference.std().item() / n**0.5
    assert left.mean() > 20 * left.std() / n**0.5  # not a statement about zero


def test_euler_is_a_convex_combination_of_what_the_network_said():
    schedule = build("karras", 7, GAUSSIAN.path)
    plan, seen = compile_plan(schedule, "euler", GAUSSIAN), []
    result = sample(GAUSSIAN, plan, 3, on_step=lambda step: seen.append((step.z.clone(), step.x0.clone())))
    sigma = schedule.sigmas[:-1]
    w = sigma[-1] * np.diff(1 / sigma)
    assert (w > 0).all()
    assert_allclose(w.sum(), 1 - sigma[-1] / sigma[0], rtol=1e-12)
    start = sigma[0] * noise(0, range(3), 0, GAUSSIAN.shape, dtype=torch.float64)
    x_m = sigma[-1] / sigma[0] * start + sum(weight * x0 for weight, (_, x0) in zip(w, seen[:-1], strict=True))
    assert_allclose(seen[-1][0].numpy() * np.hypot(1, sigma[-1]), x_m.numpy(), rtol=1e-9, atol=1e-12)
    assert_allclose(result.numpy(), seen[-1][1].numpy(), rtol=1e-12)


@pytest.mark.parametrize("weighting", ["riemann", "kl"])
def test_dynamic_programming_equals_brute_force(weighting):
    sigma = np.geomspace(30, 0.02, 11)
    cost = interval_costs(sigma, TABLE.at(sigma), weighting)
    sums, ways = shortest(cost, 10)
    for intervals in range(1, 11):
        every = [(0, *inner, 10) for inner in itertools.combinations(range(1, 10), intervals - 1)]
        totals = [sum(cost[i, j] for i, j in itertools.pairwise(way)) for way in every]
        assert_allclose(sums[intervals - 1], min(totals), rtol=1e-13)
        assert tuple(ways[intervals - 1]) == every[int(np.argmin(totals))]


@pytest.mark.parametrize("steps", [3, 5, 8, 16])
def test_the_gradient_finds_the_same_optimum(steps):
    ends = (30.0, 0.02)
    dynamic = discretisation.schedules(TABLE, GAUSSIAN.path, steps, ends=ends, grid=800)[steps - 1]
    found = by_gradient(TABLE, steps, ends=ends)
    assert_allclose(loss(TABLE, found), loss(TABLE, dynamic.sigmas[:-1]), rtol=5e-3)
    assert_allclose(dynamic.options["loss"], loss(TABLE, dynamic.sigmas[:-1]), rtol=1e-12)


def test_the_second_weight_is_its_integral():
    sigma = np.geomspace(20, 0.05, 600)
    cost = interval_costs(sigma, TABLE.at(sigma), "kl")
    for i, j in ((0, 599), (100, 400), (300, 599)):
        log_s = np.linspace(np.log(sigma[j]), np.log(sigma[i]), 40_001)
        integrand = (TABLE.at(sigma[[i]])[0] - TABLE.at(np.exp(log_s))) * np.exp(-2 * log_s)
        exact = np.trapezoid(integrand, log_s)
        assert_allclose(cost[i, j], exact, rtol=3e-3)


def test_all_budgets_at_once_are_schedules_of_the_path():
    for path in (GAUSSIAN.path, Flow(3.0), vp("linear")):
        found = discretisation.schedules(TABLE, path, 50)
        assert [schedule.steps for schedule in found] == list(range(1, 51))
        for schedule in found[1:]:
            assert isinstance(schedule.bound(path), Schedule)
            assert_allclose(schedule.sigmas[[0, -2]], found[1].sigmas[[0, -2]], rtol=1e-12)
        losses = [schedule.options["loss"] for schedule in found[1:]]
        assert (np.diff(losses) < 0).all()
    with pytest.raises(SigmaTuneError, match="larger grid"):
        discretisation.schedules(TABLE, GAUSSIAN.path, 50, grid=20)
    with pytest.raises(SigmaTuneError, match="outside the model's range"):
        discretisation.schedules(TABLE, GAUSSIAN.path, 5, ends=(100.0, 0.02))
    with pytest.raises(SigmaTuneError, match="'riemann' or 'kl'"):
        interval_costs(SIGMA[::-1], EXACT[::-1], "l2")


def test_refusals():
    with pytest.raises(SigmaTuneError, match="at least two images"):
        tabulate(GAUSSIAN, GAUSSIAN.draw(1))
    mixture = GaussianMixture([1.0], torch.zeros(1, 2), torch.eye(2)[None], VE())
    mixture.denoise = lambda z, sigma: z * float("nan")
    with pytest.raises(SigmaTuneError, match="NaN"):
        tabulate(mixture, torch.zeros(2, 2), TableSize(2))
    with pytest.raises(SigmaTuneError, match="rising"):
        ErrorTable(np.array([2.0, 1.0]), np.ones(2), np.ones(2), 3)
