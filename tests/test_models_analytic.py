"""The exact denoisers are exact: Tweedie, integration, limits, the ODE, the moments of what they draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from sigmatune.models.analytic import Empirical, GaussianMixture, GaussianSpectrum, gaussian
from sigmatune.support.errors import SigmaTuneError

INF = float("inf")
SIGMAS = [1e-6, 0.002, 0.1, 0.5, 1.0, 3.0, 80.0, 1e6]


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def column(values):
    return torch.as_tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


def power(size=(6, 8), channels=None, seed=0) -> torch.Tensor:
    """A symmetric power without other structure, some modes of it zero."""
    shape = size if channels is None else (channels, *size)
    raw = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    raw = torch.where(raw < 0.2, 0.0, raw)
    return raw + raw.flip(-2, -1).roll((1, 1), (-2, -1))


def spectrum(**options) -> GaussianSpectrum:
    p = power(**options)
    return GaussianSpectrum(p, (2, *p.shape[-2:]))


def mixture() -> GaussianMixture:
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64) * 0.4
    root[1, :, 2:] = 0  # a component without extent along two axes
    means = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64)
    return GaussianMixture([0.5, 0.3, 0.2], means, root @ root.mT)


def states(n, shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------- spectrum


@pytest.mark.parametrize("channels", [None, 2])
def test_spectrum_is_the_wiener_filter_of_every_mode(channels):
    model = spectrum(channels=channels)
    z = states(len(SIGMAS), model.shape)
    sigma = column(SIGMAS)
    x = (z * torch.hypot(torch.ones_like(sigma), sigma)).numpy()
    f = np.fft.fft2(x, norm="ortho") * model.power.numpy() / (model.power.numpy() + sigma.numpy() ** 2)
    close(model(z, sigma.flatten()), torch.from_numpy(np.fft.ifft2(f, norm="ortho").real))


def test_spectrum_says_the_mean_at_infinity():
    model = spectrum()
    assert torch.equal(model(states(2, model.shape), INF), torch.zeros(2, *model.shape, dtype=torch.float64))


def test_spectrum_is_the_gaussian_of_its_covariance():
    model = GaussianSpectrum(power((3, 4)), (1, 3, 4))
    basis = torch.eye(12, dtype=torch.float64).view(12, 1, 3, 4)
    covariance = torch.fft.ifft2(torch.fft.fft2(basis) * model.power).real.view(12, 12)
    other = gaussian(torch.zeros(1, 3, 4), covariance)
    z, sigma = states(9, model.shape), torch.tensor([*SIGMAS, INF], dtype=torch.float64)
    close(model(z, sigma), other(z, sigma), 1e-8)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3))
def test_flow_is_a_group(levels):
    model, (a, b, c) = spectrum(), levels
    z = states(2, model.shape)
    close(model.flow(model.flow(z, a, b), b, c), model.flow(z, a, c), 1e-8)
    close(model.flow(model.flow(z, a, b), b, a), z, 1e-6)
    assert torch.equal(model.flow(z, a, a), model.flow(z, a, a))
    close(model.flow(z, a, a), z, 1e-12)


def test_flow_solves_the_probability_flow_ode():
    r"""dx/dsigma = (x - D) / sigma, integrated finely."""
    model, high, low = spectrum(), 5.0, 0.01
    z = states(2, model.shape)

    def slope(log_sigma, x):
        sigma = float(np.exp(log_sigma))
        x = torch.from_numpy(x).view(z.shape)
        return (x - model(x / np.hypot(1, sigma), sigma)).numpy().ravel()  # dx / dlog sigma

    start = (z * np.hypot(1, high)).numpy().ravel()
    end = solve_ivp(slope, (np.log(high), np.log(low)), start, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    close(model.flow(z, high, low), torch.from_numpy(end).view(z.shape) / np.hypot(1, low), 1e-8)


def test_flow_from_pure_noise_to_data_keeps_every_quantile():
    model = spectrum()
    eps = states(3, model.shape)
    x0 = model.flow(eps, INF, 0.0)
    f = torch.fft.fft2(eps, norm="ortho") * model.power.sqrt()
    close(x0, torch.fft.ifft2(f, norm="ortho").real)
    rows = torch.tensor([INF, 2.0, 0.5], dtype=torch.float64)
    one_by_one = [model.flow(eps[i : i + 1], level, 0.3) for i, level in enumerate(rows.tolist())]
    close(model.flow(eps, rows, 0.3), torch.cat(one_by_one))


def test_drawn_images_have_the_spectrum():
    model = spectrum()
    f = torch.fft.fft2(model.draw(4000, seed=1), norm="ortho").abs().square().mean((0, 1))
    close(f, model.power, 0.1)
    assert bool((f[model.power == 0] < 1e-20).all())


@pytest.mark.parametrize(
    ("p", "shape", "message"),
    [
        (np.ones((4, 4)), (1, 4, 5), "does not fit"),
        (np.ones((3, 4, 4)), (2, 4, 4), "does not fit"),
        (np.ones((4, 4)), (4, 4), "does not fit"),
        (-np.ones((4, 4)), (1, 4, 4), "at least 0"),
        (np.full((4, 4), np.nan), (1, 4, 4), "at least 0"),
        (np.full((4, 4), np.inf), (1, 4, 4), "at least 0"),
        (np.arange(16.0).reshape(4, 4), (1, 4, 4), "symmetric"),
    ],
)
def test_what_is_no_power_is_refused(p, shape, message):
    with pytest.raises(SigmaTuneError, match=message):
        GaussianSpectrum(p, shape)


# -------------------------------------------------------------------------------------------------------- mixture


def test_mixture_obeys_tweedie():
    """D = (z + s^2 grad log p(z)) / alpha, with the gradient from autograd."""
    model, sigma = mixture(), torch.tensor([0.01, 0.1, 0.5, 1.0, 3.0, 80.0], dtype=torch.float64)
    z = states(6, model.shape).requires_grad_(True)
    (score,) = torch.autograd.grad(model.log_density(z, sigma).sum(), z)
    alpha = column(1 / np.hypot(1, sigma.numpy()))
    expected = (z.detach() + (1 - alpha**2) * score) / alpha
    close(model(z.detach(), sigma), expected, 1e-8)


def test_mixture_equals_numerical_integration():
    """In one dimension E[x0 | z] and p(z) are integrals over a grid."""
    weights, means, variances = [0.2, 0.5, 0.3], [-1.0, 0.3, 2.0], [0.04, 0.3, 0.01]
    model = GaussianMixture(weights, np.reshape(means, (3, 1)), np.reshape(variances, (3, 1, 1)))
    x0 = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    prior = sum(
        w * torch.exp(-((x0 - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)
        for w, m, v in zip(weights, means, variances, strict=True)
    )
    for sigma in (0.05, 0.4, 1.0, 20.0):
        alpha, s = 1 / np.hypot(1, sigma), sigma / np.hypot(1, sigma)
        for z in (-1.5, 0.1, 1.2):
            joint = prior * torch.exp(-((z - alpha * x0) ** 2) / (2 * s**2)) / np.sqrt(2 * np.pi * s**2)
            density = torch.trapezoid(joint, x0)
            at, level = torch.tensor([[z]], dtype=torch.float64), torch.tensor([sigma], dtype=torch.float64)
            close(model(at, level)[0, 0], torch.trapezoid(joint * x0, x0) / density, 1e-8)
            close(model.log_density(at, level)[0], density.log(), 1e-8)


def test_mixture_at_the_ends():
    model = mixture()
    z = states(4, model.shape)
    mean = torch.einsum("k,kd->d", model.weights, model.means).view(1, *model.shape)
    close(model(z, INF), mean.expand(4, *model.shape))
    x0 = model.draw(50, seed=2)
    found = model(x0, 1e-9)  # without noise the data are their own estimate, also on a flat component
    close(found, x0, 1e-6)
    assert model(x0 * 1e6, 1e-9).isfinite().all()


def test_mixture_of_one_is_the_gaussian():
    mean, root = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([[1.0, 0.0], [0.7, 0.2]]).double()
    covariance = root @ root.T
    model = gaussian(mean, covariance)
    split = GaussianMixture([0.25, 0.75], torch.stack([mean, mean]), torch.stack([covariance, covariance]))
    for sigma in SIGMAS:
        z = states(3, (2,))
        x = z * np.hypot(1, sigma)
        gain = torch.linalg.solve(covariance + sigma**2 * torch.eye(2).double(), (x - mean).T).T
        close(model(z, sigma), mean + gain @ covariance, 1e-6)
        close(split(z, sigma), model(z, sigma), 1e-12)


def test_a_mixture_of_points_is_the_empirical_set():
    points = states(5, (1, 2, 2), 7)
    model, other = GaussianMixture([0.2] * 5, points, torch.zeros(5, 4, 4)), Empirical(points)
    z, sigma = states(9, (1, 2, 2)), torch.tensor([1e-3, *SIGMAS[1:], INF], dtype=torch.float64)
    close(model(z, sigma), other(z, sigma), 1e-9)


def test_drawn_samples_have_the_mixture_s_moments():
    model = mixture()
    x = model.draw(10_000, seed=5).flatten(1)
    mean = model.weights @ model.means
    within = model.axes @ torch.diag_embed(model.variances) @ model.axes.mT
    second = torch.einsum("k,kij->ij", model.weights, within + model.means[:, :, None] * model.means[:, None])
    close(x.mean(0), mean, 0.05)
    close(x.T @ x / len(x), second, 0.05)


@pytest.mark.parametrize(
    ("weights", "means", "covariances", "message"),
    [
        ([0.5, 0.4], np.zeros((2, 2)), np.stack([np.eye(2)] * 2), "sum to 1"),
        ([1.5, -0.5], np.zeros((2, 2)), np.stack([np.eye(2)] * 2), "sum to 1"),
        ([1.0], np.zeros((2, 2)), np.stack([np.eye(2)] * 2), "needs weights"),
        ([1.0], np.zeros((1, 2)), np.eye(3)[None], "needs weights"),
        ([1.0], np.zeros((1, 2)), [[[1.0, 0.5], [0.0, 1.0]]], "symmetric"),
        ([1.0], np.zeros((1, 2)), [[[1.0, 2.0], [2.0, 1.0]]], "negative eigenvalue"),
        ([1.0], np.full((1, 2), np.nan), np.eye(2)[None], "finite"),
        ([1.0], np.zeros((1, 2)), np.full((1, 2, 2), np.nan), "finite"),
    ],
)
def test_what_is_no_mixture_is_refused(weights, means, covariances, message):
    with pytest.raises(SigmaTuneError, match=message):
        GaussianMixture(weights, means, covariances)


# ------------------------------------------------------------------------------------------------------ empirical


def test_one_image_is_always_the_answer():
    image = states(1, (3, 4, 4))
    model = Empirical(image)
    for sigma in [*SIGMAS, INF]:
        close(model(states(2, (3, 4, 4), 1), sigma), image.expand(2, 3, 4, 4), 1e-12)


def test_empirical_is_the_posterior_mean():
    images, z = states(7, (1, 3, 3)), states(4, (1, 3, 3), 1)
    for sigma in (0.05, 0.5, 2.0, 80.0):
        model = Empirical(images)
        x = z * np.hypot(1, sigma)
        distance = (x[:, None] - images[None]).square().flatten(2).sum(-1)
        weight = torch.softmax(-distance / (2 * sigma**2), dim=1)
        close(model(z, sigma), torch.einsum("bi,ichw->bchw", weight, images), 1e-9)
    close(model(z, INF), images.mean(0, keepdim=True).expand(4, 1, 3, 3))
    close(model(images / np.hypot(1, 1e-7), 1e-7), images)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_do_not_change_the_answer(chunk):
    images, z = states(7, (1, 3, 3)), states(4, (1, 3, 3), 1)
    sigma = torch.tensor([0.1, 0.5, 2.0, INF], dtype=torch.float64)
    close(Empirical(images, chunk=chunk)(z, sigma), Empirical(images)(z, sigma), 1e-12)


def test_draws_are_members_evenly():
    images = torch.arange(4.0).view(4, 1)
    counts = torch.bincount(Empirical(images).draw(4000, seed=3).long().flatten(), minlength=4)
    assert counts.sum() == 4000
    assert (counts - 1000).abs().max() < 120


@pytest.mark.parametrize(
    "images", [np.zeros((0, 3)), np.zeros(3), np.zeros((2, 3), dtype=np.uint8), np.full((2, 3), np.inf)]
)
def test_what_is_no_set_of_images_is_refused(images):
    with pytest.raises(SigmaTuneError, match="image"):
        Empirical(images)


# ------------------------------------------------------------------------------------------------------------ all

MODELS = {"spectrum": spectrum, "mixture": mixture, "empirical": lambda: Empirical(states(6, (1, 2, 2)))}


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_independent(name):
    model = MODELS[name]()
    sigma = torch.tensor([*SIGMAS, INF], dtype=torch.float64)
    z = states(len(sigma), model.shape)
    rows = torch.cat([model(z[i : i + 1], level) for i, level in enumerate(sigma.tolist())])
    close(model(z, sigma), rows, 1e-12)
    assert model(z.float(), sigma).dtype == torch.float32


@pytest.mark.parametrize("name", MODELS)
def test_the_estimate_minimises_the_squared_error(name):
    """The exact denoiser's error is orthogonal to its output: E<D, D - x0> = 0."""
    model = MODELS[name]()
    x0, eps = model.draw(6000, seed=11), states(6000, model.shape, 12)
    for sigma in (0.3, 1.0):
        d = model((x0 + sigma * eps) / np.hypot(1, sigma), sigma)
        product = (d * (d - x0)).flatten(1).sum(1)
        assert abs(product.mean()) < 4 * product.std() / len(product) ** 0.5


@pytest.mark.parametrize("name", MODELS)
def test_draws_depend_on_seed_and_index_alone(name):
    model = MODELS[name]()
    assert torch.equal(model.draw(3, seed=4), model.draw(9, seed=4)[:3])
    assert not torch.equal(model.draw(9, seed=4), model.draw(9, seed=5))


def test_draws_are_independent_of_the_start_noise():
    from sigmatune.core.rng import START, noise

    model = GaussianSpectrum(np.ones((8, 8)), (1, 8, 8))
    start = noise(4, range(50), START, model.shape, dtype=torch.float64)
    assert abs((model.draw(50, seed=4) * start).mean()) < 0.1


@pytest.mark.parametrize("name", MODELS)
def test_fingerprints_are_reproducible(name):
    prints = {other: make().fingerprint() for other, make in MODELS.items()}
    assert MODELS[name]().fingerprint() == prints[name]
    assert len(set(prints.values())) == 3
    assert spectrum(seed=1).fingerprint() != spectrum(seed=0).fingerprint()
