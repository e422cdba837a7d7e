"""Mixtures over spectra: what is drawn is distributed like what was fitted, from (seed, index) alone."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sigmatune.models.analytic import filtered
from sigmatune.spectra import QUANTISATION, rapsd, rings
from sigmatune.spectra.mixture import Mixture, Part, edited
from sigmatune.spectra.mixture_fit import _law, _mixtures, _part, fit
from sigmatune.support.errors import SigmaTuneError

SIZE = 16


def images(n: int, seed: int = 0, *, centres=((3.0, 2.0),), size: int = SIZE, channels: int = 1) -> torch.Tensor:
    """Images of power-law spectra whose log amplitude and slope scatter about some centres, in turn."""
    rng = np.random.default_rng(seed)
    chosen = np.array(centres)[np.arange(n) % len(centres)]
    law = chosen + rng.normal(size=(n, 2)) * [0.4, 0.25]
    k = np.maximum(rings(size, size), 0.5)
    gain = np.exp(0.5 * (law[:, 0, None, None] - law[:, 1, None, None] * np.log(k)))
    noise = torch.from_numpy(rng.normal(size=(n, channels, size, size)))
    return filtered(noise, torch.from_numpy(gain)[:, None])


def logs(power: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(power, QUANTISATION))[:, 1:]


def close(found: np.ndarray, wanted: np.ndarray, *, slack: float = 0.0) -> None:
    """Means and covariances agree within four standard errors of the draws (of the larger sample of the two, halved)."""
    n, d = found.shape
    assert wanted.shape[1] == d
    spread = wanted.std(axis=0)
    assert (np.abs(found.mean(axis=0) - wanted.mean(axis=0)) < 4 * spread / np.sqrt(n) + slack * spread).all()
    # The standard error of a covariance from the fourth moments of what is drawn.
    centred = found - found.mean(axis=0)
    products = centred[:, :, None] * centred[:, None, :]
    error = products.std(axis=0) / np.sqrt(n)
    scale = np.outer(spread, spread)
    assert (np.abs(products.mean(axis=0) - np.cov(wanted.T, bias=True)) < 4 * error + (slack + 1e-3) * scale).all()


@pytest.mark.parametrize("centres", [[(3.0, 2.0)], [(1.0, 1.0), (4.0, 3.0)]])
def test_drawn_principal_components_have_the_fitted_mean_and_covariance(centres):
    """All components kept: the log-RAPSD itself. EM keeps the first two moments of its data, whatever the mixture."""
    data = images(600, centres=centres)
    mixture = fit(data, reduction="pca", components=99, most=3)
    close(logs(mixture.draw(0, range(8_000))), logs(rapsd(data).numpy()))


@pytest.mark.parametrize("centres", [[(3.0, 2.0)], [(1.0, 1.0), (4.0, 3.0)]])
def test_drawn_power_laws_have_the_fitted_mean_and_covariance(centres):
    data = images(600, centres=centres)
    reduce = _law((SIZE, SIZE))[0]
    drawn = logs(fit(data, most=3).draw(0, range(8_000)))
    close(drawn @ reduce, logs(rapsd(data).numpy()) @ reduce)
    k = np.log(np.arange(1, SIZE // 2 + 1))
    assert_allclose(np.diff(drawn, axis=1) / np.diff(k), ((drawn[:, 1] - drawn[:, 0]) / k[1])[:, None].repeat(7, 1))


def test_a_few_components_keep_the_most_variance_that_they_can():
    data = images(600)
    values = logs(rapsd(data).numpy())
    drawn = logs(fit(data, reduction="pca", components=2, most=1).draw(0, range(20_000)))
    wanted = np.sort(np.linalg.eigvalsh(np.cov(values.T, bias=True)))[::-1]
    found = np.sort(np.linalg.eigvalsh(np.cov(drawn.T)))[::-1]
    assert_allclose(found[:2], wanted[:2], rtol=0.05)
    assert found[2:].max() < 1e-9


def test_the_power_law_of_an_exact_power_law_is_itself():
    reduce, basis = _law((32, 48))
    features = np.array([[2.0, 1.7], [-1.0, 0.0]])
    assert_allclose(features @ basis @ reduce, features, atol=1e-12)
    k = np.arange(1, 17)
    assert_allclose(features[0] @ basis, 2.0 - 1.7 * np.log(k))


def test_the_power_law_is_weighted_by_the_modes_of_each_ring():
    """Against numpy's own weighted least squares."""
    from sigmatune.spectra.rings import binning

    y = np.random.default_rng(3).normal(size=8)
    count = binning(SIZE, SIZE, "fft", corners=False).count[1:]
    slope, log_amplitude = np.polyfit(np.log(np.arange(1, 9)), y, 1, w=np.sqrt(count))
    assert_allclose(y @ _law((SIZE, SIZE))[0], [log_amplitude, -slope])


@pytest.mark.parametrize("true", [1, 2, 3])
def test_bic_finds_the_number_of_components(true):
    rng = np.random.default_rng(true)
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])[:true]
    features = (centres[rng.integers(true, size=900)] + rng.normal(size=(900, 2))) * [100.0, 0.01]
    part = _part(features, np.ones(3), 6, 0)
    assert len(part.weights) == 1 + int(np.argmin(part.bic)) == true
    assert len(part.bic) == 6


def test_few_images_are_described_not_remembered():
    part = _part(np.random.default_rng(0).normal(size=(20, 2)), np.ones(3), 6, 0)
    assert len(part.weights) == 1


def test_draws_are_a_function_of_seed_and_index_alone():
    for reduction in ("law", "pca"):
        mixture = fit(images(60, centres=[(1.0, 1.0), (4.0, 3.0)]), reduction=reduction)
        many = mixture.draw(7, range(200))
        assert many.shape == (200, SIZE // 2 + 1)
        for i in (0, 1, 17, 199):
            assert_array_equal(mixture.draw(7, [i])[0], many[i])
        assert_array_equal(mixture.draw(7, [199, 3, 3, 50]), many[[199, 3, 3, 50]])
        assert not (mixture.draw(8, range(200))[:, 1:] == many[:, 1:]).any()
        assert len(np.unique(many[:, 1])) == 200
    assert mixture.draw(0, []).shape == (0, SIZE // 2 + 1)


def test_a_draw_does_not_repeat_the_noise_that_the_image_starts_from():
    """Standard normal features, one per ring, so that the log-spectrum is the noise itself: on a channel of its own."""
    from sigmatune.core.rng import START, noise
    from sigmatune.spectra.mixture import SPECTRUM

    part = Part(np.ones(1), np.zeros((1, 2)), np.eye(2)[None], np.ones(3), 9)
    drawn = np.log(Mixture("pca", (4, 4), np.zeros(3), np.eye(3)[1:], part).draw(3, [5])[0, 1:])
    own, start = (
        noise(3, [5], START, (3,), channel=channel, dtype=torch.float64)[0, 1:].numpy() for channel in (SPECTRUM, 0)
    )
    assert_allclose(drawn, own)
    assert (np.abs(drawn - start) > 1e-3).all()


def test_components_are_chosen_by_their_weights():
    one = np.eye(1)[None] * 1e-8
    part = Part(np.array([0.2, 0.5, 0.3]), np.array([[0.0], [1.0], [2.0]]), np.repeat(one, 3, 0), np.ones(2), 9)
    mixture = Mixture("pca", (2, 2), np.zeros(2), np.array([[0.0, 1.0]]), part)
    found = np.rint(np.log(mixture.draw(0, range(20_000))[:, 1]))
    shares = np.bincount(found.astype(int), minlength=3) / 20_000
    assert (np.abs(shares - part.weights) < 4 * np.sqrt(part.weights * (1 - part.weights) / 20_000)).all()


@pytest.mark.parametrize("reduction", ["law", "pca"])
def test_classes_have_their_own_mixture_and_mean(reduction):
    flat, steep = images(80, 0, centres=[(0.0, 0.5)]), images(80, 1, centres=[(3.0, 3.0)])
    batches = [(flat[:50], ["flat"] * 50), (torch.cat([flat[50:], steep]), ["flat"] * 30 + ["steep"] * 80)]
    mixture = fit(iter(batches), reduction=reduction, most=2)
    assert set(mixture.classes) == {"flat", "steep"}
    assert [part.images for part in (mixture.everything, *mixture.classes.values())] == [160, 80, 80]
    for name, own in (("flat", flat), ("steep", steep), (None, torch.cat([flat, steep]))):
        assert_allclose(mixture.mean(name), rapsd(own).mean(0).numpy(), rtol=1e-9)
    ends = [np.log(mixture.draw(0, range(500), name)[:, [1, -1]]).mean(0) for name in ("flat", "steep")]
    assert ends[0][0] - ends[0][1] < 2 < 5 < ends[1][0] - ends[1][1]
    together = fit(torch.cat([flat, steep]), torch.tensor([0] * 80 + [1] * 80), reduction=reduction, most=2)
    assert set(together.classes) == {"0", "1"}
    assert_allclose(together.mean("0"), mixture.mean("flat"))


def test_batches_do_not_change_the_features():
    data = images(90)
    whole, parts = fit(data), fit([data[:7], data[7:50], data[50:]])
    assert_allclose(parts.draw(0, range(9)), whole.draw(0, range(9)), rtol=1e-9)


@pytest.mark.parametrize("reduction", ["law", "pca"])
def test_a_file_loads_back_bit_for_bit(tmp_path, reduction):
    mixture = fit(images(60), ["a", "b"] * 30, reduction=reduction)
    mixture.save(tmp_path / "spectra.json")
    back = Mixture.load(tmp_path / "spectra.json")
    assert back.fields() == mixture.fields()
    assert (back.size, back.reduction, back.everything.images) == ((SIZE, SIZE), reduction, 60)
    for label in (None, "a", "b"):
        assert_array_equal(back.draw(1, range(20), label), mixture.draw(1, range(20), label))
        assert_array_equal(back.mean(label), mixture.mean(label))
    assert [path.name for path in tmp_path.iterdir()] == ["spectra.json"]


def test_edits_tilt_about_the_first_ring():
    k = np.arange(9.0)
    power = 5.0 * np.maximum(k, 1) ** -2.0
    assert_allclose(edited(power, texture=0.5)[1:], 5.0 * k[1:] ** -1.5)
    assert_allclose(edited(power, amplitude=3.0), 3 * power)
    assert_array_equal(edited(power), power)
    assert_allclose(edited(edited(power, texture=0.7), texture=-0.7), power)
    for bad in ({"texture": np.nan}, {"texture": "more"}, {"amplitude": 0.0}, {"amplitude": -1.0}):
        with pytest.raises(SigmaTuneError, match=r"texture must|amplitude must"):
            edited(power, **bad)


def test_equal_images_and_black_ones_can_be_fitted():
    same = images(1).repeat(40, 1, 1, 1)
    for data in (same, torch.zeros(40, 3, SIZE, SIZE)):
        for reduction in ("law", "pca"):
            drawn = logs(fit(data, reduction=reduction).draw(0, range(300)))
            wanted = logs(rapsd(data).numpy()).mean(0)
            if reduction == "pca" or data is not same:
                assert_allclose(drawn.mean(0), wanted, atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((images(1),), {}, "at least two images in all"),
        (([],), {}, "no images"),
        ((images(3), ["a", "a", "b"]), {}, "at least two images of class 'b'"),
        ((images(3), ["a", "a"]), {}, "2 labels do not fit 3 images"),
        (([images(3)], ["a"] * 3), {}, "labels belong to a single tensor"),
        ((images(3),), {"reduction": "laws"}, "a reduction is 'law' or 'pca'"),
        ((images(3),), {"components": 0}, "components must be a whole number"),
        ((images(3),), {"most": 0}, "most must be a whole number"),
        (([images(3), images(3, size=8)],), {}, "follow images of size"),
        ((images(3, size=2),), {}, "too few rings"),
        ((torch.zeros(3, 1, 1, 1),), {"reduction": "pca"}, "too few rings"),
        ((torch.zeros(3, 1, 8, 8, dtype=torch.uint8),), {}, "not torch.uint8"),
        ((torch.full((3, 1, 8, 8), float("nan")),), {}, "NaN"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_sentence(arguments, options, says):
    with pytest.raises(SigmaTuneError) as caught:
        fit(*arguments, **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_scikit_learn_is_named_with_its_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SigmaTuneError, match=r"pip install sigmatune\[spectra\]"):
        _mixtures()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version 2, but only version 1"),
        ({"format": "sigmatune/plan"}, 'lacks "format": "sigmatune/spectra" and states \'sigmatune/plan\''),
        ({"basis": [[1.0]]}, "does not fit a centre"),
        ({"basis": [[1.0], [1.0, 2.0]]}, "not a valid spectra"),
        ({"reduction": "dct"}, "reduction"),
        ({"extra": 1}, "extra: there is no such key"),
        ({"everything.weights": [2.0]}, "sum to 1"),
        ({"everything.weights": []}, "components"),
        ({"everything.covariances": [[[1.0, 2.0], [2.0, 1.0]]]}, "not positive definite"),
        ({"everything.covariances": [[[1.0, 0.5], [0.0, 1.0]]]}, "symmetric"),
        ({"everything.mean_power": [-1.0] * 9}, "at least 0"),
        ({"everything.means": [[1.0, float("nan")]]}, "finite"),
    ],
)
def test_what_is_no_file_of_spectra_is_refused(tmp_path, change, says):
    fit(images(20)).save(tmp_path / "spectra.json")
    fields = json.loads((tmp_path / "spectra.json").read_text())
    for name, value in change.items():
        *outer, last = name.split(".")
        (fields[outer[0]] if outer else fields)[last] = value
    (tmp_path / "spectra.json").write_text(json.dumps(fields))
    with pytest.raises(SigmaTuneError) as caught:
        Mixture.load(tmp_path / "spectra.json")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_class_is_named():
    with pytest.raises(SigmaTuneError, match="no class 'dgo'; did you mean 'dog'"):
        fit(images(20), ["dog", "cat"] * 10).draw(0, [1], "dgo")
