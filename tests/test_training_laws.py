"""Every noise law and every loss weight keeps what it promises; the registries are walked, so a new one is tested at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sigmatune import noise
from sigmatune.models.predictions import from_epsilon, from_v
from sigmatune.spectra.bounds import lost_variance
from sigmatune.spectra.rapsd import rapsd
from sigmatune.spectra.spectrum import spectrum_of
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.averages import AVERAGES, Average, gamma_of
from sigmatune.training.laws import LAWS, Domain, noise_law
from sigmatune.training.objective import Denoising, scale_of
from sigmatune.training.weights import WEIGHTS, DataFacts
from sigmatune.training.weights.sigmoid import spectral_bias

PATH = noise.VE(0.002, 80.0)
U = np.linspace(0.001, 0.999, 1999)


def loss_weight(name, data, options=None):
    return WEIGHTS[name].with_options(data, options or {})


def photographs(n: int = 12, size: int = 16, seed: int = 0) -> torch.Tensor:
    """Images with spectra that fall like those of photographs, each with a slope and a power of its own."""
    rng = np.random.default_rng(seed)
    k = np.maximum(np.hypot(*np.meshgrid(np.fft.fftfreq(size) * size, np.fft.fftfreq(size) * size)), 0.5)
    slope, power = rng.uniform(0.6, 1.5, size=(n, 1, 1, 1)), rng.uniform(0.1, 0.4, size=(n, 1, 1, 1))
    modes = np.fft.fft2(rng.normal(size=(n, 3, size, size))) * k**-slope
    images = np.fft.ifft2(modes).real
    return torch.from_numpy(images / images.std(axis=(1, 2, 3), keepdims=True) * power).float()


IMAGES = photographs()
DOMAIN = Domain(PATH, (3, 16, 16), spectrum_of(IMAGES))
CURVES = [name for name in LAWS if name != "levels"]


def made(name: str, **options):
    return noise_law(name, DOMAIN, options or LAWS[name].options)


@pytest.mark.parametrize("name", LAWS)
def test_every_level_lies_in_the_models_range(name):
    one = made(name)
    drawn = one.draw(np.random.default_rng(0).random(len(IMAGES)), IMAGES)
    PATH.check(drawn.sigma)
    PATH.check(drawn.ends)
    assert drawn.sigma.shape == (len(IMAGES),)
    assert (drawn.ends[:, 0] < drawn.ends[:, 1]).all()
    assert (drawn.sigma >= drawn.ends[:, 0] * (1 - 1e-9)).all(), one
    assert (drawn.sigma <= drawn.ends[:, 1] * (1 + 1e-9)).all(), one


CUT = [("log-normal", {"P_mean": 4.0}), ("flow", {"shift": 3.0}), ("ddpm", {"table": "cosine"})]


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in CURVES), *CUT])
def test_a_law_is_a_strictly_falling_curve_with_its_own_slope(name, options):
    one = made(name, **options)
    rows = np.broadcast_to(U, (len(IMAGES), len(U)))
    values, slopes = one.logsnr(rows, IMAGES), one.slope(rows, IMAGES)
    assert (np.diff(values, axis=1) < 0).all(), one
    assert (slopes > 0).all(), one
    between = (U[1:] + U[:-1]) / 2
    there = one.slope(np.broadcast_to(between, (len(IMAGES), len(between))), IMAGES)
    fallen = (there * np.diff(U)).sum(axis=1)
    np.testing.assert_allclose(fallen, values[:, 0] - values[:, -1], rtol=5e-3, err_msg=name)


@pytest.mark.parametrize("name", CURVES)
def test_the_ends_are_those_of_the_curve(name):
    one = made(name)
    edges = np.exp(-one.logsnr(np.broadcast_to([0.0, 1.0], (len(IMAGES), 2)), IMAGES) / 2)
    np.testing.assert_allclose(one.ends(IMAGES), edges, rtol=1e-12)


@pytest.mark.parametrize("name", LAWS)
def test_a_row_does_not_depend_on_its_neighbours(name):
    one, u = made(name), np.random.default_rng(1).random(len(IMAGES))
    whole = one.draw(u, IMAGES)
    alone = one.draw(u[5:6], IMAGES[5:6])
    assert whole.sigma[5] == pytest.approx(alone.sigma[0], rel=1e-6)  # float32 transforms of another batch size
    np.testing.assert_allclose(whole.ends[5], alone.ends[0], rtol=1e-6)


def test_what_each_law_draws_is_what_it_says():
    def levels(name, **options):
        return np.exp(-made(name, **options).logsnr(U[None], IMAGES[:1])[0] / 2)

    share = np.log(levels("log-normal", P_mean=-0.5, P_std=0.8))
    assert share.mean() == pytest.approx(-0.5, abs=5e-3)
    assert share.std() == pytest.approx(0.8, rel=1e-2)
    t = noise.vp("linear").time(np.clip(levels("ddpm"), noise.vp("linear").sigma_min, None))
    np.testing.assert_allclose(np.diff(t), np.diff(t).mean(), rtol=1e-6)
    angle = np.arctan(levels("cosine", base=16.0))
    np.testing.assert_allclose(np.diff(angle), np.diff(angle).mean(), rtol=1e-6)
    np.testing.assert_allclose(levels("cosine", base=8.0), 2 * np.tan(np.linspace(*_angles(0.5), 1999)), rtol=1e-6)
    tau = 1 / (1 + 1 / levels("flow"))
    np.testing.assert_allclose(np.diff(tau), np.diff(tau).mean(), rtol=1e-6)
    shifted = 1 / (1 + 1 / levels("flow", shift=3.0))
    plain = shifted / (3 - 2 * shifted)  # the time before the shift
    np.testing.assert_allclose(np.diff(plain), np.diff(plain).mean(), rtol=1e-6)
    np.testing.assert_allclose(
        np.diff(np.log(levels("log-uniform"))), np.diff(np.log(levels("log-uniform")))[0], rtol=1e-6
    )


def _angles(m: float) -> tuple[float, float]:
    clean, noisy = np.arctan(m * np.array([PATH.sigma_min, PATH.sigma_max]))
    return clean + 0.001 * (noisy - clean), clean + 0.999 * (noisy - clean)


def test_the_spectral_law_has_the_tight_ends_of_the_mean_spectrum():
    for kind in ("frequency", "power", "mixed"):
        ends = made("spectral", curve=kind, kappa_min=0.02, kappa_max=30.0).ends(IMAGES)
        power = DOMAIN.power()[1:]
        assert ends[0, 1] == pytest.approx(np.sqrt(power.max() / 0.02), rel=1e-9)
        assert ends[0, 0] == pytest.approx(np.sqrt(power[-1] / 30.0), rel=1e-9)


def test_an_image_is_trained_on_the_curve_of_its_own_spectrum():
    own, power = made("spectral-instance"), rapsd(IMAGES).double().numpy()[:, 1:]
    ends = own.ends(IMAGES)
    kappa_min, kappa_max = own.curve["kappa_min"], own.curve["kappa_max"]
    np.testing.assert_allclose(ends[:, 1], np.sqrt(power.max(axis=1) / kappa_min), rtol=1e-6)
    np.testing.assert_allclose(ends[:, 0], np.maximum(np.sqrt(power[:, -1] / kappa_max), PATH.sigma_min), rtol=1e-6)
    assert len(set(np.round(ends[:, 1], 6))) == len(IMAGES)
    np.testing.assert_allclose(own.ends(IMAGES.flip(-1)), ends, rtol=1e-5)  # mirrored: the same spectrum
    alike = IMAGES[:1].expand(4, -1, -1, -1)
    single = noise_law("spectral", Domain(PATH, (3, 16, 16), spectrum_of(alike)), {})
    u = np.array([0.1, 0.4, 0.7, 0.9])
    np.testing.assert_allclose(own.draw(u, alike).sigma, single.draw(u, alike).sigma, rtol=1e-5)
    np.testing.assert_allclose(own.draw(u, alike).slope, single.draw(u, alike).slope, rtol=1e-4)


def test_a_constant_image_has_a_curve_too():
    flat = torch.full((1, 3, 16, 16), 0.5)
    drawn = made("spectral-instance").draw(np.array([0.5]), flat)
    assert np.isfinite(drawn.sigma).all()
    assert drawn.ends[0, 0] < drawn.ends[0, 1]


def test_the_levels_of_a_plan_are_drawn_as_often_as_they_are_asked_for():
    one = made("levels", sigmas=[10.0, 1.0, 0.1], shares=[1.0, 2.0, 1.0], elsewhere=0.2)
    sigma = np.exp(-one.logsnr(np.linspace(0, 1, 10_001)[None], IMAGES[:1])[0] / 2)
    for level, share in ((10.0, 0.2), (1.0, 0.4), (0.1, 0.2)):
        assert np.mean(np.isclose(sigma, level, rtol=1e-12)) == pytest.approx(share, abs=1e-3)
    others = sigma[~np.isclose(sigma[:, None], [10.0, 1.0, 0.1], rtol=1e-12).any(axis=1)]
    assert others.min() < 0.01
    assert others.max() > 50
    with pytest.raises(SigmaTuneError, match="density"):
        scale_of(one, loss_weight("edm", DataFacts(0.5)), IMAGES, 0.5, density=True)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("log-normal", {"P_std": 0.0}, "P_std must be a positive"),
        ("log-normal", {"P_mean": 300.0}, "misses the model's range"),
        ("log-normal", {"mean": 0.0}, "did you mean"),
        ("ddpm", {"table": "zigzag"}, "zigzag"),
        ("spectral", {"curve": "wavelet"}, "spectral curve"),
        ("spectral-instance", {"kappa_min": 3.0, "kappa_max": 1.0}, "kappa_min < kappa_max"),
        ("levels", {}, "needs the plan's positive levels"),
        ("levels", {"sigmas": [100.0]}, "outside the model's range"),
        ("levels", {"sigmas": [1.0], "shares": [0.0]}, "positive share"),
        ("levels", {"sigmas": [1.0], "elsewhere": 1.0}, "elsewhere"),
        ("cosine", {"base": -1.0}, "base must be"),
        ("spectral-normal", {"by": "pixels"}, "'rings' or 'modes'"),
    ],
)
def test_options_that_are_none_are_refused(name, options, says):
    with pytest.raises(SigmaTuneError, match=says):
        noise_law(name, DOMAIN, options)


# --------------------------------------------------------------------------------------------------------------- weights

DATA = DataFacts(0.5, spectrum_of(IMAGES))
SIGMA = np.geomspace(0.002, 80, 200)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_is_positive_and_falls_with_the_noise(name):
    values = loss_weight(name, DATA)(SIGMA)
    assert np.isfinite(values).all()
    assert (values > 0).all()
    assert (np.diff(values) <= 1e-9 * values[:-1]).all(), name


def test_weights_on_noise_and_velocity_are_weights_on_the_image():
    generator = torch.Generator().manual_seed(0)
    x_0, eps, wrong = (torch.randn(6, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    sigma = torch.tensor([0.01, 0.1, 0.5, 1.0, 5.0, 50.0], dtype=torch.float64).view(-1, 1, 1, 1)
    alpha, s = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
    z, flat = alpha * x_0 + s * eps, sigma.flatten().numpy()
    eps_hat, v_hat = eps + 0.1 * wrong, alpha * eps - s * x_0 + 0.1 * wrong
    for name, found in (("epsilon", from_epsilon(eps_hat, z, sigma)), ("velocity", from_v(v_hat, z, sigma))):
        image = (found - x_0).square().flatten(1).mean(dim=1).numpy()
        other = (0.1 * wrong).square().flatten(1).mean(dim=1).numpy()
        np.testing.assert_allclose(loss_weight(name, DATA)(flat) * image, other, rtol=1e-9, err_msg=name)


def test_the_sigmoid_weight_is_what_the_paper_writes():
    for b in (-3.0, 0.0, 2.0):
        logsnr = -2 * np.log(SIGMA)
        written = np.exp(b) / (1 + np.exp(-(logsnr - b)))
        np.testing.assert_allclose(loss_weight("sigmoid", DATA, {"b": b})(SIGMA), written, rtol=1e-12)
        on_noise = written * SIGMA**2  # the weight on the noise's error
        np.testing.assert_allclose(on_noise, 1 / (1 + np.exp(-(b - logsnr))), rtol=1e-12)


def test_the_spectral_weights_follow_the_spectrum():
    white = torch.randn(4000, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5
    flat = DataFacts(0.5, spectrum_of(white, corners=True))
    np.testing.assert_allclose(loss_weight("spectral", flat)(SIGMA), loss_weight("edm", flat)(SIGMA), rtol=0.01)
    np.testing.assert_allclose(
        loss_weight("spectral", DATA)(SIGMA) * lost_variance(DATA.spectrum, SIGMA), 1, rtol=1e-12
    )
    power = np.asarray(DATA.spectrum.centred)[1:]
    assert spectral_bias(DATA) == pytest.approx(-np.log(power).mean(), rel=1e-9)
    louder = DataFacts(1.0, spectrum_of(2 * IMAGES))
    assert spectral_bias(louder) == pytest.approx(spectral_bias(DATA) - 2 * np.log(2), abs=1e-4)
    assert loss_weight("min-snr", DATA, {"gamma": 5.0})(np.array([0.1, 1.0])).tolist() == [5.0, 1.0]


def test_weights_that_need_a_spectrum_say_so():
    for name in ("spectral", "sigmoid-spectral"):
        with pytest.raises(SigmaTuneError, match="measure it first"):
            loss_weight(name, DataFacts(0.5))
    with pytest.raises(SigmaTuneError, match="measure it first"):
        noise_law("spectral", Domain(PATH, (3, 16, 16)), {})


# ------------------------------------------------------------------------------------------------------------- objective


class Wiener(torch.nn.Module):
    """The best denoiser of white data of standard deviation d, as an EDM network of the same sigma_data: F = 0."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x_t, t):
        return 0 * x_t + self.bias


@pytest.mark.parametrize("density", [False, True])
@pytest.mark.parametrize("name", ["log-normal", "cosine"])
def test_the_loss_of_the_best_denoiser_of_white_data_is_one(name, density):
    """EDM's weight is one over that error, and the scale makes it one for every other law and weight."""
    from sigmatune.models.predictions import edm
    from sigmatune.training.data import Batch

    data = 0.5 * torch.randn(4096, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch(data, torch.full((4096,), -1), torch.arange(4096), range(4096), 0)
    one, of = (
        noise_law(name, Domain(PATH, (3, 4, 4)), {}),
        loss_weight("edm" if not density else "sigmoid", DataFacts(0.5)),
    )
    scale = scale_of(one, of, data[:4], 0.5, density=density)
    if name == "log-normal" and not density:
        assert scale == pytest.approx(1, abs=1e-9)
    objective = Denoising(PATH, edm(0.5), one, of, density=density, scale=scale)
    network = Wiener()
    losses = objective.losses(network, batch, 0)
    assert losses.shape == (4096,)
    assert losses.mean().item() == pytest.approx(1, abs=0.05)
    losses.mean().backward()
    assert network.bias.grad is not None


class Told(Wiener):
    """Keeps what it was told."""

    def forward(self, x_t, t, **told):
        self.told, self.seen, self.t = told, x_t, t
        return 0 * x_t + self.bias


def test_the_network_is_told_class_ends_and_level():
    from sigmatune.models.predictions import edm
    from sigmatune.training import draws
    from sigmatune.training.data import Batch

    n = 600
    images = IMAGES.repeat(n // len(IMAGES), 1, 1, 1)
    labels = torch.arange(n) % 3
    batch = Batch(images, labels, torch.arange(n), range(n), 5)
    one = noise_law("spectral-instance", DOMAIN, {})
    objective = Denoising(PATH, edm(0.5), one, loss_weight("edm", DATA), drop=0.2, classes=3, told_ends=True)
    network = Told()
    losses = objective.losses(network, batch, 7)
    told = network.told["labels"]
    dropped = told == 3
    assert dropped.float().mean().item() == pytest.approx(0.2, abs=0.05)
    assert torch.equal(told[~dropped], labels[~dropped])
    np.testing.assert_allclose(network.told["ends"].numpy(), one.ends(images), rtol=1e-5)
    u = draws.uniforms(7, 5, range(n), 1)[:, 0]
    sigma = one.draw(u, images).sigma
    np.testing.assert_allclose(network.t.numpy(), sigma, rtol=1e-6)  # this path's clock is sigma
    noise_of = draws.normals(7, 5, range(n), images.shape[1:])
    column = torch.from_numpy(sigma).float().view(-1, 1, 1, 1)
    torch.testing.assert_close(
        network.seen, (images + column * noise_of) / (column**2 + 0.25).sqrt(), rtol=1e-4, atol=1e-5
    )
    best = 0.25 / (0.25 + column**2) * (images + column * noise_of)
    error = (best - images).square().flatten(1).mean(dim=1) * torch.from_numpy((sigma**2 + 0.25) / (0.5 * sigma) ** 2)
    deviation = DATA.sigma_data
    assert deviation == 0.5
    np.testing.assert_allclose(losses.detach().numpy(), error.numpy(), rtol=1e-3)
    unlabelled = Batch(images, torch.full((n,), -1), torch.arange(n), range(n), 5)
    objective.losses(network, unlabelled, 7)
    assert (network.told["labels"] == 3).all()


# --------------------------------------------------------------------------------------------------------------- averages


def test_the_power_average_has_the_width_that_is_asked_for():
    for sigma_rel in (0.05, 0.1, 0.2):
        average = Average("power", {"sigma_rel": sigma_rel}, [("t", torch.zeros(()))])
        steps, second = 2000, Average("power", {"sigma_rel": sigma_rel}, [("t", torch.zeros(()))])
        for step in range(1, steps + 1):
            average.update(step, [("t", torch.tensor(step / steps))])
            second.update(step, [("t", torch.tensor((step / steps) ** 2))])
        mean, gamma = average.values["t"].item(), gamma_of(sigma_rel)
        assert mean == pytest.approx((gamma + 1) / (gamma + 2), abs=2e-3)
        assert np.sqrt(second.values["t"].item() - mean**2) == pytest.approx(sigma_rel, rel=0.02)


def test_averages_are_convex_and_forget_the_start():
    for kind in AVERAGES:
        average = Average(kind, {}, [("a", torch.full((2,), 100.0))])
        for step in range(1, 400):
            average.update(step, [("a", torch.ones(2))])
        assert 1 <= average.values["a"][0] < 1.1, kind
    with pytest.raises(SigmaTuneError, match="decay"):
        Average("constant", {"decay": 1.0}, [])
    with pytest.raises(SigmaTuneError, match="sigma_rel"):
        Average("power", {"sigma_rel": 0.3}, [])
