"""Tight ends against Monte Carlo and closed form, and what a spectrum says about training."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import norm

from sigmatune import schedules
from sigmatune.core.rng import noise
from sigmatune.models.analytic import GaussianSpectrum, filtered
from sigmatune.noise import VE
from sigmatune.solvers import SOLVERS
from sigmatune.spectra import QUANTISATION, Spectrum, rings, spectrum_of
from sigmatune.spectra.advice import Density, coverage, training_density
from sigmatune.spectra.bounds import (
    Ends,
    at_resolution,
    kappa_ends,
    lost_variance,
    prior_mismatch,
    sigma_max,
    sigma_min,
    tight_ends,
)
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.gaussian_optimum import Modes, error

SIDE, DRAWS = 8, 4_000
RADIUS = np.hypot(np.fft.fftfreq(SIDE)[:, None] * SIDE, np.fft.fftfreq(SIDE)[None, :] * SIDE)
POWER = np.maximum(RADIUS, 0.5) ** -2.2
# One ring per mode: the ring average would blur what the Monte Carlo draws from.
EXACT = Spectrum(POWER.ravel(), np.ones(SIDE * SIDE), (SIDE, SIDE))
LEVELS = (0.03, 0.3, 1.0, 4.0, 15.0)


def photographs(side=32):
    """A spectrum of rings like that of photographs, corners included."""
    ring = rings(side, side)
    count = np.bincount(ring.ravel()).astype(float)
    f = np.fft.fftfreq(side) * side
    power = np.maximum(np.hypot(f[:, None], f[None, :]), 0.5) ** -2.2
    power *= 0.25 / power.mean()
    return Spectrum(np.bincount(ring.ravel(), weights=power.ravel()) / count, count, (side, side))


def noisy(sigma, mean=0.0):
    """Squares of the modes of drawn noisy images, (draws, modes), and the variance of each mode."""
    x0 = GaussianSpectrum(POWER, (1, SIDE, SIDE)).draw(DRAWS, seed=3) + mean
    x = x0 + sigma * noise(4, range(DRAWS), 0, (1, SIDE, SIDE), dtype=torch.float64)
    return torch.fft.fft2(x[:, 0], norm="ortho").flatten(1), torch.from_numpy(POWER.ravel() + sigma**2)


@pytest.mark.parametrize("sigma", LEVELS)
def test_the_marginal_mismatch_is_the_mean_log_density_ratio(sigma):
    modes, variance = noisy(sigma)
    squares = modes.abs().square()
    ratio = 0.5 * (squares / sigma**2 - squares / variance - torch.log(variance / sigma**2)).sum(1)
    z = (ratio.mean().item() - float(prior_mismatch(EXACT, sigma))) / (ratio.std().item() / DRAWS**0.5)
    assert abs(z) < 4, z


@pytest.mark.parametrize("sigma", LEVELS)
def test_the_reverse_mismatch_is_the_mean_log_density_ratio(sigma):
    start = sigma * noise(5, range(DRAWS), 0, (SIDE, SIDE), dtype=torch.float64)
    squares = torch.fft.fft2(start, norm="ortho").abs().square().flatten(1)
    variance = torch.from_numpy(POWER.ravel() + sigma**2)
    ratio = 0.5 * (squares / variance - squares / sigma**2 + torch.log(variance / sigma**2)).sum(1)
    z = (ratio.mean().item() - float(prior_mismatch(EXACT, sigma, "start"))) / (ratio.std().item() / DRAWS**0.5)
    assert abs(z) < 4, z


@pytest.mark.parametrize("direction", ["marginal", "start"])
@pytest.mark.parametrize("sigma", LEVELS)
def test_the_mean_image_counts_where_the_start_has_none(direction, sigma):
    mean, modes = 0.7, np.zeros(SIDE * SIDE)
    modes[0] = (mean * SIDE) ** 2  # a constant image has its power in DC
    spectrum = Spectrum(POWER.ravel() + modes, np.ones(SIDE * SIDE), (SIDE, SIDE), centred=POWER.ravel())
    data, start = norm(mean * SIDE, math.hypot(POWER[0, 0] ** 0.5, sigma)), norm(0, sigma)
    p, q = (data, start) if direction == "marginal" else (start, data)
    span = (min(p.ppf(1e-12), q.ppf(1e-12)), max(p.ppf(1 - 1e-12), q.ppf(1 - 1e-12)))
    dc = quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), *span, limit=400, points=[p.mean()])[0]
    others = Spectrum(POWER.ravel()[1:], np.ones(SIDE * SIDE - 1), (SIDE, SIDE))
    assert_allclose(
        prior_mismatch(spectrum, sigma, direction), dc + prior_mismatch(others, sigma, direction), rtol=1e-6
    )


def test_one_image_costs_its_energy():
    image = noise(0, [0], 0, (3, 9, 6), dtype=torch.float64)
    spectrum = spectrum_of(image, corners=True)
    expected = 0.5 * image.square().sum().item() / 2.5**2  # KL(N(x0, s^2) || N(0, s^2))
    assert_allclose(prior_mismatch(spectrum, 2.5, "image"), expected, rtol=1e-12)
    assert_allclose(prior_mismatch(spectrum, 2.5, "image", per_dimension=True), expected / image.numel(), rtol=1e-12)


@pytest.mark.parametrize("sigma", LEVELS)
def test_the_lost_variance_is_what_the_denoiser_removes(sigma):
    model = GaussianSpectrum(POWER, (1, SIDE, SIDE))
    x0 = model.draw(DRAWS, seed=6)
    x = x0 + sigma * noise(7, range(DRAWS), 0, (1, SIDE, SIDE), dtype=torch.float64)
    kept = model(x / math.hypot(1, sigma), sigma).square().mean(dim=(1, 2, 3))
    removed = POWER.mean() - kept
    z = (removed.mean().item() - float(lost_variance(EXACT, sigma))) / (removed.std().item() / DRAWS**0.5)
    assert abs(z) < 4, z


def test_small_ratios_do_not_cancel():
    tiny = Spectrum(np.array([1e-9]), np.array([1.0]), (1, 1))
    assert_allclose(prior_mismatch(tiny, 1.0), 0.25e-18, rtol=1e-8)
    assert_allclose(prior_mismatch(tiny, 1.0, "start"), 0.25e-18, rtol=1e-8)
    for kappa in (0.99e-3, 1.01e-3):  # where the series ends
        at = Spectrum(np.array([kappa]), np.array([1.0]), (1, 1))
        assert_allclose(prior_mismatch(at, 1.0), 0.5 * (kappa - math.log1p(kappa)), rtol=1e-9)
        assert_allclose(prior_mismatch(at, 1.0, "start"), 0.5 * (math.log1p(kappa) - kappa / (1 + kappa)), rtol=1e-9)


@given(nats=st.floats(1e-6, 10), direction=st.sampled_from(["marginal", "start", "image"]), each=st.booleans())
def test_sigma_max_inverts_the_mismatch(nats, direction, each):
    found = sigma_max(EXACT, nats, direction, per_dimension=each)
    assert_allclose(prior_mismatch(EXACT, found, direction, per_dimension=each), nats, rtol=1e-8)


@given(share=st.floats(1e-6, 0.99))
def test_sigma_min_inverts_the_lost_variance_down_to_rounding(share):
    variance = share * POWER.mean()
    found = sigma_min(EXACT, variance)
    if found > math.sqrt(QUANTISATION):
        assert_allclose(lost_variance(EXACT, found), variance, rtol=1e-8)
    else:
        assert lost_variance(EXACT, found) >= variance * (1 - 1e-9)


def test_the_floor_is_the_variance_of_rounding_to_8_bits():
    pixels = np.random.default_rng(0).uniform(-1, 1, 400_000)
    rounded = np.round((pixels + 1) * 127.5) / 127.5 - 1
    assert_allclose(np.mean((rounded - pixels) ** 2), QUANTISATION, rtol=0.01)
    assert sigma_min(EXACT, 1e-12) == math.sqrt(QUANTISATION)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("dpmpp2m", 2)])
@pytest.mark.parametrize("steps", [5, 10, 20])
def test_beyond_the_ends_there_is_nothing_to_gain(solver, order, steps):
    spectrum, path = photographs(), VE(1e-4, 1e4)
    modes = Modes.of(np.repeat(spectrum.power, spectrum.count.astype(int)))
    ends = tight_ends(spectrum, steps, order=order)

    def at(high, low):
        return error(solver, schedules.build("log-uniform", steps, path, sigma_max=high, sigma_min=low).sigmas, modes)

    tight = at(ends.sigma_max, ends.sigma_min)
    assert tight < 0.7 * at(80.0, 0.002)
    for factor in (4, 16, 64):
        assert at(ends.sigma_max * factor, ends.sigma_min) > tight / 2.2
        assert at(ends.sigma_max, ends.sigma_min / factor) > tight / 1.5
    assert at(ends.sigma_max * 64, ends.sigma_min / 64) > 1.5 * tight


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("dpmpp2m", 2)])
def test_ends_that_widen_with_the_steps_keep_the_order(solver, order):
    spectrum, path = photographs(), VE(1e-6, 1e6)
    modes = Modes.of(np.repeat(spectrum.power, spectrum.count.astype(int)))

    def at(steps, ends):
        given = {"sigma_max": ends.sigma_max, "sigma_min": ends.sigma_min}
        return error(solver, schedules.build("log-uniform", steps, path, **given).sigmas, modes)

    fixed = tight_ends(spectrum, 10, order=order)
    stays = at(320, fixed) / at(80, fixed)
    falls = at(320, tight_ends(spectrum, 320, order=order)) / at(80, tight_ends(spectrum, 80, order=order))
    assert stays > 0.8  # the ends are all that is left
    assert falls < 4.0 ** (-2 * order * 0.75)  # squared error of a method of this order, up to the wider range
    assert SOLVERS[solver].order == order


def test_the_paper_s_form():
    spectrum = spectrum_of(filtered(noise(0, range(50), 0, (3, 32, 32), dtype=torch.float64), torch.ones(32, 32)))
    rings_only = spectrum.power[1:]
    ends = kappa_ends(spectrum, kappa_min=0.02, kappa_max=25.0)
    assert_allclose(ends.sigma_max, math.sqrt(rings_only.max() / 0.02), rtol=1e-12)
    assert_allclose(ends.sigma_min, math.sqrt(rings_only[-1] / 25), rtol=1e-12)
    wider = kappa_ends(spectrum, kappa_min=0.02, kappa_max=25.0, steps=40, order=2)
    assert_allclose([wider.sigma_max / ends.sigma_max, ends.sigma_min / wider.sigma_min], [4, 4], rtol=1e-12)
    pixel = Spectrum(np.array([0.3]), np.array([1.0]), (1, 1))
    assert_allclose(kappa_ends(pixel, kappa_min=0.02).sigma_max, math.sqrt(0.3 / 0.02), rtol=1e-12)
    constant = Spectrum(np.array([9.0, 0, 0]), np.array([1.0, 4, 4]), (4, 4))
    assert kappa_ends(constant).sigma_max < 0.03


def test_more_pixels_of_the_same_picture():
    waves = {(1, 0): 0.6, (2, 3): 0.3, (0, 5): 0.2}
    drawn = {}
    for side in (16, 32):
        y, x = np.mgrid[0:side, 0:side] / side
        image = sum(a * np.cos(2 * np.pi * (i * y + j * x)) for (i, j), a in waves.items())
        drawn[side] = spectrum_of(torch.from_numpy(image)[None, None])
    up = at_resolution(drawn[16], 32, slope=2.0)
    assert_allclose(up.power[:8] * up.count[:8], drawn[32].power[:8] * drawn[32].count[:8], atol=1e-9)
    down = at_resolution(drawn[32], 16, slope=2.0)
    assert_allclose(down.power[:8], drawn[16].power[:8], atol=1e-9)
    law = photographs(32)
    law = Spectrum(law.power[:17], law.count[:17], (32, 32))
    doubled = at_resolution(law, 64, slope=2.2)
    assert_allclose(doubled.power[32] / doubled.power[16], 2**-2.2, rtol=1e-12)
    # Twice the resolution needs twice the noise: simple diffusion's shift.
    assert_allclose(sigma_max(doubled, 0.01) / sigma_max(law, 0.01), 2, rtol=0.02)


def test_refusals():
    nothing = Spectrum(np.zeros(3), np.array([1.0, 4, 4]), (4, 4))
    with pytest.raises(SigmaTuneError, match="no power"):
        sigma_max(nothing, 0.1)
    with pytest.raises(SigmaTuneError, match="at most the data's variance"):
        sigma_min(EXACT, 2 * POWER.mean())
    with pytest.raises(SigmaTuneError, match="direction"):
        prior_mismatch(EXACT, 1.0, "sideways")
    with pytest.raises(SigmaTuneError, match="no range"):
        Ends(1.0, 2.0)
    with pytest.raises(SigmaTuneError, match="that much"):
        sigma_max(EXACT, 1e9, "start")
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SigmaTuneError, match="positive"):
            sigma_max(EXACT, bad)


# ----------------------------------------------------------------------------------------------- training


def test_the_density_has_the_moments_of_the_transitions():
    spectrum = photographs(16)
    power = spectrum.power[1:9]
    log_sigma = np.linspace(-25, 25, 200_001)
    signal = power[:, None] / (power[:, None] + np.exp(2 * log_sigma))
    for by, weight in (("rings", np.ones(8)), ("modes", spectrum.count[1:9])):
        density = -np.gradient(np.average(signal, axis=0, weights=weight), log_sigma)
        mean = np.trapezoid(density * log_sigma, log_sigma)
        std = np.sqrt(np.trapezoid(density * (log_sigma - mean) ** 2, log_sigma))
        found = training_density(spectrum, by=by)
        assert_allclose([found.mean, found.std], [mean, std], rtol=1e-5)
    with pytest.raises(SigmaTuneError, match="'rings' or 'modes'"):
        training_density(spectrum, by="pixels")
    with pytest.raises(SigmaTuneError, match="no frequencies"):
        training_density(Spectrum(np.array([1.0]), np.array([1.0]), (1, 1)))


def test_a_density_integrates_to_what_lies_below():
    density = Density(-1.2, 1.2)
    grid = np.linspace(-9, math.log(0.7), 20_001)
    assert_allclose(np.trapezoid(density.at(np.exp(grid)), grid), density.below(0.7), atol=1e-7)
    assert density.below([0.0, np.inf]).tolist() == [0, 1]


@given(
    levels=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12, unique=True),
    mean=st.floats(-3, 3),
    std=st.floats(0.2, 3),
)
def test_coverage_adds_up(levels, mean, std):
    levels = np.sort(levels)[::-1]
    found = coverage(Density(mean, std), levels)
    assert_allclose(found.inside + found.above + found.below, 1, atol=1e-12)
    assert_allclose(found.shares.sum(), 1, atol=1e-12)
    assert (found.shares >= 0).all()
    draws = np.random.default_rng(0).normal(mean, std, 4_000)
    nearest = np.abs(draws[:, None] - np.log(levels)).argmin(axis=1)
    counted = np.bincount(nearest, minlength=len(levels)) / 4_000
    assert np.abs(found.shares - counted).max() < 0.04


def test_coverage_names_the_levels_that_training_has_hardly_seen():
    found = coverage(Density(0.0, 1.0), [np.inf, 100.0, 1.0, 0.5, 1e-3])
    assert found.rare.tolist() == [np.inf, 100.0, 1e-3]
    assert found.to_dict()["rare_levels"] == ["inf", 100.0, 1e-3]
    with pytest.raises(SigmaTuneError, match="positive levels"):
        coverage(Density(0.0, 1.0), [1.0, 0.0])
