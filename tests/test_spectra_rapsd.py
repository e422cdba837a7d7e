"""The spectrum obeys Parseval, keeps white noise white, and does not depend on how the data came in batches."""

import itertools
import json
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sigmatune.errors import SigmaTuneError
from sigmatune.spectra import QUANTISATION, WINDOWS, Running, Spectrum, rapsd, rings, spectrum_of

SIZES = [(8, 8), (9, 9), (6, 11), (32, 32), (48, 20)]
LENGTH = st.integers(1, 13)


def noise(*shape, seed=0, scale=1.0):
    """White noise in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def naive(image, *, corners):
    """P(k) of one image (C, H, W) by a loop over the modes of the whole transform."""
    channels, height, width = image.shape
    power = (np.abs(np.fft.fft2(image, norm="ortho")) ** 2).sum(axis=0) / channels
    short, sums, count = min(height, width), {}, {}
    for i in range(height):
        for j in range(width):
            f_y, f_x = min(i, height - i) / height, min(j, width - j) / width
            k = int(short * (f_y**2 + f_x**2) ** 0.5 + 0.5)
            sums[k], count[k] = sums.get(k, 0) + power[i, j], count.get(k, 0) + 1
    last = max(sums) if corners else short // 2
    return np.array([sums[k] / count[k] for k in range(last + 1)])


@pytest.mark.parametrize(("window", "transform"), [(None, "fft"), (None, "dct"), *((name, "fft") for name in WINDOWS)])
@pytest.mark.parametrize("size", SIZES)
def test_white_noise_has_its_variance_in_every_ring_at_every_resolution(size, window, transform):
    """n_k P(k) / s^2 is chi-squared of n_k degrees of freedom; taking out the mean costs a window's first rings a share."""
    n, scale = 1500, 0.3
    spectrum = spectrum_of(noise(n, 2, *size, scale=scale), corners=True, window=window, transform=transform)
    expected, error = np.ones(spectrum.rings), np.sqrt(2 / (2 * n * spectrum.count))
    if window is not None:
        expected -= lost(window, size)
        expected[0] += 1 / spectrum.count[0]
        error *= 1.5  # neighbouring modes are no longer independent
    assert (np.abs(spectrum.power / scale**2 - expected) < 4.5 * error).all(), spectrum.power / scale**2 - expected


def lost(window, size):
    """The share of white noise in each ring that goes with the mean: the ring's share of the window's own spectrum."""
    taper = np.outer(*(WINDOWS[window](length) for length in size))
    power = np.abs(np.fft.fft2(taper / np.sqrt((taper**2).mean()))) ** 2 / taper.size**2
    ring = rings(*size).ravel()
    return np.bincount(ring, power.ravel()) / np.bincount(ring)


@given(LENGTH, LENGTH, st.integers(1, 3), st.sampled_from(["fft", "dct"]))
def test_parseval_with_corners(height, width, channels, transform):
    images = noise(2, channels, height, width)
    spectrum = [spectrum_of(image[None], corners=True, transform=transform) for image in images]
    energy = images.square().sum(dim=(1, 2, 3)) / channels
    assert_allclose([s.count @ s.power for s in spectrum], energy, rtol=1e-12)
    assert spectrum[0].count.sum() == height * width


@pytest.mark.parametrize("height", range(1, 10))
@pytest.mark.parametrize("corners", [False, True])
def test_agrees_with_a_loop_over_the_whole_transform(height, corners):
    for width in range(1, 10):
        images = noise(2, 3, height, width, seed=height * 10 + width)
        expected = [naive(image, corners=corners) for image in images.numpy()]
        assert_allclose(rapsd(images, corners=corners), expected, rtol=1e-11, err_msg=f"{height} x {width}")


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (97, 130)])
def test_large_images_take_another_way_to_the_same_sums(size):
    images = noise(1, 2, *size)
    assert_allclose(rapsd(images, corners=True)[0], naive(images[0].numpy(), corners=True), rtol=1e-11)


@pytest.mark.parametrize(("window", "transform"), [(None, "fft"), (None, "dct"), ("hann", "fft")])
def test_the_channels_average_to_the_joint_spectrum(window, transform):
    images = noise(4, 3, 12, 10) * torch.tensor([1.0, 2.0, 5.0]).view(3, 1, 1)
    apart = rapsd(images, window=window, transform=transform, per_channel=True)
    assert_allclose(apart.mean(dim=1), rapsd(images, window=window, transform=transform), rtol=1e-12)
    alone = rapsd(images[:, 2:], window=window, transform=transform)
    assert_allclose(apart[:, 2], alone, rtol=1e-12)
    one = rapsd(images[:, :1], window=window, transform=transform, per_channel=True)
    assert_allclose(apart[:, :1], one, rtol=1e-12)


@pytest.mark.parametrize("window", list(WINDOWS))
@pytest.mark.parametrize("length", [1, 2, 3, 8, 31])
def test_a_window_has_no_zeros_and_keeps_a_constant_in_ring_0(window, length):
    assert (WINDOWS[window](length) > 0).all()
    for width in (length, length + 1, 3 * length):
        spectrum = spectrum_of(torch.full((1, 1, length, width), 0.7).double(), corners=True, window=window)
        assert spectrum.power[0] * spectrum.count[0] == pytest.approx(0.49 * length * width, rel=1e-6)
        assert_allclose(spectrum.power[1:], 0, atol=1e-24)


@pytest.mark.parametrize("window", list(WINDOWS))
def test_a_window_sees_the_same_rings_whatever_the_mean(window):
    images = noise(2, 1, 16, 16)
    before, after = (rapsd(images + shift, window=window) for shift in (0.0, 100.0))
    assert_allclose(after[:, 1:], before[:, 1:], rtol=1e-9)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (31, 31), (24, 60), (60, 24)])
def test_a_plane_wave_lands_in_the_ring_of_its_cycles(height, width):
    """Cycles are counted along the short side, so a wave of the same pitch lies in the same ring either way."""
    short = min(height, width)
    rows, columns = torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    for k in range(1, short // 2):
        for axis, along in ((height, rows[:, None]), (width, columns[None, :])):
            if (k * axis) % short:
                continue
            wave = torch.cos(2 * torch.pi * k * along / short).expand(height, width)
            power = rapsd(wave[None, None].contiguous(), corners=True)[0]
            assert int(power.argmax()) == k
            assert_allclose(power[k] * spectrum_of(wave[None, None], corners=True).count[k], height * width / 2)


def test_the_step_at_the_edge_of_a_ramp_is_seen_by_the_fourier_transform_only():
    """The FFT of a ramp of N pixels is 1 / sin(pi k / N); its DCT has odd modes only, and falls with their square."""
    size = 128
    ramp = torch.linspace(-1, 1, size, dtype=torch.float64).expand(1, 1, size, size)
    k = np.arange(2, 33)
    spectra = {name: spectrum_of(ramp, transform=name) for name in ("fft", "dct")}
    total = {name: s.power[k] * s.count[k] for name, s in spectra.items()}  # one line of modes, so this is their power
    assert_allclose(total["fft"] * np.sin(np.pi * k / size) ** 2, 2 * (size / (size - 1)) ** 2, rtol=1e-9)
    half = np.pi * (2 * k - 1) / (2 * size)
    exact = total["dct"] * np.sin(half) ** 4 / np.cos(half) ** 2
    assert_allclose(exact, exact[0], rtol=1e-9)
    for name, cycles, steep in (("fft", k, -2), ("dct", 2 * k - 1, -4)):
        assert np.polyfit(np.log(cycles), np.log(total[name]), 1)[0] == pytest.approx(steep, abs=0.15), name


def test_rings_of_the_cosine_transform_hold_even_and_odd_modes():
    ring = rings(8, 8, "dct")
    assert ring[0].tolist() == ring[:, 0].tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    assert ring[3, 4] == 3  # r = 5 / 2 exactly


@given(st.lists(st.integers(0, 9), max_size=4), st.sampled_from([False, True]), st.integers(0, 99))
def test_any_split_into_batches_gives_the_same_spectrum(cuts, per_channel, seed):
    images = noise(10, 2, 5, 6, seed=seed) + 3
    edges = sorted({0, 10, *cuts})
    split = spectrum_of((images[a:b] for a, b in itertools.pairwise(edges)), per_channel=per_channel)
    whole = spectrum_of(images, per_channel=per_channel)
    assert split.images == whole.images == 10
    for name in ("power", "centred", "log_mean", "log_variance", "mean", "deviation"):
        assert_allclose(getattr(split, name), getattr(whole, name), rtol=1e-9, err_msg=name)


def test_moments_are_those_of_numpy():
    images = noise(50, 3, 8, 8) * 0.2 + 0.5
    running = Running()
    power = torch.cat([running.add(batch) for batch in images.split(7)]).numpy()
    spectrum = running.spectrum()
    assert_allclose(spectrum.power, power.mean(axis=0), rtol=1e-12)
    assert_allclose(spectrum.log_mean, np.log(power).mean(axis=0), rtol=1e-12)
    assert_allclose(spectrum.log_variance, np.log(power).var(axis=0, ddof=1), rtol=1e-12)
    assert spectrum.mean == pytest.approx(images.mean().item(), rel=1e-12)
    assert spectrum.deviation == pytest.approx(images.std(correction=0).item(), rel=1e-12)


@pytest.mark.parametrize("transform", ["fft", "dct"])
def test_centred_power_is_that_of_the_unbiased_covariance(transform):
    images = noise(6, 2, 4, 5) + 10 * noise(1, 2, 4, 5, seed=1)
    spectrum = spectrum_of(images.split(4), corners=True, transform=transform)
    about = images - images.mean(dim=0)
    expected = rapsd(about, corners=True, transform=transform).sum(dim=0) / (len(images) - 1)
    assert_allclose(spectrum.centred, expected, rtol=1e-9)
    trace = np.trace(np.cov(images.flatten(1).numpy().T)) / 2  # per channel
    assert spectrum.count @ spectrum.centred == pytest.approx(trace, rel=1e-12)
    assert spectrum_of(images[:1]).centred is None


def test_sums_over_many_batches_are_kept_in_float64():
    """In float32 the mean of a million equal values drifts; here it stays at what one batch gives."""
    batch = torch.full((1, 1, 2, 2), 0.1)
    running = Running()
    for _ in range(3000):
        running.add(batch)
    spectrum, once = running.spectrum(), spectrum_of(batch)
    assert_allclose(spectrum.power, once.power, rtol=1e-13, atol=1e-30)
    assert spectrum.mean == pytest.approx(float(batch[0, 0, 0, 0]), rel=1e-13)
    assert running._power.dtype == np.float64
    assert running._image.dtype == torch.float64


def test_nothing_is_kept_of_the_batches():
    def peak(batches):
        running = Running()
        tracemalloc.start()
        for seed in range(batches):
            running.add(noise(8, 1, 16, 16, seed=seed).float())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        kept = [value for value in vars(running).values() if isinstance(value, torch.Tensor | np.ndarray)]
        return most, sum(value.size if isinstance(value, np.ndarray) else value.numel() for value in kept)

    peak(2)
    few, many = peak(3), peak(60)
    assert many[1] == few[1] == 16 * 16 + 3 * 9
    assert many[0] < few[0] + 20_000


def test_single_precision_is_good_to_single_precision():
    images = noise(3, 3, 32, 32)
    assert rapsd(images.float()).dtype == torch.float32
    assert_allclose(rapsd(images.float()), rapsd(images), rtol=2e-6)


def test_images_are_left_as_they_were():
    images = noise(2, 1, 6, 6)
    before = images.clone()
    for window in (None, "hann"):
        spectrum_of(images, window=window)
    assert_array_equal(images, before)
    with pytest.raises(ValueError, match="read-only"):
        spectrum_of(images).count[0] = 5


@pytest.mark.parametrize(
    ("images", "options", "says"),
    [
        (torch.zeros(3, 8, 8), {}, r"shape \(B, C, H, W\)"),
        (torch.zeros(0, 3, 8, 8), {}, "none of it empty"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), {}, "float32 or float64, not torch.uint8"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.float16), {}, "float32 or float64, not torch.float16"),
        (torch.full((1, 1, 8, 8), torch.nan), {}, "NaN or an infinite"),
        (torch.full((1, 1, 80, 80), torch.inf), {}, "NaN or an infinite"),
        (torch.zeros(1, 1, 8, 8), {"window": "han"}, "did you mean 'hann'"),
        (torch.zeros(1, 1, 8, 8), {"window": "hann", "transform": "dct"}, "leave the window out"),
        (torch.zeros(1, 1, 8, 8), {"transform": "dst"}, "'fft' or 'dct'"),
    ],
)
def test_what_has_no_spectrum_is_refused_in_one_sentence(images, options, says):
    with pytest.raises(SigmaTuneError, match=says) as caught:
        rapsd(images, **options)
    assert str(caught.value)[-1] in ".?"
    assert "\n" not in str(caught.value)


def test_a_running_spectrum_refuses_another_shape_and_no_image():
    running = Running()
    with pytest.raises(SigmaTuneError, match="no image"):
        running.spectrum()
    running.add(noise(2, 1, 8, 8))
    with pytest.raises(SigmaTuneError, match="bring all to one size"):
        running.add(noise(2, 1, 8, 9))
    with pytest.raises(SigmaTuneError, match="at least one pixel"):
        rings(0, 4)


@given(st.integers(1, 3), LENGTH, st.booleans(), st.sampled_from([None, "hann"]))
def test_a_spectrum_comes_back_from_its_dict_bit_for_bit(n, size, per_channel, window):
    spectrum = spectrum_of(noise(n, 2, size, size + 1), per_channel=per_channel, window=window)
    back = Spectrum.from_dict(json.loads(json.dumps(spectrum.to_dict())))
    for name, value in vars(spectrum).items():
        if isinstance(value, np.ndarray):
            assert_array_equal(getattr(back, name), value, err_msg=name)
        else:
            assert getattr(back, name) == value, name


def test_what_is_no_spectrum_is_refused():
    fields = spectrum_of(noise(2, 1, 4, 4)).to_dict()
    for change in ({"power": [1.0]}, {"power": [-1.0, 0, 0]}, {"size": 4}, {"power": [None, 0, 0]}):
        with pytest.raises(SigmaTuneError):
            Spectrum.from_dict({**fields, **change})
    del fields["size"]
    with pytest.raises(SigmaTuneError, match="not a spectrum"):
        Spectrum.from_dict(fields)


def test_the_floor_keeps_the_logarithm_of_nothing_finite():
    spectrum = spectrum_of(torch.zeros(2, 1, 4, 4))
    assert_allclose(spectrum.log_mean, np.log(QUANTISATION))
    assert_array_equal(spectrum.log_variance, 0)
