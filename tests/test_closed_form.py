"""Gaussian data in closed form: against Monte Carlo, against known optima, and against a global optimiser."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import differential_evolution

from exact import PATHS, gaussian, power_law
from sigmatune import measures, schedules
from sigmatune.measures.grid import rings as ring_of_modes
from sigmatune.measures.whitened import mode_weights
from sigmatune.models.analytic import GaussianSpectrum
from sigmatune.noise import VE, vp
from sigmatune.plan import compile_plan, sample
from sigmatune.schedules import build
from sigmatune.solvers import POSITION, SOLVERS
from sigmatune.spectra import rings
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import closed_form
from sigmatune.tuning import gaussian_optimum as spectral
from sigmatune.tuning.beta_optimum import optimal_beta
from sigmatune.tuning.gaussian_optimum import Modes, Regulariser, error, gradient, optimal, power_of

LARGE = Modes.of(power_law(32))
"""P(r) = max(r, 1/2)^-2.2 on the full 32 x 32 grid, scaled to mean 1/4: the example of the design."""


@pytest.mark.parametrize("name", POSITION)
def test_monte_carlo_agrees(name):
    """The power of every mode of real samples, within its standard errors."""
    model = gaussian(size=4)
    plan = compile_plan(build("karras", 5, model.path, sigma_max=10.0, sigma_min=0.05), name, model)
    n = 4000
    x = sample(model, plan, n, micro_batch=n)
    found = torch.fft.fft2(x, norm="ortho").abs().square().squeeze(1)
    expected = closed_form.variance(plan.coefficients, torch.from_numpy(power_law(4)).reshape(-1)).reshape(4, 4)
    scores = (found.mean(dim=0) - expected) / (found.std(dim=0) / n**0.5)
    total = found.sum(dim=(1, 2))
    assert abs(float((total.mean() - expected.sum()) / (total.std() / n**0.5))) < 3
    assert float(scores.abs().max()) < 4  # the largest of 16


@pytest.mark.parametrize("name", POSITION)
def test_a_plan_run_on_one_mode_has_the_gain_of_the_closed_form(name):
    for path in PATHS.values():
        model = GaussianSpectrum(np.full((1, 1), 0.3), (1, 1, 1), path)
        plan = compile_plan(build("kl-optimal", 7, path), name, model, **_quiet(name))
        starts: list[torch.Tensor] = []
        out = sample(model, plan, 3, on_step=lambda step, into=starts: into.append(step.z.clone()))
        table = plan.coefficients
        gain = closed_form.gain(table, torch.tensor([0.3], dtype=torch.float64)) / table.start[0]
        torch.testing.assert_close(out, starts[0] * gain.item(), rtol=1e-9, atol=1e-12)


def _quiet(name):
    noise = SOLVERS[name].noise
    return {noise: 0.0} if noise else {}


def test_the_gradient_is_that_of_finite_differences():
    for name in ("euler", "unipc2", "sde-dpmpp2m"):
        sigmas = np.array([20.0, 3.0, 0.5, 0.1, 0.0])
        found = gradient(name, sigmas, LARGE)
        for i in range(4):
            up, down = sigmas.copy(), sigmas.copy()
            up[i], down[i] = sigmas[i] * (1 + 1e-6), sigmas[i] * (1 - 1e-6)
            slope = (error(name, up, LARGE) - error(name, down, LARGE)) / (up[i] - down[i])
            assert found[i] == pytest.approx(slope, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("steps", [3, 6, 12, 20])
@pytest.mark.parametrize("c", [0.1, 0.5, 2.0])
def test_on_a_flat_spectrum_the_optimum_is_the_tangent_curve(steps, c):
    """With fixed ends and Euler: sigma = c tan(angle), angles evenly spaced."""
    found = optimal("euler", steps, Modes.of([c**2]), VE(), ends=(40.0, 0.01)).sigmas[:-1]
    expected = c * np.tan(np.linspace(np.arctan(40.0 / c), np.arctan(0.01 / c), steps))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found, build("kl-optimal", steps, VE(0.01, 40.0), c=c).sigmas[:-1], rtol=1e-6)


def test_the_design_figures():
    began = time.monotonic()
    found = optimal("euler", 10, LARGE, VE())
    seconds = time.monotonic() - began
    best = error("euler", found.sigmas, LARGE)
    assert best <= 6.3e-3
    assert seconds < 1 or _busy()
    karras = error("euler", build("karras", 10, VE()).sigmas, LARGE)
    uniform = error("euler", build("uniform-linspace", 10, vp()).sigmas, LARGE)
    assert (karras, uniform) == (pytest.approx(1.43e-2, rel=0.01), pytest.approx(1.59e-2, rel=0.03))
    beta = optimal_beta("euler", 10, LARGE, vp())
    fixed = error("euler", build("beta", 10, vp()).sigmas, LARGE)
    assert best < error("euler", beta.sigmas, LARGE) < fixed
    for a, b in ((0.65, 1.2), (0.75, 1.2), (0.7, 1.15), (0.7, 1.3)):
        neighbour = build("beta", 10, vp(), a=a, b=b)
        assert error("euler", beta.sigmas, LARGE) < error("euler", neighbour.sigmas, LARGE)


def _busy() -> bool:
    """Whether other processes share the cores, so that seconds say nothing."""
    began, spun = time.monotonic(), time.process_time()
    while time.monotonic() - began < 0.2:
        pass
    return time.process_time() - spun < 0.19


def by_hand(name, sigma, power):
    """Squared Wasserstein error of every mode for many schedules, (schedules, modes): the textbooks' recursions in x."""
    x = sigma[:, :1] * np.ones_like(power)  # what becomes of unit noise
    D = earlier = None
    for i in range(sigma.shape[1] - 1):
        s, t = sigma[:, i, None], sigma[:, i + 1, None]
        D, earlier = power / (power + s**2) * x, D
        ahead = D
        if name == "dpmpp2m" and 0 < i < sigma.shape[1] - 2:
            r = np.log(sigma[:, i - 1, None] / s) / np.log(s / t)
            ahead = D + (D - earlier) / (2 * r)
        x = t / s * x + (1 - t / s) * ahead
    return (np.abs(x) - np.sqrt(power)) ** 2


@pytest.mark.parametrize("steps", [3, 6])
@pytest.mark.parametrize("name", ["euler", "dpmpp2m"])
def test_a_global_optimiser_finds_nothing_better(name, steps):
    """Differential evolution over the sorted log levels, ends included; within 1 %. What it minimises is written by hand."""
    modes = Modes.of(power_law(16))
    low, high = np.log(0.002), np.log(80.0)

    def value(y):  # (levels, schedules), as vectorised scipy hands them over
        sigma = np.concatenate([np.exp(-np.sort(-y.T, axis=1)), np.zeros((y.shape[1], 1))], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = by_hand(name, sigma, modes.power) @ modes.count / modes.count.sum()
        return np.nan_to_num(errors, nan=1.0)  # two levels that meet

    options = {"seed": 1, "maxiter": 80, "popsize": 12, "tol": 1e-8, "polish": True, "vectorized": True}
    found = differential_evolution(value, [(low, high)] * steps, updating="deferred", **options)
    mine = optimal(name, steps, modes, VE()).sigmas
    assert error(name, mine, modes) == pytest.approx(value(np.log(mine[:-1, None]))[0], rel=1e-9)
    assert error(name, mine, modes) <= found.fun * 1.01


@pytest.mark.parametrize(("name", "path"), [*((name, "vp") for name in POSITION), *(("euler", path) for path in PATHS)])
def test_optima_are_valid_schedules_that_beat_the_published_ones(name, path):
    """Every solver, every path: inside the range, descending, and at most the error of any default."""
    modes, where = Modes.of(power_law(8)), PATHS[path]
    for steps in (2,) if name != "euler" else (1, 3):  # a single step is Euler's in every solver
        found = optimal(name, steps, modes, where)
        assert found.bound(where).steps == steps
        assert found.sigmas[0] < np.inf
        best = error(name, found.sigmas, modes)
        for _, family, options in schedules.defaults(where):
            rival = build(family, steps, where, **options).sigmas
            assert best <= error(name, rival, modes) * (1 + 1e-6) + 1e-7 * modes.power.mean()


def test_a_regulariser_smooths_and_costs_a_little():
    plain = optimal("dpmpp2m", 8, LARGE, VE())
    smooth = optimal("dpmpp2m", 8, LARGE, VE(), regulariser=Regulariser(smoothness=1.0))
    roughness = [np.square(np.diff(np.log(s.sigmas[:-1]), n=2)).mean() for s in (plain, smooth)]
    assert roughness[1] < roughness[0]
    assert error("dpmpp2m", plain.sigmas, LARGE) <= error("dpmpp2m", smooth.sigmas, LARGE)
    few = Modes.of(power_law(8))
    off = optimal("euler", 5, few, VE(), regulariser=Regulariser(scales=(1.0,), smoothness=0.0))
    np.testing.assert_allclose(off.sigmas, optimal("euler", 5, few, VE()).sigmas, rtol=1e-9)


def test_stochastic_plans_are_optimised_too():
    """At a given eta the levels differ from the deterministic ones, and eta = 0 is Euler."""
    euler, quiet, loud = (
        optimal("euler", 6, LARGE, VE()),
        optimal("ancestral", 6, LARGE, VE(), eta=0.0),
        optimal("ancestral", 6, LARGE, VE(), eta=1.0),
    )
    np.testing.assert_allclose(euler.sigmas, quiet.sigmas, rtol=1e-6)
    assert np.abs(loud.sigmas[:-1] / euler.sigmas[:-1] - 1).max() > 0.05
    assert error("ancestral", loud.sigmas, LARGE, eta=1.0) < error("ancestral", euler.sigmas, LARGE, eta=1.0)


def test_the_analysis_adds_up():
    path = VE()
    power = power_law(8).reshape(-1)
    plan = compile_plan(build("karras", 6, path), "heun")
    found = closed_form.analyse(plan.coefficients, power)
    gain = closed_form.gain(plan.coefficients, torch.from_numpy(power))[:, 0].numpy()
    assert found.terms is not None
    np.testing.assert_allclose(found.terms.sum(axis=0), gain - np.sqrt(power), atol=1e-12)
    assert found.terms.shape == (plan.calls + 1, 64)
    np.testing.assert_allclose(found.error, (np.abs(gain) - np.sqrt(power)) ** 2)
    np.testing.assert_allclose(found.variance, gain**2)
    assert found.cancellation is not None
    assert ((found.cancellation >= 0) & (found.cancellation <= 1)).all()
    assert found.largest_gain > 1
    assert "largest gain" in str(found)
    assert "cancel" in str(found)
    noisy = closed_form.analyse(compile_plan(build("karras", 6, path), "ancestral").coefficients, power)
    assert noisy.terms is None
    np.testing.assert_allclose(noisy.error, (np.sqrt(noisy.variance) - np.sqrt(power)) ** 2)


def test_an_unstable_plan_is_called_so():
    """A multistep method that extrapolates far beyond its data blows its inputs up."""
    sigmas = np.geomspace(10.0, 0.1, 9)
    weights = [[1.0, 0.0]] + [[6.0, -5.0]] * 7 + [[1.0, 0.0]]
    plan = compile_plan(schedules.Schedule([*sigmas, 0.0]), "multistep", weights=weights)
    found = closed_form.analyse(plan.coefficients, power_law(8).reshape(-1))
    assert found.largest_gain > closed_form.UNSTABLE
    assert "unstable" in str(found)


def test_the_spectrum_of_images_is_found_again():
    model = gaussian(size=16)
    x = torch.randn(400, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = torch.fft.ifft2(torch.fft.fft2(x) * torch.from_numpy(power_law(16)).sqrt()).real + 3.0
    modes = power_of(images)
    assert modes is not None
    assert modes.count.sum() == 256
    assert np.average(modes.power, weights=modes.count) == pytest.approx(0.25, rel=0.05)
    assert modes.power.max() == pytest.approx(power_law(16).max(), rel=0.3)
    assert power_of(torch.zeros(4, 1, 8, 8)) is None
    assert power_of(torch.zeros(4, 8)) is None
    assert model.shape == (1, 16, 16)


@pytest.mark.parametrize("power", [[-1.0, 1.0], [0.0], [np.nan], [np.inf, 1.0]])
def test_bad_spectra_are_refused(power):
    with pytest.raises(SigmaTuneError, match="a spectrum needs finite powers"):
        Modes.of(power)


def test_bad_requests_are_refused():
    with pytest.raises(SigmaTuneError, match="ask for 3 or more"):
        optimal_beta("euler", 2, LARGE, vp())
    with pytest.raises(SigmaTuneError, match="outside"):
        optimal("euler", 4, LARGE, VE(), ends=(100.0, 0.01))
    with pytest.raises(SigmaTuneError, match="did you mean"):
        optimal("eular", 4, LARGE, VE())


def test_the_largest_gain_of_one_step_is_known():
    """The only input is s_0 eps, where the noisy data has variance alpha^2 P + s^2."""
    plan = compile_plan(schedules.Schedule([0.5, 0.0]), "euler")
    found = closed_form.analyse(plan.coefficients, np.array([0.3, 2.0]))
    assert found.largest_gain == pytest.approx((0.25 / (0.3 + 0.25)) ** 0.5)
    ends = 0.5 * np.array([0.3, 2.0]) / (np.array([0.3, 2.0]) + 0.25)  # sigma_0 P / (P + sigma_0^2)
    np.testing.assert_allclose(found.variance, ends**2)
    # The exact solution from there multiplies x by sqrt(P / (P + sigma_0^2)); the one step does the rest.
    carried = 0.5 * np.sqrt(np.array([0.3, 2.0]) / (np.array([0.3, 2.0]) + 0.25))
    np.testing.assert_allclose(found.terms, [carried - np.sqrt([0.3, 2.0]), ends - carried])


def test_several_scales_are_averaged_relative_to_each():
    sigmas = np.array([9.0, 1.0, 0.1, 0.0])
    together = float(spectral._error("euler", torch.from_numpy(sigmas), LARGE, (1.0, 4.0), {}))
    four = Modes(LARGE.power * 4, LARGE.count)
    assert together == pytest.approx((error("euler", sigmas, LARGE) + error("euler", sigmas, four) / 4) / 2)


def test_a_scale_of_the_regulariser_is_that_of_the_spectrum():
    four = Modes(LARGE.power * 4, LARGE.count)
    alone = optimal("euler", 4, LARGE, VE(), regulariser=Regulariser(scales=(4.0,), smoothness=0.0))
    np.testing.assert_allclose(alone.sigmas, optimal("euler", 4, four, VE()).sigmas, rtol=1e-4)


def test_the_spectrum_counts_frequencies_by_the_short_side():
    """A wave of k cycles per short side lies on ring k in both directions, and two images have their exact variance."""
    y, x = np.mgrid[:8, :16]
    for wave in (np.cos(2 * np.pi * 3 * y / 8), np.cos(2 * np.pi * 3 * x / 8)):
        images = torch.from_numpy(np.stack([wave, -wave]))[:, None]
        modes = power_of(images)
        ring = rings(8, 16)
        assert modes is not None
        # Variance 2 cos^2 about the mean 0; its whole power is spread over ring 3.
        assert modes.power.max() == pytest.approx(2 * np.square(wave).sum() / (ring == 3).sum())
        assert modes.count[modes.power.argmax()] == (ring == 3).sum()


@pytest.mark.parametrize("family", ["beta", "beta-open"])
def test_the_best_symmetric_beta_lies_between_the_hand_picked_ones_and_the_best_pair(family):
    modes = Modes.of(power_law(16))
    symmetric = optimal_beta("euler", 6, modes, vp(), family=family, symmetric=True)
    pair = optimal_beta("euler", 6, modes, vp(), family=family)
    assert (symmetric.family, symmetric.options["a"]) == (family, symmetric.options["b"])
    assert pair.options["a"] != pair.options["b"]
    hand = [error("euler", build(family, 6, vp(), a=a, b=a).sigmas, modes) for a in (0.5, 0.6, 1.0)]
    best, both = (error("euler", schedule.sigmas, modes) for schedule in (symmetric, pair))
    assert both < best <= min(hand)


def test_the_weights_of_a_known_spectrum_are_those_of_the_measure():
    """One of the measure itself, fitted to samples whose rings have exactly that power."""
    power = (1.0 + ring_of_modes((8, 8))) ** -2.2
    x = torch.fft.ifft2(torch.from_numpy(np.sqrt(power)), norm="ortho").real[None, None]
    fitted = measures.fit("whitened", x)
    count = np.ones(power.size)
    assert_allclose(mode_weights(power.ravel(), count), np.asarray(fitted.weights()).ravel(), rtol=1e-9)
