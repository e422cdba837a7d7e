"""Every prediction type on every path it fits, against the exact denoiser of a mixture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sigmatune.core.wrappers import Observed
from sigmatune.models.analytic import GaussianMixture
from sigmatune.models.function import from_callable
from sigmatune.models.network import NetworkDenoiser
from sigmatune.models.predictions import edm, predictions
from sigmatune.noise import VE, Flow, Narrowed, NoisePath, vp
from sigmatune.support.errors import SigmaTuneError

SIGMA_DATA = 0.7
PATHS: dict[str, NoisePath] = {
    "vp": vp(),
    "vp-cosine": vp("cosine"),
    "vp-zero-snr": vp(zero_terminal_snr=True),
    "ve": VE(),
    "edm": VE(clock="quarter_log"),
    "flow": Flow(),
    "flow-3": Flow(3.0),
    "part": Narrowed(Flow(3.0), 0.01, 50.0),
}
PAIRS = [
    *[("epsilon", path) for path in ("vp", "vp-cosine")],
    *[("v_prediction", path) for path in ("vp", "vp-cosine", "vp-zero-snr")],
    *[("sample", path) for path in PATHS],
    ("score", "ve"),
    *[("flow", path) for path in ("flow", "flow-3", "part")],
    *[(kind, path) for kind in ("edm", "edm-minus") for path in ("ve", "edm")],
]


def mixture(path: NoisePath | None = None) -> GaussianMixture:
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64) * 0.4
    means = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64)
    return GaussianMixture([0.5, 0.3, 0.2], means, root @ root.mT, path)


class Oracle:
    """A network that knows the exact answer and says it in the words of a prediction type.

    It learns the level from t alone, so a wrong (t, sigma) pair shows.
    """

    def __init__(self, kind: str, path: NoisePath) -> None:
        self.kind, self.path, self.seen = kind, path, []

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert t.dtype == x_t.dtype == torch.float64
        self.seen.append(t)
        sigma = torch.from_numpy(self.path.sigma(t.numpy()))
        column = sigma.view(-1, 1, 1, 1)
        alpha = torch.from_numpy(self.path.alpha(t.numpy())).view_as(column)
        s = torch.from_numpy(self.path.s(t.numpy())).view_as(column)
        if self.kind.startswith("edm"):
            x_t = x_t * (column**2 + SIGMA_DATA**2).sqrt()
        norm = torch.hypot(alpha, s)  # from the model's own scale to the unit state
        x0 = mixture().denoise(x_t / norm, sigma)
        if self.kind == "sample":
            return x0
        if self.kind == "score":
            x = x_t.clone().requires_grad_(True)
            (score,) = torch.autograd.grad(mixture().log_density(x / norm, sigma).sum(), x)
            return score
        if self.kind.startswith("edm"):
            skip = SIGMA_DATA**2 / (column**2 + SIGMA_DATA**2)
            out = column * SIGMA_DATA / (column**2 + SIGMA_DATA**2).sqrt()
            return (x0 - skip * x_t) / (out if self.kind == "edm" else -out)
        eps = (x_t - alpha * x0) / s
        return {"epsilon": eps, "v_prediction": alpha * eps - s * x0, "flow": eps - x0}[self.kind]


def adapted(kind: str, path: NoisePath) -> tuple[NetworkDenoiser, Oracle]:
    oracle = Oracle(kind, path)
    named = {"edm": edm(SIGMA_DATA), "edm-minus": edm(SIGMA_DATA, sign=-1)}.get(kind, kind)
    return NetworkDenoiser(oracle, (1, 2, 2), path, named, dtype=torch.float64), oracle


def levels(path: NoisePath, n: int = 33) -> np.ndarray:
    inside = np.geomspace(path.sigma_min, min(path.sigma_max, 1e3), n)
    inside[[0, -1]] = path.sigma_min, min(path.sigma_max, 1e3)
    return np.append(inside, np.inf) if np.isinf(path.sigma_max) else inside


def states(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("kind", "where"), PAIRS)
def test_an_exact_network_gives_the_exact_denoiser(kind, where):
    path = PATHS[where]
    sigma = torch.from_numpy(levels(path))
    z = states(len(sigma))
    model, _ = adapted(kind, path)
    # x_t - s eps loses digits as sigma grows; every other formula keeps them.
    tolerance = 1e-10 * max(1.0, float(sigma[sigma.isfinite()].max()))
    torch.testing.assert_close(model(z, sigma), mixture()(z, sigma), rtol=1e-9, atol=tolerance)


@pytest.mark.parametrize(("kind", "where"), PAIRS)
def test_one_level_per_row_equals_one_level_for_all(kind, where):
    path = PATHS[where]
    sigma = torch.from_numpy(levels(path, 7))
    z = states(len(sigma), 1)
    model, _ = adapted(kind, path)
    alone = torch.cat([model(z[i : i + 1], level) for i, level in enumerate(sigma.tolist())])
    torch.testing.assert_close(model(z, sigma), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("where", PATHS)
def test_the_pair_at_the_network_is_the_pair_that_was_asked_for(where):
    path = PATHS[where]
    model, oracle = adapted("sample", path)
    asked = []
    watched = Observed(model, lambda z, sigma, x0: asked.append(sigma))
    for level in levels(path, 9):
        watched(states(2), float(level))
    got = path.sigma(torch.cat(oracle.seen).numpy())
    np.testing.assert_allclose(got, torch.cat(asked).numpy(), rtol=1e-10)


def test_time_reaches_a_float32_network_unrounded():
    path, seen = vp(), []

    def network(x_t, t):
        seen.append(t)
        return torch.zeros_like(x_t)

    for dtype in (torch.float32, torch.bfloat16):
        model = NetworkDenoiser(network, (1, 2, 2), path, "v_prediction", dtype=dtype)
        sigmas = levels(path, 50)
        out = model(states(50).float(), torch.from_numpy(sigmas))
        assert out.dtype == torch.float32
        assert seen[-1].dtype == torch.float32
        np.testing.assert_allclose(path.sigma(seen[-1].double().numpy()), sigmas, rtol=1e-6)


def test_sigmas_outside_the_range_are_refused():
    model, oracle = adapted("epsilon", vp())
    for sigma in (1e-4, 200.0, float("inf"), float("nan")):
        with pytest.raises(SigmaTuneError, match="outside the model's range"):
            model(states(1), sigma)
    assert not oracle.seen


def test_noise_prediction_is_refused_where_the_path_has_no_signal():
    with pytest.raises(SigmaTuneError, match="sigma = inf"):
        adapted("epsilon", vp(zero_terminal_snr=True))
    part = Narrowed(vp(zero_terminal_snr=True), 0.02, 20.0)
    model, _ = adapted("epsilon", part)
    z, sigma = states(5), torch.from_numpy(np.geomspace(0.02, 20, 5))
    torch.testing.assert_close(model(z, sigma), mixture()(z, sigma), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("kind", "where"), [("epsilon", "ve"), ("score", "vp"), ("flow", "vp"), ("edm", "flow")])
def test_a_prediction_type_on_a_foreign_path_is_refused(kind, where):
    with pytest.raises(SigmaTuneError, match="needs a noise path of kind"):
        adapted(kind, PATHS[where])


def test_unknown_prediction_types_name_the_nearest():
    with pytest.raises(SigmaTuneError, match="did you mean 'epsilon'"):
        NetworkDenoiser(lambda x, t: x, (1, 2, 2), vp(), "epsilonn")
    with pytest.raises(SigmaTuneError, match="sigma_data"):
        edm(0.0)
    assert predictions["v"] is predictions["v_prediction"]


@pytest.mark.parametrize(
    ("kind", "where"), [("v_prediction", "vp-zero-snr"), ("flow", "flow-3"), ("edm", "edm"), ("score", "ve")]
)
def test_gradients_reach_state_and_level(kind, where):
    """The level enters through the coefficients, the state's scale and the network's clock; all three count."""
    path = PATHS[where]

    def network(x_t, t):
        return x_t * torch.tanh(t / 7).view(-1, 1, 1, 1) + 0.1 * x_t**2

    model = NetworkDenoiser(network, (1, 2, 2), path, edm(SIGMA_DATA) if kind == "edm" else kind, dtype=torch.float64)
    sigma = torch.tensor([0.05, 0.7, 3.3], dtype=torch.float64, requires_grad=True)
    z = states(3).requires_grad_(True)
    by_z, by_sigma = torch.autograd.grad(model(z, sigma).sum(), (z, sigma))
    h = 1e-6
    with torch.no_grad():
        up, down = (model(z, sigma * (1 + sign * h)).sum((1, 2, 3)) for sign in (1, -1))
        expected = (up - down) / (2 * h * sigma)
        moved = (model(z + h, sigma) - model(z - h, sigma)) / (2 * h)
    torch.testing.assert_close(by_sigma, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(by_z, moved, rtol=1e-5, atol=1e-7)


def test_gradient_at_the_infinite_level_is_finite():
    model = NetworkDenoiser(lambda x, t: x, (1, 2, 2), Flow(), "flow", dtype=torch.float64)
    sigma = torch.tensor([float("inf"), 2.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(states(2), sigma).sum(), sigma)
    assert gradient.isfinite().all()


def test_whole_timesteps_are_a_consistent_pair_or_refused():
    path, seen = vp(), []

    def network(x_t, t):
        seen.append(t)
        return x_t

    model = NetworkDenoiser(network, (1, 2, 2), path, "sample")
    model.integer_time = True
    sigmas = model.snap(np.geomspace(100, 0.02, 20))
    model(states(20).float(), torch.from_numpy(sigmas))
    assert seen[0].dtype == torch.int64
    np.testing.assert_array_equal(path.sigma(seen[0].numpy().astype(float)), sigmas)
    with pytest.raises(SigmaTuneError, match=r"whole timesteps only and sigma 1\.2345"):
        model(states(1).float(), 1.2345)
    assert len(seen) == 1


def test_a_plain_function_sees_the_variance_exploding_state():
    exact, seen = mixture(), []

    def function(x, sigma):
        seen.append((x.dtype, sigma.dtype, tuple(sigma.shape)))
        return exact.denoise(x / torch.hypot(torch.ones_like(sigma), sigma).view(-1, 1, 1, 1), sigma)

    model = from_callable(function, (1, 2, 2), dtype=torch.float64)
    sigma = torch.from_numpy(levels(model.path))
    z = states(len(sigma))
    torch.testing.assert_close(model(z, sigma), exact(z, sigma), rtol=1e-12, atol=1e-12)
    assert seen == [(torch.float64, torch.float64, (33,))]
    with pytest.raises(SigmaTuneError, match="outside"):
        model(z[:1], 81.0)


def test_a_plain_function_that_is_no_denoiser_is_refused():
    with pytest.raises(SigmaTuneError, match="shaped like x"):
        from_callable(lambda x, sigma: x[:, :1, :1], (1, 2, 2))(states(2).float(), 1.0)
    with pytest.raises(SigmaTuneError, match="shaped like x"):
        from_callable(lambda x, sigma: None, (1, 2, 2))(states(2).float(), 1.0)
    for shape in ((), (3, 0), (3.5, 2), "ab"):
        with pytest.raises(SigmaTuneError, match="shape of one sample"):
            from_callable(lambda x, sigma: x, shape)
    with pytest.raises(SigmaTuneError, match="sigma_min < sigma_max"):
        from_callable(lambda x, sigma: x, (1, 2, 2), 3.0, 2.0)


def test_fingerprints_tell_networks_apart_and_stay():
    def made(weight, kind="sample", path=PATHS["vp"]):
        network = torch.nn.Linear(2, 2, bias=False)
        torch.nn.init.constant_(network.weight, weight)
        return NetworkDenoiser(network, (1, 2, 2), path, kind).fingerprint()

    different = [made(1.0), made(1.0 + 1e-7), made(1.0, "epsilon"), made(1.0, path=PATHS["vp-cosine"])]
    assert len(set(different)) == 4
    assert made(1.0) == different[0]
    function = NetworkDenoiser(len, (1, 2, 2), PATHS["vp"], "sample").fingerprint()
    assert function == NetworkDenoiser(len, (1, 2, 2), PATHS["vp"], "sample").fingerprint()
    assert (
        from_callable(divmod, (1, 2, 2), name="a").fingerprint()
        != from_callable(divmod, (1, 2, 2), name="b").fingerprint()
    )
