"""The process of phase space: closed forms against numerical integration, inverses, parametrisations."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from scipy.integrate import quad_vec
from scipy.linalg import expm

from sigmatune import noise as paths
from sigmatune.processes import PSLD, PhasePath, eps_of, perturb, score_of, x0_of
from sigmatune.processes.psld import R, cholesky, flow, noise
from sigmatune.support.errors import SigmaTuneError

CLD = PSLD(gamma=0.0, nu=4.0)
PROCESSES = [PSLD(), CLD, PSLD(gamma=3.0, nu=0.5, beta_start=0.1, beta_end=20.0), PSLD(gamma=0.02, nu=4.02, T=2.0)]
TIMES = torch.tensor([1e-5, 1e-3, 0.1, 0.5, 1.0], dtype=torch.float64)


def drift_and_noise(p: PSLD) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[-p.gamma, 1 / p.mass], [-1.0, -p.nu]]), 2 * np.diag([p.gamma, p.mass * p.nu])


@pytest.mark.parametrize("p", PROCESSES, ids=str)
def test_mean_and_covariance_are_the_integrals_of_the_sde(p):
    F, Q = drift_and_noise(p)
    for t in TIMES:
        tau = quad_vec(lambda u: (p.beta_start + (p.beta_end - p.beta_start) * u / p.T) / 2, 0, float(t))[0]
        fresh, _ = quad_vec(lambda u: expm(F * u) @ Q @ expm(F * u).T, 0, tau, epsrel=1e-13, epsabs=0)
        E = expm(F * tau)
        np.testing.assert_allclose(p.tau(t), tau, rtol=1e-12)
        np.testing.assert_allclose(p.time_of_tau(p.tau(t)), t, rtol=1e-12)
        np.testing.assert_allclose(p.transition(t), E, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(p.mean(t), E[:, 0], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(p.covariance(t, "dsm"), fresh, rtol=1e-8)
        hsm = fresh + E @ np.diag([0, p.kappa * p.mass]) @ E.T
        np.testing.assert_allclose(p.covariance(t), hsm, rtol=1e-8)


@pytest.mark.parametrize("p", PROCESSES, ids=str)
def test_the_determinant_and_the_information_hold_near_zero(p):
    """Against 60 digits: what the covariance loses in float64, the determinant lemma keeps."""
    mpmath.mp.dps = 60
    F = mpmath.matrix(drift_and_noise(p)[0].tolist())
    for t in (1e-5, 1e-3, 0.3):
        tau = mpmath.mpf(float(p.tau(torch.tensor(t, dtype=torch.float64))))
        E = mpmath.expm(F * tau)
        S = mpmath.diag([1, mpmath.mpf(p.mass)])  # stationary; M is 1 / delta^2 in float64, as in Q
        first = mpmath.diag([0, mpmath.mpf(p.kappa) * p.mass])
        cov = S - E * (S - first) * E.T
        det = cov[0, 0] * cov[1, 1] - cov[0, 1] ** 2
        a = E[:, 0]
        g = (a.T * mpmath.inverse(cov) * a)[0, 0]
        at = torch.tensor(t, dtype=torch.float64)
        assert float(p.law(at).determinant) == pytest.approx(float(det), rel=1e-9)
        assert float(p.sigma(at)) == pytest.approx(float(1 / mpmath.sqrt(g)), rel=1e-9)


def test_the_known_noise_levels_of_the_papers_process():
    """MATH: .009 at t = .001, .42 at .1, 8.6 at .5, 258 at 1."""
    found = PSLD().sigma(torch.tensor([0.001, 0.1, 0.5, 1.0], dtype=torch.float64))
    np.testing.assert_allclose(found, [0.009, 0.42, 8.6, 258], rtol=0.01)


def test_the_prior_is_stationary():
    for p in PROCESSES:
        F, Q = drift_and_noise(p)
        S = p.prior().numpy()
        np.testing.assert_allclose(F @ S + S @ F.T + Q, 0, atol=1e-12)


@given(some.floats(-30, 30))
def test_r_is_the_remainder_of_the_exponential(w):
    mpmath.mp.dps = 120
    true = 1 - mpmath.exp(-mpmath.mpf(w)) * (1 + mpmath.mpf(w) + mpmath.mpf(w) ** 2 / 2)
    assert float(R(torch.tensor(w, dtype=torch.float64))) == pytest.approx(float(true), rel=1e-11, abs=1e-60)


@pytest.mark.parametrize("p", PROCESSES, ids=str)
def test_sigma_eff_rises_and_time_inverts_it(p):
    t = torch.logspace(-5, 0, 60, dtype=torch.float64) * p.T
    sigma = p.sigma(t)
    assert bool((sigma.diff() > 0).all())
    torch.testing.assert_close(p.time(sigma), t, rtol=1e-9, atol=0)
    torch.testing.assert_close(p.sigma(p.time(sigma)), sigma, rtol=1e-9, atol=0)
    x = sigma[10::20].clone().requires_grad_()
    assert torch.autograd.gradcheck(p.time, (x,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("upper", [False, True])
def test_the_cholesky_root_squares_to_the_matrix_also_when_it_is_singular(upper):
    matrices = torch.tensor([[[2.0, 0.3], [0.3, 0.5]], [[0.0, 0.0], [0.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]]).double()
    L = cholesky(matrices, upper=upper)
    torch.testing.assert_close(L @ L.mT, matrices)
    assert bool((L.tril(-1) == 0).all() if upper else (L.triu(1) == 0).all())


def test_flow_and_noise_compose():
    """Twice a stretch of the clock is the stretch of twice the length."""
    p = PSLD()
    one, two = torch.tensor(0.4, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    E = flow(p, one)
    torch.testing.assert_close(E @ E, flow(p, two))
    torch.testing.assert_close(E @ noise(p, one) @ E.mT + noise(p, one), noise(p, two))


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("matching", ["hsm", "dsm"])
def test_what_a_network_predicts_is_the_score_of_the_noised_data(matching, upper):
    """eps of the perturbation is minus L' times the score of u given what is known; x0 follows from the marginal score."""
    p, t = PSLD(), torch.tensor([0.05, 0.4], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x0, m0 = (torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    m0 = m0 * (p.kappa * p.mass) ** 0.5 if matching == "dsm" else None
    eps = torch.randn(2, 6, 4, 4, generator=generator, dtype=torch.float64)
    u = perturb(p, x0, t, eps, m0=m0, upper=upper)
    known = torch.cat([x0, torch.zeros_like(x0) if m0 is None else m0], dim=1)
    E, precision = p.transition(t), torch.linalg.inv(p.covariance(t, matching))
    away = u - torch.einsum("bij,bjk->bik", E, known.view(2, 2, -1)).reshape(u.shape)
    score = -torch.einsum("bij,bjk->bik", precision, away.view(2, 2, -1)).reshape(u.shape)
    torch.testing.assert_close(score_of(p, eps, t, matching=matching, upper=upper), score)
    torch.testing.assert_close(eps_of(p, score, t, matching=matching, upper=upper), eps)
    if matching == "hsm":  # one datum only: the marginal score is the conditional one, and D is that datum
        torch.testing.assert_close(x0_of(p, u, score, t), x0, rtol=1e-6, atol=1e-6)


def test_the_path_of_a_native_network_is_read_back():
    path = PhasePath(PSLD(gamma=0.02, nu=4.02), eps=1e-4)
    again = paths.from_spec(path.spec())
    assert again == path
    sigma = np.geomspace(path.sigma_min, path.sigma_max, 9)
    np.testing.assert_allclose(path.sigma(path.time(sigma)), sigma, rtol=1e-9)
    np.testing.assert_allclose(path.at_position(path.position(sigma)), sigma, rtol=1e-7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gamma": 0.0, "nu": 0.0}, "differ"),
        ({"gamma": 1.0, "nu": 1.0}, "differ"),
        ({"gamma": -0.1}, "at least 0"),
        ({"kappa": 0.0}, "kappa must be positive"),
        ({"beta_start": -1.0}, "beta_start must be positive"),
        ({"nu": float("nan")}, "finite"),
    ],
)
def test_refusals(options, said):
    with pytest.raises(SigmaTuneError, match=said):
        PSLD(**options)


def test_more_refusals():
    with pytest.raises(SigmaTuneError, match="eps must lie between 0 and T"):
        PhasePath(PSLD(), eps=1.0)
    with pytest.raises(SigmaTuneError, match="lies beyond this process's last"):
        PSLD().time(torch.tensor([500.0], dtype=torch.float64))
    with pytest.raises(SigmaTuneError, match="cannot be read"):
        PSLD.from_spec({"mu": 1.0})
    with pytest.raises(SigmaTuneError, match="does not fit"):
        perturb(PSLD(), torch.zeros(1, 3, 2, 2), torch.tensor([0.1]).double(), torch.zeros(1, 3, 2, 2))
