"""Spectral curves: monotone with an exact inverse for any spectrum, and what each of them is the curve of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sigmatune.noise import VE, Flow, Narrowed, vp
from sigmatune.schedules import FAMILIES, build
from sigmatune.schedules.base import Family
from sigmatune.spectra import QUANTISATION, Spectrum
from sigmatune.spectra.bounds import kappa_ends
from sigmatune.spectra.curves import CURVES, KAPPA_MAX, KAPPA_MIN, frequency_focused, mixed, power_focused
from sigmatune.support.errors import SigmaTuneError

KAPPAS = {"kappa_min": 0.02, "kappa_max": 50.0}
FIXED = {**KAPPAS, "widen": 0.0}
every_curve = pytest.mark.parametrize("make", CURVES.values(), ids=CURVES)
every_family = pytest.mark.parametrize("name", [f"spectral-{kind}" for kind in CURVES])


def law(slope: float, rings: int = 16, amplitude: float = 15.0) -> np.ndarray:
    return amplitude * np.maximum(np.arange(rings + 1.0), 0.5) ** -slope


SPECTRA = {
    "flat": np.ones(17),
    "first ring alone": np.eye(17)[1],
    "middle ring alone": 1e3 * np.eye(17)[8],
    "last ring alone": 1e9 * np.eye(17)[16],
    "zero rings": law(2) * (np.arange(17) % 3 > 0),
    "constant image": np.zeros(17),
    "DC alone": 1e4 * np.eye(17)[0],
    "one pixel": np.array([0.7]),
    "one black pixel": np.array([0.0]),
    "two by two": np.array([3.0, 0.2]),
    "two rings": np.array([3.0, 0.2, 1e-3]),
    "huge range": np.geomspace(1e12, 1e-12, 129),
    "rising": np.geomspace(1e-12, 1e12, 129),
    **{f"1/f^{slope:g}": law(slope, 128) for slope in (0, 1, 2, 3, 4)},
}
any_spectrum = st.lists(st.one_of(st.just(0.0), st.floats(1e-12, 1e12)), min_size=1, max_size=40)


def obeys(curve, what) -> None:
    """Strictly falling, its own inverse undone to 1e-9 both ways, its slope that of its differences."""
    v = np.linspace(0, 1, 301)
    logsnr = curve.logsnr(v)
    assert np.isfinite(logsnr).all(), what
    assert (np.diff(logsnr, axis=-1) < 0).all(), what
    sigma = curve.sigma(v)
    assert_allclose(sigma, np.exp(-logsnr / 2), rtol=1e-15, err_msg=str(what))
    assert_allclose(curve.v(sigma), np.broadcast_to(v, sigma.shape), rtol=0, atol=1e-9, err_msg=str(what))
    levels = np.exp(np.linspace(np.log(curve.ends[0]), np.log(curve.ends[1]), 301)).T  # even in log sigma, not in v
    assert_allclose(curve.sigma(curve.v(levels)), levels, rtol=1e-9, err_msg=str(what))
    gentlest = np.log(KAPPAS["kappa_min"] / KAPPAS["kappa_max"]) * curve.scale
    assert (curve.slope(v) <= gentlest * (1 - 1e-12)).all(), what


@every_curve
@pytest.mark.parametrize("case", SPECTRA)
def test_any_shape_of_spectrum_makes_an_invertible_curve(make, case):
    power = SPECTRA[case]
    curve = make(power, **KAPPAS)
    obeys(curve, case)
    obeys(curve.between(0.002, 80.0), case)
    obeys(curve.between(1.0, 1.1), case)
    rings = np.maximum(power[1:] if len(power) > 1 else power, QUANTISATION)
    low, high = curve.ends
    assert_allclose([low**2, high**2], [rings[-1] / 50, rings.max() / 0.02], rtol=1e-12)


@every_curve
@settings(max_examples=80, deadline=None)
@given(power=any_spectrum, ends=st.tuples(st.floats(1e-4, 1e3), st.floats(1.001, 1e6)))
@example(power=[0.0], ends=(1.0, 2.0))
def test_every_spectrum_makes_an_invertible_curve(make, power, ends):
    curve = make(power, **KAPPAS)
    obeys(curve, power)
    obeys(curve.between(ends[0], ends[0] * ends[1]), power)


@every_curve
@settings(max_examples=30, deadline=None)
@given(power=any_spectrum, v=st.floats(0, 1))
def test_the_slope_is_the_derivative(make, power, v):
    """Between knots the curve is a straight line, and the integral of the slope is the whole fall."""
    curve = make(power, **KAPPAS).between(0.01, 30.0)
    knots = np.unique(curve.knots[0])
    gaps = np.diff(knots) > 1e-6
    middle, width = ((knots[1:] + knots[:-1]) / 2)[gaps], (np.diff(knots) / 4)[gaps]
    rise = curve.logsnr(middle + width) - curve.logsnr(middle - width)
    assert_allclose(curve.slope(middle), rise / (2 * width), rtol=1e-6)
    whole = (curve.slope((knots[1:] + knots[:-1]) / 2) * np.diff(knots)).sum()
    assert_allclose(whole, curve.logsnr(1.0) - curve.logsnr(0.0), rtol=1e-9)
    assert curve.slope(v) < 0


# ------------------------------------------------------------------------------------------- what each of the curves is


@every_curve
@pytest.mark.parametrize("power", [np.ones(17), np.array([5.0]), np.array([9.0, 0.3])])
def test_equal_powers_make_it_log_uniform(make, power):
    curve = make(power, **KAPPAS)
    v = np.linspace(0, 1, 11)
    assert_allclose(np.diff(curve.logsnr(v)), np.log(0.02 / 50) / 10, rtol=1e-9)


def test_frequency_focused_visits_the_rings_evenly_at_their_own_ratio():
    power = law(2.3, 9)
    curve = frequency_focused(power, **KAPPAS)
    for k in range(1, 10):
        v = (9 - k) / 8
        kappa = 50 ** (1 - v) * 0.02**v
        assert_allclose(power[k] / curve.sigma(v) ** 2, kappa, rtol=1e-12)


def test_frequency_focused_of_a_power_law_is_a_formula():
    """lambda = log kappa(v) + a log f - log A at the rings, whose fall per step of v is that of log kappa and log f."""
    power, v = law(1.7, 33), np.arange(33) / 32
    expected = (1 - v) * np.log(50) + v * np.log(0.02) + 1.7 * np.log(33 - 32 * v) - np.log(15.0)
    assert_allclose(frequency_focused(power, **KAPPAS).logsnr(v), expected, rtol=1e-12)


@pytest.mark.parametrize("count", [None, "modes"])
def test_power_focused_spends_v_in_proportion_to_the_power(count):
    """The share of v between two rings is the share of the power between them, by the trapezoid rule."""
    power = np.array([100.0, 8.0, 4.0, 3.0, 1.0])
    counts = None if count is None else np.array([1.0, 8.0, 12.0, 16.0, 32.0])
    mass = power if counts is None else power * counts
    curve = power_focused(power, **KAPPAS, count=counts)
    trapezoids = (mass[1:-1] + mass[2:]) / 2
    shares = trapezoids / trapezoids.sum()
    v = np.array([curve.v(np.sqrt(power[k] / kappa)) for k, kappa in zip(range(1, 5), _kappas(shares), strict=True)])
    assert_allclose(v, [1, 1 - shares[0], shares[2], 0], atol=1e-12)


def _kappas(shares):
    """kappa where the power-focused curve should be at rings 1..4."""
    for v in (1, 1 - shares[0], shares[2], 0):
        yield 50 ** (1 - v) * 0.02**v


@settings(max_examples=50, deadline=None)
@given(power=any_spectrum)
def test_mixed_is_the_mean_of_the_two(power):
    v = np.linspace(0, 1, 57)
    both = [make(power, **KAPPAS).logsnr(v) for make in (frequency_focused, power_focused)]
    assert_allclose(mixed(power, **KAPPAS).logsnr(v), np.mean(both, axis=0), rtol=1e-9, atol=1e-9)


def test_a_bump_is_reached_no_later_than_its_own_power_asks_for():
    """The running maximum: ring 6 is stronger than rings 3..5, which are brought to its level."""
    power = law(2, 9)
    bumped = power.copy()
    bumped[6] = power[3]
    curve = frequency_focused(bumped, **KAPPAS)
    raised = power.copy()
    raised[3:7] = power[3]
    assert_array_equal(curve.log_power, frequency_focused(raised, **KAPPAS).log_power)


@every_curve
@pytest.mark.parametrize("slope", [1.5, 2.2, 3.0])
def test_the_noisy_end_falls_by_log_four_per_doubling_of_resolution(make, slope):
    """The same image at twice the resolution has 4 times the power in each of its rings: the shift of simple diffusion."""
    small, large = make(law(slope, 16, 1.0), **KAPPAS), make(law(slope, 32, 4.0), **KAPPAS)
    assert_allclose(large.logsnr(1.0) - small.logsnr(1.0), -np.log(4), rtol=1e-12)


@every_curve
@settings(max_examples=40, deadline=None)
@given(power=any_spectrum, factor=st.floats(1.0, 1e4))
def test_brighter_data_needs_more_noise_in_proportion(make, power, factor):
    """Scaling pixels by c scales every level by c, because the ratios P / sigma^2 stay."""
    power = np.maximum(power, QUANTISATION)
    v = np.linspace(0, 1, 9)
    assert_allclose(
        make(power * factor, **KAPPAS).sigma(v), np.sqrt(factor) * make(power, **KAPPAS).sigma(v), rtol=1e-9
    )


@every_curve
def test_rows_are_the_curves_of_their_own_spectra_bit_for_bit(make):
    rng = np.random.default_rng(0)
    rows = rng.lognormal(size=(37, 17)) * law(2)
    curve, v = make(rows, **KAPPAS), np.linspace(0, 1, 23)
    own = rng.uniform(size=(37, 1))
    low, high = rng.uniform(0.01, 0.1, 37), rng.uniform(5, 50, 37)
    for i, row in enumerate(rows):
        single = make(row, **KAPPAS)
        assert_array_equal(curve.logsnr(v)[i], single.logsnr(v))
        assert_array_equal(curve.slope(own)[i], single.slope(own[i]))
        assert_array_equal(curve.sigma(own)[i], single.sigma(own[i]))
        moved, narrow = curve.between(low, high), single.between(low[i], high[i])
        assert_array_equal(moved.sigma(v)[i], narrow.sigma(v))
        assert_array_equal(moved.v(np.full((37, 1), 1.0))[i], narrow.v(np.ones(1)))
    obeys(curve, "rows")


def test_what_is_no_spectrum_is_refused():
    for power in ([], [[]], [1.0, -1.0], [1.0, np.nan], [np.inf], np.ones((2, 2, 2)), [[1.0], [1.0, 2.0]], "abc"):
        with pytest.raises(SigmaTuneError, match="spectrum"):
            mixed(power)
    for kappas in ((0, 1), (2, 1), (1, 1), (0.1, np.inf), (np.nan, 1)):
        with pytest.raises(SigmaTuneError, match="kappa_min < kappa_max"):
            mixed(np.ones(4), kappa_min=kappas[0], kappa_max=kappas[1])
    for count in ([1, 2], [1, 2, 0, 4], [1, 2, 3, np.nan]):
        with pytest.raises(SigmaTuneError, match="number of modes"):
            power_focused(np.ones(4), count=count)
    curve = mixed(np.ones(4))
    for v in (-0.1, 1.1, np.nan):
        with pytest.raises(SigmaTuneError, match=r"\[0, 1\]"):
            curve.logsnr(v)
    for sigma in (1e-9, 1e9, np.nan, np.inf):
        with pytest.raises(SigmaTuneError, match="outside the curve"):
            curve.v(sigma)
    for ends in ((1.0, 1.0), (0.0, 1.0), (1.0, np.inf), (np.nan, 1.0)):
        with pytest.raises(SigmaTuneError, match="0 < sigma_min < sigma_max"):
            curve.between(*ends)


# ------------------------------------------------------------------------------------------------------- the families


@every_family
@pytest.mark.parametrize("steps", [2, 3, 10, 100])
def test_levels_are_even_in_v_between_the_tight_ends(name, steps):
    power = law(2.0)
    curve = CURVES[name.removeprefix("spectral-")](power, **KAPPAS)
    made = build(name, steps, VE(), spectrum=power, **FIXED).sigmas[:-1]
    assert_allclose(curve.v(made), np.linspace(1, 0, steps), rtol=0, atol=1e-12)
    assert (made[0], made[-1]) == tuple(curve.ends[::-1])
    assert_array_equal(build(name, steps, VE(), amplitude=15.0, slope=2.0, rings=16, **FIXED).sigmas[:-1], made)


@every_family
def test_the_models_range_cuts_the_tight_ends_and_given_ends_replace_them(name):
    power, path = law(2.0), VE(0.1, 5.0)
    tight = build(name, 6, VE(), spectrum=power, **FIXED).sigmas
    assert tight[0] > 5
    assert tight[-2] < 0.1
    assert build(name, 6, path, spectrum=power, **FIXED).sigmas[[0, -2]].tolist() == [5.0, 0.1]
    for ends in ({"sigma_max": 60.0}, {"sigma_min": 1e-2}, {"sigma_max": VE().sigma_max, "sigma_min": VE().sigma_min}):
        made = build(name, 6, VE(), spectrum=power, **ends, **FIXED)
        assert made.sigmas[0] == ends.get("sigma_max", tight[0])
        assert made.sigmas[-2] == ends.get("sigma_min", tight[-2])
    v = np.linspace(1, 0, 6)  # affine: the same shares of the way in logSNR
    share = (np.log(tight[:-1]) - np.log(tight[-2])) / np.log(tight[0] / tight[-2])
    cut = build(name, 6, path, spectrum=power, **FIXED).sigmas[:-1]
    assert_allclose((np.log(cut) - np.log(0.1)) / np.log(50), share, atol=1e-12, err_msg=str(v))


@every_family
def test_where_the_tight_range_is_outside_the_models_own_end_takes_its_place(name):
    """A constant image asks for levels up to 0.016, an enormous one for levels from 4e3 on."""
    dark, bright = np.zeros(9), np.full(9, 1e9)
    assert build(name, 5, VE(0.05, 20.0), spectrum=dark, **FIXED).sigmas[[0, -2]].tolist() == [20.0, 0.05]
    assert build(name, 5, VE(0.05, 20.0), spectrum=bright, **FIXED).sigmas[[0, -2]].tolist() == [20.0, 0.05]
    edge = np.sqrt(QUANTISATION / 0.02)
    assert build(name, 999, VE(edge, 20.0), spectrum=dark, **FIXED).sigmas[0] == 20.0, (
        "a range of one level is no range"
    )
    assert_allclose(build(name, 5, VE(), spectrum=dark, **FIXED).sigmas[[0, -2]], [edge, 0.002])
    with pytest.raises(SigmaTuneError, match="pass sigma_max=80"):
        build(name, 5, Narrowed(Flow(), 0.05, np.inf), spectrum=dark, **FIXED)
    assert build(name, 5, Narrowed(Flow(), 0.05, np.inf), spectrum=dark, sigma_max=30.0, **FIXED).sigmas[0] == 30.0
    assert build(name, 1, Flow(), spectrum=dark, **FIXED).sigmas.tolist() == [np.inf, 0.0]


@every_family
def test_the_ends_widen_with_the_number_of_steps(name):
    power = law(2.0)
    spectrum = Spectrum(power, np.ones(17), (32, 32))
    for steps, order in ((2, 1), (10, 1), (10, 2), (40, 1), (40, 2)):
        made = build(name, steps, VE(1e-4, 1e4), spectrum=power, widen=float(order)).sigmas
        ends = kappa_ends(spectrum, steps=steps, order=order)
        assert_allclose(made[[0, -2]], [ends.sigma_max, ends.sigma_min], rtol=1e-12)


@every_family
@settings(max_examples=50, deadline=None)
@given(power=any_spectrum, steps=st.integers(1, 60), path=st.sampled_from([vp(), VE(), Flow(3.0), VE(0.5, 0.6)]))
def test_any_spectrum_has_levels_on_any_path(name, power, steps, path):
    """Schedule itself refuses levels that do not fall strictly or leave the range."""
    assert build(name, steps, path, spectrum=power).steps == steps


@every_family
@pytest.mark.parametrize("path", [vp(), VE(), Flow(3.0)], ids=["vp", "ve", "flow"])
def test_rows_are_the_schedules_of_their_own_spectra_bit_for_bit(name, path):
    rows = np.random.default_rng(1).lognormal(sigma=2, size=(29, 17)) * law(2)
    rows[3] = 0
    for steps in (1, 2, 9):
        made = build(name, steps, path, spectrum=rows)
        assert made.rows == 29
        for i, row in enumerate(rows):
            assert_array_equal(made.sigmas[i], build(name, steps, path, spectrum=row).sigmas)
        narrow = build(name, steps, path, spectrum=rows, sigma_min=0.05, sigma_max=9.0).sigmas
        assert set(narrow[:, 0]) == {9.0}
        assert steps == 1 or set(narrow[:, -2]) == {0.05}


@every_family
@pytest.mark.parametrize("power", [law(2.0), law(2.0)[None] * [[1.0], [3.0]], (4.0, 2.0, np.float64(1.0))])
def test_provenance_is_json_and_rebuilds_the_schedule(name, power):
    made = build(name, 5, VE(), spectrum=power, kappa_max=20.0, sigma_min=0.01)
    options = json.loads(json.dumps(made.options))
    assert options == made.options
    assert build(name, 5, VE(), **options) == made


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"spectrum": [1.0, 2.0], "slope": 3.0}, "either a spectrum or amplitude, slope and rings"),
        ({"spectrum": [1.0, -2.0]}, "finite powers of at least 0"),
        ({"spectrum": 3.0}, "(K,) or (R, K)"),
        ({"spectrum": "photographs"}, "a list of powers"),
        ({"amplitude": 0.0}, "amplitude must be a positive number"),
        ({"rings": 0}, "rings must be a whole number of at least 1"),
        ({"rings": 2.5}, "rings must be a whole number"),
        ({"widen": "much"}, "widen must be a finite number"),
        ({"kappa_min": 60.0}, "0 < kappa_min < kappa_max"),
        ({"kappa_mim": 0.1}, "did you mean 'kappa_min'"),
        ({"sigma_max": 100.0}, "outside the model's range"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options, says):
    with pytest.raises(SigmaTuneError) as caught:
        build("spectral-mixed", 5, VE(), **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_promised_ends_are_made_exact_in_every_row():
    from sigmatune.schedules import _exact_ends

    family, path = Family("any", lambda: None, "promises both ends"), VE(0.002, 80.0)
    rough = np.array([[80 * (1 + 1e-15), 1.0, 0.002 * (1 - 1e-15)]] * 3)
    assert_array_equal(_exact_ends(family, rough, path)[:, [0, -1]], [[80.0, 0.002]] * 3)


def test_the_families_are_no_static_default():
    for kind in CURVES:
        family = FAMILIES[f"spectral-{kind}"]
        assert (family.published, family.starts, family.ends, family.finite) == ((), False, False, False)
        assert (family.defaults["kappa_min"], family.defaults["kappa_max"]) == (KAPPA_MIN, KAPPA_MAX)
