"""Laws are found again where they hold, and scatter as much as their standard errors say."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sigmatune.spectra import QUANTISATION, Spectrum, rings, spectrum_of
from sigmatune.spectra.power_laws import BrokenPowerLaw, PowerLaw, broken_power_law, power_law
from sigmatune.support.errors import SigmaTuneError

ONE = ("log_amplitude", "exponent")
BROKEN = ("log_amplitude", "break", "low_exponent", "high_exponent")
BREAK = 10.5


def single(k):
    return np.e * k**-2.2


def bent(k):
    return 0.5 * np.where(k < BREAK, (k / BREAK) ** -1.0, (k / BREAK) ** -3.0)


def exact(power, size=32, images=1):
    """A spectrum that is the law itself."""
    count = np.bincount(rings(size, size).ravel())[: size // 2 + 1]
    k = np.arange(size // 2 + 1)
    return Spectrum(np.concatenate([[7.0], power(k[1:])]), count.astype(float), (size, size), images)


def gaussian(power, size, generator, n, channels=1):
    """Images with exactly P(k) in ring k."""
    ring = np.maximum(rings(size, size), 1)
    white = torch.randn(n, channels, size, size, generator=generator, dtype=torch.float64)
    return torch.fft.ifft2(torch.fft.fft2(white) * torch.from_numpy(np.sqrt(power(ring)))).real


def assert_errors_are_honest(fits, names):
    """The scatter of many fits is the standard error, to four standard deviations of a standard deviation."""
    for name in names:
        found = np.array([getattr(fit, "break_at" if name == "break" else name) for fit in fits])
        stated = np.sqrt(np.mean([getattr(fit, f"{name}_error") ** 2 for fit in fits]))
        assert found.std(ddof=1) / stated == pytest.approx(1, abs=4 / np.sqrt(2 * len(fits))), name


def test_a_power_law_is_found_exactly_where_it_holds():
    law = power_law(exact(single))
    assert (law.log_amplitude, law.exponent) == (pytest.approx(1, abs=1e-12), pytest.approx(2.2, rel=1e-12))
    assert law.r_squared == pytest.approx(1, abs=1e-12)
    assert law.misfit == pytest.approx(0, abs=1e-20)
    assert law.rings == 16
    k = np.array([[0.5, 1.0], [3.0, 16.0]])
    assert_allclose(law.power(k), single(k), rtol=1e-12)


def test_dc_and_corners_have_no_part_in_a_law():
    images = gaussian(single, 16, torch.Generator().manual_seed(0), 5)
    whole = power_law(spectrum_of(images))
    assert power_law(spectrum_of(images + 100)).exponent == pytest.approx(whole.exponent, rel=1e-6)
    assert power_law(spectrum_of(images, corners=True)).exponent == pytest.approx(whole.exponent, rel=1e-12)


def test_the_estimate_is_numpys_weighted_line():
    spectrum = spectrum_of(gaussian(single, 32, torch.Generator().manual_seed(1), 2))
    law, k = power_law(spectrum), np.arange(1, 17)
    weights = np.sqrt(spectrum.count[1:])  # polyfit weighs residuals, not squares
    slope, intercept = np.polyfit(np.log(k), np.log(spectrum.power[1:]), 1, w=weights)
    assert (law.exponent, law.log_amplitude) == (pytest.approx(-slope), pytest.approx(intercept))
    fitted, y = np.log(law.power(k)), np.log(spectrum.power[1:])
    residual = np.average((y - fitted) ** 2, weights=spectrum.count[1:])
    total = np.average((y - np.average(y, weights=spectrum.count[1:])) ** 2, weights=spectrum.count[1:])
    assert law.r_squared == pytest.approx(1 - residual / total)


def test_standard_errors_of_one_law_are_its_scatter():
    generator = torch.Generator().manual_seed(2)
    fits = [power_law(spectrum_of(gaussian(single, 32, generator, 3))) for _ in range(800)]
    assert_errors_are_honest(fits, ONE)
    pairs = np.array([[fit.log_amplitude, fit.exponent] for fit in fits])
    assert np.corrcoef(pairs.T)[0, 1] == pytest.approx(fits[0].correlation, abs=0.02)
    assert np.mean([fit.misfit for fit in fits]) == pytest.approx(1, abs=0.06)
    spread = fits[0].exponent_error / np.sqrt(len(fits))
    assert pairs[:, 1].mean() == pytest.approx(2.2, abs=4 * spread + 0.3 * fits[0].exponent_error)


def test_the_scatter_between_images_knows_independent_channels():
    """Three independent channels: counting modes overstates the errors by the root of 3."""
    generator = torch.Generator().manual_seed(3)
    spectra = [spectrum_of(gaussian(single, 16, generator, 40, channels=3)) for _ in range(400)]
    fits = [power_law(spectrum, errors="images") for spectrum in spectra]
    assert_errors_are_honest(fits, ONE)
    ratio = power_law(spectra[0]).exponent_error / np.mean([fit.exponent_error for fit in fits])
    assert ratio == pytest.approx(np.sqrt(3), rel=0.08)


def test_a_broken_law_is_found_exactly_where_it_holds():
    law = broken_power_law(exact(bent, size=64, images=10))
    found = (law.break_at, law.low_exponent, law.high_exponent, np.exp(law.log_amplitude))
    assert_allclose(found, (BREAK, 1, 3, 0.5), rtol=1e-6)
    k = np.array([0.3, 2.0, BREAK, 11.0, 40.0])
    assert_allclose(law.power(k), bent(k), rtol=1e-5)
    assert law.bic_gain > 10


def test_a_law_may_bend_either_way():
    law = broken_power_law(exact(lambda k: 1 / bent(k), size=64, images=10))
    assert_allclose((law.break_at, law.low_exponent, law.high_exponent), (BREAK, -1, -3), rtol=1e-6)


def test_standard_errors_of_a_broken_law_are_its_scatter():
    generator = torch.Generator().manual_seed(4)
    fits = [broken_power_law(spectrum_of(gaussian(bent, 64, generator, 20))) for _ in range(160)]
    assert_errors_are_honest(fits, BROKEN)
    assert np.mean([fit.misfit for fit in fits]) == pytest.approx(1, abs=0.1)
    assert all(fit.bic_gain > 10 for fit in fits)
    assert np.mean([fit.break_at for fit in fits]) == pytest.approx(BREAK, abs=4 * fits[0].break_error / np.sqrt(160))


def test_no_break_is_claimed_where_there_is_none():
    generator = torch.Generator().manual_seed(5)
    fits = [broken_power_law(spectrum_of(gaussian(single, 64, generator, 20))) for _ in range(100)]
    gains = np.array([fit.bic_gain for fit in fits])
    assert not any(fit.bic_gain > 10 for fit in fits)
    assert (gains > 0).mean() < 0.1
    assert gains.min() > -2 * np.log(32) - 1e-9  # two parameters cost no more than this


def test_an_overdispersed_law_is_not_mended_by_a_break():
    """Ripples that neither law explains, measured on very many images: the break must earn its keep beside them."""
    rippled = exact(lambda k: k**-2.0 * np.exp(0.2 * np.cos(4.1 * k)), size=64, images=10**6)
    law = broken_power_law(rippled)
    assert law.misfit > 1e4
    assert not law.bic_gain > 10
    assert broken_power_law(exact(lambda k: bent(k) * np.exp(0.05 * np.cos(4.1 * k)), 64, 10**6)).bic_gain > 10


def test_power_below_the_quantisation_is_held_at_it():
    law = power_law(exact(lambda k: np.where(k == 1, 1.0, 1e-30)))
    other = power_law(exact(lambda k: np.where(k == 1, 1.0, QUANTISATION)))
    assert law == other
    with pytest.raises(SigmaTuneError, match="not constant"):
        power_law(exact(lambda k: 1e-9 * k**-1.0))


def test_the_centred_power_leaves_the_mean_image_out():
    generator = torch.Generator().manual_seed(6)
    images = gaussian(lambda k: k**-1.0, 32, generator, 50)
    spectrum = spectrum_of(images + 30 * gaussian(lambda k: k**-4.0, 32, generator, 1))
    law = power_law(spectrum, centred=True)
    assert abs(law.exponent - 1) < 5 * law.exponent_error
    assert power_law(spectrum).exponent > 2
    with pytest.raises(SigmaTuneError, match="at least two"):
        power_law(spectrum_of(images[:1]), centred=True)


@pytest.mark.parametrize(("fit", "size"), [(power_law, 5), (broken_power_law, 11)])
def test_too_few_rings_are_refused(fit, size):
    generator = torch.Generator().manual_seed(7)
    with pytest.raises(SigmaTuneError, match=f"not {size // 2}; measure larger images"):
        fit(spectrum_of(gaussian(single, size, generator, 2)))
    with pytest.raises(SigmaTuneError, match="whole rings"):
        fit(spectrum_of(gaussian(single, size, generator, 2), corners=True))
    assert fit(spectrum_of(gaussian(single, size + 1, generator, 2))).rings == size // 2 + 1


@pytest.mark.parametrize("fit", [power_law, broken_power_law])
def test_what_has_no_law_is_refused(fit):
    generator = torch.Generator().manual_seed(8)
    images = gaussian(single, 16, generator, 2, channels=2)
    for spectrum, options, says in [
        (spectrum_of(images), {"errors": "bootstrap"}, "'modes' or 'images'"),
        (spectrum_of(images[:1]), {"errors": "images"}, "at least two"),
        (spectrum_of(images, per_channel=True), {}, "without per_channel"),
        (spectrum_of(images[:1].expand(3, -1, -1, -1)), {"errors": "images"}, "do not differ"),
    ]:
        with pytest.raises(SigmaTuneError, match=says):
            fit(spectrum, **options)
    with pytest.raises(SigmaTuneError, match="above 0"):
        fit(spectrum_of(images)).power([0, 1])


def test_a_law_comes_back_from_its_dict():
    spectrum = spectrum_of(gaussian(bent, 32, torch.Generator().manual_seed(9), 3))
    for fit, kind in ((power_law, PowerLaw), (broken_power_law, BrokenPowerLaw)):
        law = fit(spectrum)
        assert kind(**json.loads(json.dumps(law.to_dict()))) == law
