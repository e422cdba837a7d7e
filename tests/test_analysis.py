"""Stepwise spectral analysis: closed forms on Gaussian data, what is kept, Beta distributions fitted to known densities."""

from __future__ import annotations

import gc
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import beta as beta_distribution

import sigmatune
from exact import PATHS, gaussian, power_law
from sigmatune import report
from sigmatune.analysis.beta_fit import (
    against_fit,
    beta_parts,
    divergence,
    equal_bins,
    fit,
    fit_beta,
    quantiles,
    total_variation,
)
from sigmatune.analysis.figures import change_map, rendered
from sigmatune.analysis.fold_intervals import jackknife
from sigmatune.analysis.result import Stepwise
from sigmatune.analysis.stepwise import FLOOR, analyze, analyze_groups, chain, log_magnitudes, mean
from sigmatune.analysis.summary import band_medians, fit_sentence, order_sentence, summary
from sigmatune.core.wrappers import Counted, Wrapper
from sigmatune.models.analytic import Empirical, GaussianSpectrum
from sigmatune.noise import VE, Flow, alpha_of, s_of, vp
from sigmatune.plan import compile_plan
from sigmatune.schedules import FAMILIES, build
from sigmatune.spectra.rings import rings
from sigmatune.statistics.paired import CONFIDENCE
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.run_folder import LOCK
from sigmatune.tuning import TuningSettings, Workbench, tune_on

GAMMA = 0.5772156649015329


def white(power: float = 0.3, path=None, size: int = 8) -> GaussianSpectrum:
    return GaussianSpectrum(np.full((size, size), power), (1, size, size), path or vp())


def ring_means(values: np.ndarray) -> np.ndarray:
    """The mean of (H, W) values over each whole ring, by hand."""
    index = rings(*values.shape)
    return np.array([values[index == k].mean() for k in range(min(values.shape) // 2 + 1)])


def expected_log(variance: np.ndarray) -> np.ndarray:
    """E log|F| per ring for independent modes of given variance: real modes have log 2 less of log|F|^2."""
    h, w = variance.shape
    y, x = np.indices((h, w))
    real = ((2 * y) % h == 0) & ((2 * x) % w == 0)
    return ring_means((np.log(variance) - GAMMA - np.log(2) * real) / 2)


# --------------------------------------------------------------------------------------------------- the spectra themselves


def test_the_mean_log_magnitude_by_hand():
    x = torch.randn(3, 2, 6, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    index = rings(6, 10)
    for row, image in zip(log_magnitudes(x), x.numpy(), strict=True):
        logs = np.log(np.abs(np.fft.fft2(image, norm="ortho")))
        assert_allclose(row, [np.mean([c[index == k].mean() for c in logs]) for k in range(4)], rtol=1e-12)


def test_it_is_the_mean_of_the_log_and_not_the_log_of_the_mean():
    """White noise of variance v: (log v - gamma) / 2 over complex modes; the log of the mean would be (log v) / 2."""
    x = 3.0 * torch.randn(400, 1, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = log_magnitudes(x)
    assert_allclose(found.mean(axis=0), expected_log(np.full((16, 16), 9.0)), atol=4 * 0.65 / np.sqrt(400))
    assert found[:, 5].mean() == pytest.approx(np.log(3) - GAMMA / 2, abs=0.01)


def test_the_magnitudes_of_a_row_do_not_depend_on_the_other_rows():
    """Bodies and tails of arrays: numbers of modes that no vector of a processor divides."""
    x = torch.randn(2000, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    assert_array_equal(np.concatenate([log_magnitudes(x[i : i + 1]) for i in range(len(x))]), log_magnitudes(x))


def test_magnitudes_of_nothing_are_floored_and_nan_is_refused():
    assert_array_equal(log_magnitudes(torch.zeros(1, 1, 4, 4)), np.full((1, 3), np.log(FLOOR)))
    with pytest.raises(SigmaTuneError, match="NaN or infinity; it cannot be analysed"):
        log_magnitudes(torch.full((1, 1, 4, 4), float("nan")))


@pytest.mark.parametrize("name", PATHS)
def test_gaussian_data_follows_the_exact_flow(name):
    """L(k) of the state in the model's own scaling, within Monte Carlo error; its changes to the solver's accuracy."""
    path, n = PATHS[name], 96
    model = gaussian(path)
    found = analyze(model, n, plan=replace(chain(model, 300, solver="dpmpp2m"), micro_batch=n))
    sigmas = found.sigmas[:-1]
    alpha, s = alpha_of(sigmas)[:, None, None], s_of(sigmas)[:, None, None]
    unit = alpha**2 * power_law() + s**2
    # What a run starts from is noise of variance s^2, not yet the marginal.
    variance = unit * (s[0] ** 2 / unit[0]) * path.state_scale(sigmas)[:, None, None] ** 2
    exact = np.array([expected_log(v) for v in variance])
    error = np.pi / np.sqrt(24 * n * np.minimum(found.modes / 2, 2 * np.arange(5) + 1))
    assert np.all(np.abs(found.log_magnitude()[:-1] - exact) < 4 * error)
    assert_allclose(
        np.diff(found.log_magnitude()[:-1], axis=0).cumsum(axis=0), np.diff(exact, axis=0).cumsum(axis=0), atol=6e-3
    )


def test_eulers_own_gain_to_rounding():
    """On Gaussian data every mode is multiplied by one number per step; so are all samples, whatever their noise."""
    model = gaussian(vp())
    found = analyze(model, 4, plan=chain(model, 30))
    sigmas, P = found.sigmas, power_law()
    x = 1 + np.diff(sigmas)[:, None, None] / sigmas[:-1, None, None] * (1 - P / (P + sigmas[:-1, None, None] ** 2))
    alpha = alpha_of(sigmas)
    exact = np.array([ring_means(np.log(np.abs(g * b / a))) for g, a, b in zip(x, alpha, alpha[1:], strict=False)])
    assert_allclose(found.change(relative=False), exact, atol=1e-10)
    assert_allclose(found.change(), exact - exact[:, :1], atol=1e-10)


def test_the_estimate_is_the_denoisers_output():
    """D = P / (P + sigma^2) x: the two spectra differ by the log of the gain; at sigma = 0 they are the same image."""
    model = gaussian(VE())
    found = analyze(model, 3, plan=chain(model, 20))
    gain = [ring_means(np.log(power_law() / (power_law() + s**2))) for s in found.sigmas]
    assert_allclose(found.log_magnitude("x0") - found.log_magnitude("x"), gain, atol=1e-9)
    assert_array_equal(found.log_magnitude("x0")[-1], found.log_magnitude("x")[-1])


def test_positions_and_the_state_scale_of_every_path():
    for path in PATHS.values():
        model = gaussian(path)
        found = analyze(model, 2, plan=chain(model, 10))
        assert_allclose(found.taus, path.levels * np.arange(10, -1, -1) / 10, atol=1e-6)
        assert found.shares[[0, -1]] == pytest.approx([1, 0])
        assert found.steps == 10
    # Of one model and noise, x = x0 + sigma eps is the unit state times sqrt(1 + sigma^2).
    sigmas = sigmatune.Schedule([20.0, 3.0, 0.5, 0.1, 0.0])
    a, b = (analyze(m, 2, plan=compile_plan(sigmas, "euler", m)) for m in (gaussian(VE()), gaussian(vp())))
    ratio = np.append(np.log(np.hypot(1, sigmas.sigmas[:-1])), 0)
    assert_allclose(a.log_magnitude() - b.log_magnitude(), np.tile(ratio[:, None], (1, 5)), atol=1e-9)
    assert_allclose(a.rlm(), b.rlm(), atol=1e-9)


def test_low_bands_change_before_high_ones_on_falling_spectra_and_together_on_white_ones():
    for exponent in (1.0, 2.0, 3.0):
        model = GaussianSpectrum(power_law(16, exponent), (1, 16, 16), vp())
        found = analyze(model, 4, plan=chain(model, 100))
        for relative in (True, False):
            low, high, gap = band_medians(found, relative=relative)
            assert low.value > high.value + 20
            assert gap.value == pytest.approx(low.value - high.value)
        assert order_sentence(found).startswith("Low frequencies change before high ones")
    rising = GaussianSpectrum(1 / power_law(16, 2.0) * 1e-3, (1, 16, 16), vp())
    backwards = analyze(rising, 4, plan=chain(rising, 100))
    assert order_sentence(backwards, relative=False).startswith("High frequencies change before low ones")
    found = analyze(white(), 4, plan=chain(white(), 100))
    low, high, gap = band_medians(found, relative=False)
    assert gap.value == pytest.approx(0, abs=1e-6)
    assert_allclose(found.change(), 0, atol=1e-12)  # all frequencies keep step with k = 0
    with pytest.raises(SigmaTuneError, match="no frequency changes against the mean colour"):
        found.parts()


def test_changes_telescope_and_densities_integrate_to_them():
    model = gaussian(Flow(3.0))
    found = analyze(model, 3, plan=chain(model, 25, solver="ancestral", family="uniform-linspace"))
    for of in ("x", "x0"):
        rlm = found.rlm(of)
        assert_array_equal(rlm[:, 0], 0)
        assert_allclose(found.change(of).sum(axis=0), rlm[-1] - rlm[0], atol=1e-12)
        width = -np.diff(found.taus)
        assert_allclose(found.density(of) * width, np.abs(found.change(of)).sum(axis=1))
        edges, parts = found.parts(of)
        assert parts.sum() == pytest.approx(1)
        assert_allclose(edges, found.taus[::-1] / 1000)
        assert_allclose(parts[::-1], found.density(of) * width / (found.density(of) * width).sum())
        bands = [np.abs(found.change(of))[:, found.rings(band)].sum(axis=1) / width for band in ("low", "high")]
        assert_allclose(bands, [found.density(of, band=band) for band in ("low", "high")])


@pytest.mark.parametrize(
    ("size", "low", "high"), [(4, [1], [2]), (6, [1], [3]), (8, [1], [3, 4]), (32, [*range(1, 6)], [*range(11, 17)])]
)
def test_bands(size, low, high):
    found = analyze(white(size=size), 2, plan=chain(white(size=size), 2))
    assert found.rings("low").tolist() == low
    assert found.rings("high").tolist() == high
    assert found.rings().tolist() == list(range(1, size // 2 + 1))


# ----------------------------------------------------------------------------------------------------- what is run and kept


def mixture(path=None) -> Empirical:
    """A model that is not linear, so that samples differ in more than their noise."""
    images = torch.randn(12, 2, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return Empirical(images + 0.5, path or vp())


def test_sums_are_those_of_one_run_bit_for_bit():
    model = mixture()
    plan = replace(chain(model, 12), micro_batch=4)
    found = analyze(model, 10, plan=plan, seed=3)
    states, estimates = {}, {}

    def record(step):
        for row, z, x0 in zip(step.rows, step.z, step.x0, strict=True):
            states[step.call, row], estimates[step.call, row] = log_magnitudes(z[None])[0], log_magnitudes(x0[None])[0]

    images = sigmatune.sample(model, plan, 10, seed=3, on_step=record)
    assert found.folds == 10
    for row in range(10):
        assert_array_equal(found.sums_x[row, :-1], [states[k, row] for k in range(12)])
        assert_array_equal(found.sums_x0[row, :-1], [estimates[k, row] for k in range(12)])
        assert_array_equal(found.sums_x[row, -1], log_magnitudes(images[row : row + 1])[0])
    other = analyze(model, 10, plan=replace(plan, micro_batch=16), seed=3)
    assert_allclose(other.sums_x, found.sums_x, rtol=1e-9, atol=1e-9)
    assert not np.allclose(analyze(model, 10, plan=plan, seed=4).sums_x, found.sums_x)


def test_more_samples_add_to_the_folds_of_those_before():
    model, plan = mixture(), replace(chain(mixture(), 6), micro_batch=5)
    few, more = analyze(model, 10, plan=plan), analyze(model, 23, plan=plan)
    assert more.counts.tolist() == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    assert (few.n, more.n) == (10, 23)
    ten = np.array([analyze(model, 30, plan=plan).sums_x[i] - more.sums_x[i] for i in (3, 9)])
    assert np.all(ten != 0)
    assert_array_equal(analyze(model, 7, plan=plan).counts, np.ones(7))
    left = more.without(2)
    assert left.n == 20
    total = more.log_magnitude() * 23 - more.sums_x[2]
    assert_allclose(left.log_magnitude() * 20, total, rtol=1e-9, atol=1e-9)


def test_stochastic_chains_and_the_default_one():
    model = mixture()
    noisy = analyze(model, 4, plan=chain(model, 30, solver="ddpm"))
    assert noisy.about["solver"] == "ancestral"
    assert np.abs(noisy.change()).sum() > np.abs(analyze(model, 4, plan=chain(model, 30)).change()).sum()
    default = chain(model)
    assert (default.solver, default.schedule.family, default.steps) == ("euler", "uniform-trailing", 200)
    assert chain(gaussian(Flow(levels=50))).steps == 50
    about = analyze(model, 5, plan=replace(chain(model, 3), micro_batch=4), seed=2).about
    assert (about["n"], about["seed"]) == (5, 2)
    assert about["network_evaluations"] in (24, 24 + 5)  # five more where the model has not been checked before
    assert about["model"] == model.fingerprint()
    json.dumps(about)


class Watched(Wrapper):
    """Notes the largest number of bytes that all living tensors hold, at every call."""

    def __init__(self, inner):
        super().__init__(inner)
        self.most = self.seen = 0

    def denoise(self, z, sigma):
        self.seen += 1
        if self.seen % 20 != 19:  # looking takes its time
            return self.inner(z, sigma)
        tensors = [o for o in gc.get_objects() if type(o) is torch.Tensor]
        held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        self.most = max(self.most, sum(held.values()))
        return self.inner(z, sigma)


def test_memory_does_not_grow_with_samples_and_no_image_is_kept():
    def most(n, steps):
        model = Watched(white(size=64))
        analyze(model, n, plan=replace(chain(model, steps), micro_batch=4))
        return model.most

    most(8, 10)
    base, image = most(8, 10), 64 * 64 * 8
    assert most(24, 10) < base + image
    assert most(8, 60) < base + image  # coefficients of more steps are less than one image


class Stop(Exception):
    pass


def test_a_killed_run_loses_at_most_one_micro_batch(tmp_path):
    model = mixture()
    plan = replace(chain(model, 8), micro_batch=3)
    whole = analyze(model, 12, plan=plan)

    def stop(done, total):
        assert total == 4 * 8
        if done == 2 * 8 + 5:  # in the third of four micro-batches
            raise Stop

    with pytest.raises(Stop):
        analyze(model, 12, plan=plan, store=tmp_path, progress=stop)
    counted, seen = Counted(model), []
    resumed = analyze(counted, 12, plan=plan, store=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert counted.calls == 2 * 8
    assert seen == [(done, 32) for done in range(17, 33)]
    for name in ("sums_x", "sums_x0", "counts"):
        assert_array_equal(getattr(resumed, name), getattr(whole, name))
    again = Counted(model)
    assert_array_equal(analyze(again, 12, plan=plan, store=tmp_path).sums_x, whole.sums_x)
    assert again.calls == 0
    other = Counted(model)
    analyze(other, 12, plan=plan, store=tmp_path, seed=1)
    assert other.calls == 4 * 8  # another seed is another run
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert_array_equal(analyze(model, 12, plan=plan, store=tmp_path).sums_x, whole.sums_x)


def test_groups_share_their_noises():
    models = {"a": mixture(), "b": gaussian_pair()}
    calls = []
    found, pooled = analyze_groups(models, 11, plan=chain(mixture(), 6), progress=lambda *done: calls.append(done))
    assert calls == [(i, 12) for i in range(1, 13)]
    for name, model in models.items():
        alone = analyze(model, 11, plan=chain(model, 6))
        assert_array_equal(found[name].sums_x, alone.sums_x)
        assert found[name].about["model"] == model.fingerprint()
    assert pooled.n == 22
    both = (found["a"].log_magnitude("x0") + found["b"].log_magnitude("x0")) / 2
    assert_allclose(pooled.log_magnitude("x0"), both, rtol=1e-12)
    assert set(pooled.about["mean_of"]) == {"a", "b"}
    with pytest.raises(SigmaTuneError, match="of equal shape and noise path"):
        analyze_groups({"a": mixture(), "b": mixture(VE())}, 4)
    with pytest.raises(SigmaTuneError, match="at least one denoiser"):
        analyze_groups({}, 4)
    with pytest.raises(SigmaTuneError, match="one chain, one seed"):
        mean({"a": found["a"], "b": analyze(mixture(), 11, plan=chain(mixture(), 6), seed=1)})


def gaussian_pair() -> GaussianSpectrum:
    return GaussianSpectrum(power_law(), (2, 8, 8), vp())


def test_what_is_refused():
    model = mixture()

    def refused(message, *arguments, **options):
        with pytest.raises(SigmaTuneError, match=message):
            analyze(*arguments, **options)

    refused("one network call per step and heun makes others", model, 4, plan=chain(model, 5, solver="heun"))
    refused("at least 2 samples", model, 1)
    refused("n must be a whole number", model, 0)
    refused("at least 4 x 4 pixels", white(size=3), 4)
    refused("at least 4 x 4 pixels", Empirical(torch.randn(3, 7), vp()), 4)
    refused("outside the model's range", model, 4, plan=compile_plan(sigmatune.Schedule([1e4, 1.0, 0.0]), "euler"))
    with pytest.raises(SigmaTuneError, match="at most the model's 1000 levels"):
        chain(model, 1001)


# ------------------------------------------------------------------------------------------------------------------ the file


@pytest.fixture(scope="module")
def analysis():
    model = mixture()
    return analyze(model, 13, plan=chain(model, 40))


def test_a_saved_analysis_comes_back(analysis, tmp_path):
    analysis.save(tmp_path / "a.npz")
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "a.json"}
    again = Stepwise.load(tmp_path / "a.npz")
    for name in ("taus", "sigmas", "sums_x", "sums_x0", "counts", "modes"):
        assert_array_equal(getattr(again, name), getattr(analysis, name))
        assert getattr(again, name).dtype == np.float64
    assert again.about == dict(analysis.about)
    assert again.levels == 1000
    assert summary(again) == summary(analysis)


def test_broken_files_are_refused(analysis, tmp_path):
    path, beside = tmp_path / "a.npz", tmp_path / "a.json"

    def refused(message, where=path):
        with pytest.raises(SigmaTuneError, match=message):
            Stepwise.load(where)

    refused("cannot read")
    refused(r"ends in \.npz", tmp_path / "a.json")
    with pytest.raises(SigmaTuneError, match=r"ends in \.npz"):
        analysis.save(tmp_path / "a.txt")
    analysis.save(path)
    whole, text = path.read_bytes(), beside.read_text()
    path.write_bytes(whole[:-200])
    refused("not from one run")
    path.write_bytes(whole)
    for broken, message in [
        ("{", "is not JSON"),
        ("[]", "does not describe an analysis"),
        (text.replace("sigmatune/analysis", "sigmatune/plan"), "does not describe"),
        (text.replace('"version": 1', '"version": 2'), "only version 1 is known"),
        (text.replace('"levels": 1000', '"levels": 10'), "fall from at most"),
        (text.replace('"levels"', '"lovels"'), "is not an analysis"),
    ]:
        beside.write_text(broken)
        refused(message)
    beside.unlink()
    refused("cannot read .*a.json")


def test_what_is_no_analysis_is_refused(analysis):
    for changes in (
        {"taus": analysis.taus[::-1]},
        {"sums_x": analysis.sums_x[:, :-1]},
        {"sums_x0": np.full_like(analysis.sums_x0, np.nan)},
        {"counts": np.zeros_like(analysis.counts)},
        {"sigmas": analysis.sigmas[::-1]},
    ):
        with pytest.raises(SigmaTuneError):
            replace(analysis, **changes)


# -------------------------------------------------------------------------------------------------------- Beta distributions


@pytest.mark.parametrize("truth", [(0.5, 0.5), (0.6, 0.6), (2.0, 5.0), (1.0, 1.0), (0.8, 1.7), (12.0, 3.0)])
def test_known_densities_give_back_their_parameters(truth):
    for edges in (np.linspace(0, 1, 201), np.linspace(0, 1, 16) ** 2, np.linspace(0, 0.9, 50)):
        parts = np.diff(beta_distribution(*truth).cdf(edges))
        assert fit(edges, 7 * parts) == pytest.approx(truth, rel=1e-3)
        assert_allclose(beta_parts(edges, *truth), parts / parts.sum(), rtol=1e-9, atol=1e-15)
    if truth[0] == truth[1]:
        assert fit(edges, parts, symmetric=True) == pytest.approx(truth, rel=1e-4)
        mirrored = fit(1 - edges[::-1], parts[::-1])
        assert mirrored == pytest.approx(truth, rel=1e-3)


def test_the_fit_is_the_maximum_of_the_likelihood():
    """And of samples it is the maximum-likelihood estimate that scipy finds, but for the width of the bins."""
    draws = np.random.default_rng(0).beta(0.7, 1.6, 4000)
    edges = np.linspace(0, 1, 1001)
    parts = np.histogram(draws, edges)[0].astype(float)
    a, b, *_ = beta_distribution.fit(draws, floc=0, fscale=1)
    assert fit(edges, parts) == pytest.approx((a, b), rel=0.01)
    best = divergence(parts / parts.sum(), beta_parts(edges, *fit(edges, parts)))
    for other in ((a * 1.05, b), (a, b * 0.95), (a * 1.02, b * 1.02)):
        assert divergence(parts / parts.sum(), beta_parts(edges, *other)) > best


def test_what_no_beta_fits_is_refused():
    edges = np.linspace(0, 1, 11)
    for parts in ([0] * 10, [-1] + [1] * 9, [np.nan] * 10, [1] * 9):
        with pytest.raises(SigmaTuneError, match="a fit needs bins"):
            fit(edges, np.array(parts, dtype=float))
    with pytest.raises(SigmaTuneError, match="in one bin"):
        fit(np.linspace(0, 1, 2001), np.eye(2000)[700])


def synthetic(parts: np.ndarray, seed: int, n: int = 40, spread: float = 0.6) -> Stepwise:
    """An analysis whose change is ``parts`` on average: every sample changes by its own factors in every step."""
    rng, steps = np.random.default_rng(seed), len(parts)
    step = parts[::-1, None] * rng.lognormal(-(spread**2) / 2, spread, (n, steps, 1)) * np.array([0.0, 1.0, 2.0])
    curves = np.concatenate([np.zeros((n, 1, 3)), step.cumsum(axis=1)], axis=1)
    counts = np.bincount(np.arange(n) % 10)
    sums = np.array([curves[np.arange(n) % 10 == fold].sum(axis=0) for fold in range(10)])
    taus = 1000 * np.arange(steps, -1, -1) / steps
    sigmas = np.append(vp().at_position(taus[:-1]), 0.0)
    return Stepwise(taus, sigmas, sums, sums, counts, np.array([1.0, 8.0, 16.0]), 1000)


def test_the_jackknife_interval_covers_the_truth():
    edges = np.linspace(0, 1, 13)
    parts, hits, trials = np.diff(beta_distribution(0.7, 1.6).cdf(edges)), np.zeros(2), 48
    for seed in range(trials):
        estimates = jackknife(synthetic(parts, seed), lambda part: fit(*part.parts()), log=True)
        hits += [e.low <= truth <= e.high for e, truth in zip(estimates, (0.7, 1.6), strict=True)]
    assert np.all(hits / trials > CONFIDENCE - 3 * np.sqrt(0.05 * 0.95 / trials)), hits / trials
    assert np.all(hits / trials < 1), "an interval that always covers is too wide"


def test_the_jackknife_of_a_mean_is_the_textbook_interval():
    found = synthetic(np.ones(20) / 20, 1)
    (estimate,) = jackknife(found, lambda part: [part.log_magnitude()[-1, 1]])
    folds = found.sums_x[:, -1, 1] / found.counts
    half = 2.2621571627 * folds.std(ddof=1) / np.sqrt(10)  # t, 9 degrees of freedom
    assert [estimate.value, estimate.low, estimate.high] == pytest.approx(folds.mean() + half * np.array([0, -1, 1]))


def test_a_fit_of_an_analysis_says_how_far_the_hand_picked_ones_are():
    edges = np.linspace(0, 1, 41)
    found = synthetic(np.diff(beta_distribution(0.6, 0.6).cdf(edges)), 4, n=400, spread=0.3)
    best = fit_beta(found)
    assert best.symmetric.low < 0.6 < best.symmetric.high
    assert best.divergence <= best.symmetric_divergence
    near, far = (against_fit(found, best, a) for a in (0.6, 0.5))
    assert near["half_widths"] < 1 < far["half_widths"]
    width = np.log(best.symmetric.high / best.symmetric.value)
    assert far["half_widths"] == pytest.approx(abs(np.log(best.symmetric.value / 0.5)) / width)
    for key in ("total_variation", "divergence", "total_variation_to_fit"):
        assert near[key] < far[key]
    assert fit_sentence(best).startswith("A symmetric Beta(a, a) may describe")
    skewed = fit_beta(synthetic(np.diff(beta_distribution(0.6, 1.6).cdf(edges)), 4, n=400))
    assert skewed.ratio.value == pytest.approx(1.6 / 0.6, rel=0.05)
    assert "more of it lies towards the clean end" in fit_sentence(skewed)
    assert total_variation(np.array([0.5, 0.5]), np.array([0.2, 0.8])) == pytest.approx(0.3)
    assert divergence(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(np.log(2))


def test_bands_are_fitted_apart(analysis):
    low, high = (fit_beta(analysis, band=band) for band in ("low", "high"))
    assert low.a != high.a
    edges, parts = analysis.parts(band="low")
    assert (low.a.value, low.b.value) == fit(edges, parts)


# ---------------------------------------------------------------------------------------- the density's own transform


def test_levels_at_the_quantiles_are_steps_of_equal_change(analysis):
    """The family ``measured`` with an analysis' bins: between neighbours there is the same share of the change."""
    density = equal_bins(analysis, 40)
    assert sum(density) == pytest.approx(1)
    assert_allclose(density, analysis.parts()[1], atol=1e-12)  # as many bins as equal steps: the density itself
    schedule = build("measured", 9, vp(), density=density)
    shares = (vp().position(schedule.sigmas[:-1]) - 1) / 999
    edges, parts = analysis.parts()
    assert_allclose(np.interp(shares, edges, np.append(0, parts.cumsum())), np.linspace(1, 0, 9), atol=1e-9)
    assert_allclose(quantiles(analysis)(np.linspace(1, 0, 9)), shares, atol=1e-9)
    coarse = equal_bins(analysis, 8)
    assert_allclose(coarse, np.reshape(density, (8, 5)).sum(axis=1), atol=1e-12)
    with pytest.raises(SigmaTuneError, match="at most as many bins"):
        equal_bins(analysis, 41)


@pytest.mark.parametrize("truth", [(0.5, 0.5), (0.6, 0.6), (0.8, 1.7)])
def test_the_bins_of_a_beta_distribution_approach_the_beta_family(truth):
    exact = vp().position(build("beta", 12, vp(), a=truth[0], b=truth[1]).sigmas[:-1])
    errors = []
    for bins in (50, 500, 5000):
        density = np.diff(beta_distribution(*truth).cdf(np.linspace(0, 1, bins + 1))).tolist()
        mine = vp().position(build("measured", 12, vp(), density=density).sigmas[:-1])
        errors.append(np.abs(mine - exact).max())
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    assert errors[2] < 0.02


def test_measured_by_hand_and_what_it_refuses():
    t = vp().time(build("measured", 5, vp(), density=[3, 1]).sigmas[:-1])
    assert_allclose(t, 999 * np.array([1, 0.5, 1 / 3, 1 / 6, 0]), atol=1e-6)
    jumped = vp().time(build("measured", 5, vp(), density=[0, 1, 0, 0, 1, 0]).sigmas[:-1])
    assert_allclose(jumped / 999, [1, 0.75, jumped[2] / 999, 0.25, 0], atol=1e-9)
    assert 1 / 3 <= jumped[2] / 999 <= 2 / 3
    raw = FAMILIES["measured"].build(4, vp(), density=[0.0, 1.0, 0.0])  # before build() puts roundoff at the ends right
    assert vp().time(raw)[[0, -1]] == pytest.approx([999, 0], abs=1e-6)
    scaled = build("measured", 7, vp(), density=[3e200, 1e200]).sigmas
    assert_array_equal(scaled, build("measured", 7, vp(), density=[3.0, 1.0]).sigmas)
    for wrong in (
        [],
        [0.0, 0.0],
        [1.0, -1.0],
        [1.0, float("nan")],
        [1.0, float("inf")],
        "flat",
        [[1.0]],
        ["1"],
        3,
        [True],
    ):
        with pytest.raises(SigmaTuneError, match="density must be a list of numbers of at least 0"):
            build("measured", 4, vp(), density=wrong)


def test_a_measured_plan_survives_its_file(analysis, tmp_path):
    schedule = build("measured", 6, vp(), density=equal_bins(analysis, 10))
    compile_plan(schedule, "euler").save(tmp_path / "plan.json")
    assert sigmatune.load_plan(tmp_path / "plan.json").schedule == schedule


# ------------------------------------------------------------------------------------------ images, command line, report


def test_the_change_map_is_read_from_noise_to_data(analysis):
    shown = change_map(analysis, columns=40)
    assert shown.shape == (4, 40)
    assert_allclose(shown, analysis.change()[:, 1:].T * 40 / 100, atol=1e-12)
    late = replace(
        analysis, taus=analysis.taus[10:], sigmas=analysis.sigmas[10:], sums_x=analysis.sums_x[:, 10:],
        sums_x0=analysis.sums_x0[:, 10:],
    )  # fmt: skip
    assert_array_equal(change_map(late, columns=40)[:, :10], 0)
    assert_allclose(change_map(late, columns=40)[:, 10:], shown[:, 10:], atol=1e-12)


def test_pictures_are_the_same_every_time(analysis):
    png, svg = rendered(analysis)
    assert png.startswith(b"\x89PNG")
    assert (png, svg) == rendered(analysis)
    for text in (b"13 samples, 40 steps", b"paper: Beta(0.50, 0.50)", b"pure noise left"):
        assert text in svg


def test_the_command_line(run, tmp_path, tiny, monkeypatch):
    # test_files.py draws; here it is what the numbers are.
    monkeypatch.setattr("sigmatune.analysis.figures.rendered", lambda _: (b"drawn", b"before"))
    code, out, err = run("analyze", tiny, "-n", 10, "--steps", 20, "--seed", 3, "-o", "d.npz")
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"d.npz", "d.json", "d.png", "d.svg"}
    found = Stepwise.load("d.npz")
    assert (found.n, found.steps, found.about["seed"]) == (10, 20, 3)
    said = summary(found)
    assert said["order"] in out
    assert said["fit_sentence"] in out
    assert f"Beta({said['fit']['a']['value']:.2f} (" in out
    assert "the paper's Beta(0.5, 0.5)" in out
    code, out, err = run("analyze", tiny, "-n", 10, "--steps", 20, "--seed", 3, "--json", "--store", "kept")
    fields = json.loads(out)
    assert (code, err) == (0, "")
    assert fields["files"] == ["analysis.npz", "analysis.json", "analysis.png", "analysis.svg"]
    assert {**fields, "files": None} == {**json.loads(json.dumps(said)), "files": None}
    assert [path.suffix for path in (tmp_path / "kept").iterdir() if path.name != LOCK] == [".npz"]
    assert (tmp_path / "d.npz").read_bytes() == (tmp_path / "analysis.npz").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "digits"),
        (["digits", "-n", 1], "at least 2 samples"),
        (["digits", "-n", 0], "n must be a whole number"),
        (["digits", "--steps", 0], "steps must be a whole number"),
        (["digits", "--steps", 1001], "at most the model's 1000 levels"),
        (["digits", "--solver", "eular"], "did you mean 'euler'"),
        (["digits", "--solver", "heun", "--steps", 5], "heun makes others"),
        (["digits", "--family", "uniform"], "did you mean"),
        (["digits", "--seed", -1, "--steps", 2], "seed"),
        (["digits", "--out", "a.json"], "must be an .npz file"),
        (["digits", "--out", "no/a.npz"], "there is no folder no"),
        (["digits", "--store", "file"], "file is a file"),
        (["digits", "--device", "warp"], "warp"),
    ],
)
def test_bad_input(run, tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    code, out, err = run("analyze", *arguments)
    assert code == 2, (out, err)
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_report_has_the_section_only_with_an_analysis(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sigmatune.report.charts.chart", lambda *_: ""
    )  # the other sections' charts take most of the time
    monkeypatch.setattr("sigmatune.report.measurements.BUDGETS", (4,))
    settings = TuningSettings(tuning=4, validation=4, held_out=8, evaluations=2, reference_steps=8, micro_batch=4)
    bench = Workbench(gaussian(vp()), settings)
    plan = tune_on(bench, 4, solver="euler", method="static")
    found = report.glance(bench)
    assert (found.n, found.steps, found.about["solver"]) == (8, 40, "euler")
    pages = []
    for analysis in (None, found):
        report.write(tmp_path / "r.html", bench, plan, rows=2, analysis=analysis)
        pages.append((tmp_path / "r.html").read_text())
    assert 'id="frequencies"' not in pages[0]
    assert pages[1].count('id="frequencies"') == 1
    assert order_sentence(found, relative=False) in pages[1]
    assert pages[1].count("<svg") == pages[0].count("<svg") + 2
    assert pages[1].index('id="residuals"') < pages[1].index('id="frequencies"') < pages[1].index('id="evidence"')
    for data in (Empirical(torch.randn(4, 6), vp()), white(size=3)):
        assert report.glance(Workbench(data, settings)) is None
    flat = report.glance(Workbench(white(), settings))
    report.write(tmp_path / "r.html", bench, plan, rows=2, analysis=flat)
    assert 'id="frequencies"' in (tmp_path / "r.html").read_text()
