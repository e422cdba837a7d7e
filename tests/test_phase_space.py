"""Samplers of phase space: lifting, closed forms, convergence, laws of every sampler in the registry."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.integrate import quad_vec

from exact import gaussian, power_law
from sigmatune.core.loop import run
from sigmatune.core.schedule import Schedule
from sigmatune.core.wrappers import Counted
from sigmatune.models.analytic import GaussianMixture
from sigmatune.models.psld_network import PhaseSpaceNetwork, PSLDScheduler
from sigmatune.noise import VE, Narrowed
from sigmatune.phase_space import lift, prior_mismatch
from sigmatune.phase_space.compose import Grid, Native
from sigmatune.phase_space.conjugate import conjugate
from sigmatune.plan import compile_plan, load_plan, sample
from sigmatune.processes import PSLD, eps_of, x0_of
from sigmatune.processes.parametrisation import mixed
from sigmatune.schedules import build
from sigmatune.solvers import PHASE_SPACE, SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.closed_form import errors, transfer, variance

ALL = [*PHASE_SPACE, "reduced-babo", "naive-abo"]
STOCHASTIC = [name for name in ALL if not SOLVERS[name].deterministic()]
DETERMINISTIC = [name for name in ALL if name not in STOCHASTIC]
P = torch.logspace(-2, 1, 7, dtype=torch.float64)
PROCESS = PSLD()


def levels(steps: int, power: float = 2.0, first: float = 0.9, ends: bool = True) -> torch.Tensor:
    """A grid of N levels that is even in a power of time, and the final 0."""
    t = 1e-3 + (first - 1e-3) * torch.linspace(1, 0, steps, dtype=torch.float64) ** power
    sigma = PROCESS.sigma(t)
    return torch.cat([sigma, sigma.new_zeros(1)]) if ends else sigma


def error(name: str, calls: int, power: float = 2.0, **options) -> float:
    """Mean squared Wasserstein error over the modes at most so many calls."""
    solver = SOLVERS[name]
    return float(errors(solver.build(levels(solver.steps_for(calls), power), **options), P).mean())


# ------------------------------------------------------------------------------------------------------------ lifting


@pytest.mark.parametrize("p", [PROCESS, PSLD(gamma=0.0, nu=4.0), PSLD(gamma=0.02, nu=4.02, beta_start=1.0)], ids=str)
def test_the_lifted_score_is_the_score_of_phase_space(p):
    """A Gaussian mixture with full covariances: autograd through the log density of (x, m), over t."""
    generator = torch.Generator().manual_seed(0)
    d, weights = 3, torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.randn(2, d, generator=generator, dtype=torch.float64)
    roots = torch.randn(2, d, d, generator=generator, dtype=torch.float64)
    covariances = roots @ roots.mT * 0.3
    model = GaussianMixture(weights, means.view(2, 1, 1, d), covariances, Narrowed(VE(1e-5, 500.0), 1e-5, 400.0))
    score, one = lift(model, p), torch.eye(d, dtype=torch.float64)
    for t in (1e-3, 0.05, 0.3, 0.7, 1.0):
        at = torch.tensor([t], dtype=torch.float64)
        a, cov = p.mean(at)[0], p.covariance(at)[0]
        u = torch.randn(1, 2 * d, generator=generator, dtype=torch.float64).requires_grad_()
        parts = torch.distributions.MultivariateNormal(
            torch.stack([torch.kron(a, mu) for mu in means]),
            torch.stack([torch.kron(cov, one) + torch.kron(torch.outer(a, a), C) for C in covariances]),
        )
        density = torch.logsumexp(torch.log(weights) + parts.log_prob(u), dim=-1)
        (true,) = torch.autograd.grad(density.sum(), u)
        found = score(u.detach().view(1, 2, 1, d), at).reshape(1, 2 * d)
        torch.testing.assert_close(found, true, rtol=1e-6, atol=1e-6)


def test_the_lifted_gaussian_has_the_gaussian_score():
    model, t = gaussian(VE(1e-4, 500.0), size=4), torch.tensor([0.02, 0.4], dtype=torch.float64)
    u = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    power = torch.from_numpy(power_law(4))
    modes = torch.fft.fft2(u, norm="ortho")
    a, cov = PROCESS.mean(t), PROCESS.covariance(t)
    full = cov[:, None, None] + power[..., None, None] * (a[:, :, None] * a[:, None, :])[:, None, None]
    true = -torch.linalg.solve(full.to(modes.dtype), modes.movedim(1, -1)[..., None])[..., 0].movedim(-1, 1)
    torch.testing.assert_close(lift(model)(u, t), torch.fft.ifft2(true, norm="ortho").real, rtol=1e-6, atol=1e-6)


def test_a_score_outside_the_models_range_is_refused():
    model = gaussian(VE(0.01, 80.0))
    score = lift(model)
    first, last = score.times
    assert PROCESS.sigma(torch.tensor([first, last]).double()).tolist() == pytest.approx([0.01, 80.0])
    with pytest.raises(SigmaTuneError, match="outside the model's range"):
        score(torch.zeros(1, 2, 8, 8, dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64))


@pytest.mark.parametrize("start", ["noise", "prior"])
def test_the_mismatch_of_the_start_is_a_divergence_of_gaussians(start):
    t = torch.tensor(0.6, dtype=torch.float64)
    a, cov = PROCESS.mean(t), PROCESS.covariance(t)
    assumed = torch.distributions.MultivariateNormal(
        torch.zeros(2).double(), cov if start == "noise" else PROCESS.prior()
    )
    total = 0.0
    for power in P:
        true = torch.distributions.MultivariateNormal(torch.zeros(2).double(), cov + power * torch.outer(a, a))
        total += float(torch.distributions.kl_divergence(true, assumed))
    assert prior_mismatch(PROCESS, 0.6, P, start=start) == pytest.approx(total, rel=1e-6)


# --------------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("name", ALL)
def test_calls_levels_and_width_are_what_the_solver_declares(name):
    """N = 1..60 on a family of the registry: every level in its order, as often as the solver says, one last call."""
    solver, path = SOLVERS[name], Narrowed(VE(), 0.01, 80.0)
    for steps in (1, 2, 3, 10, 60):
        schedule = build("karras", steps, path)
        table = solver.build(torch.from_numpy(schedule.sigmas.copy()))
        q = table.q.tolist()
        assert len(q) == table.calls == solver.calls(steps)
        assert set(q) == set(schedule.sigmas[:-1].tolist())
        assert q == sorted(q, reverse=True)
        assert (table.width, table.double) == (solver.width, True)
        assert table.deterministic == solver.deterministic() or steps <= 2
    for calls in range(1, 30):
        steps = solver.steps_for(calls)
        assert solver.calls(steps) <= calls < solver.calls(steps + 1)


@pytest.mark.parametrize("name", ALL)
def test_weak_order_from_the_exact_covariance(name):
    """Variance of (x, m) seen as the unit state, from the exact law of the noisy data, on levels that end above 0."""
    solver, first, counts = SOLVERS[name], 0.5, np.array([48, 96, 192])
    t0, t1 = torch.tensor(first, dtype=torch.float64), torch.tensor(0.05, dtype=torch.float64)
    low = PROCESS.sigma(t1)
    true = (low**2 + P) / (1 + low**2)
    found = []
    for n in counts:
        t = t1 + (t0 - t1) * torch.linspace(1, 0, n + 1, dtype=torch.float64)
        sigma = PROCESS.sigma(t)
        table = solver.build(sigma)
        own = [variance(table, power[None]) + moved(table, power) for power in P]
        found.append(float((torch.cat(own) - true).abs().mean()))
    slope = -float(np.polyfit(np.log(counts), np.log(found), 1)[0])
    assert slope == pytest.approx(solver.order, abs=0.2), solver


def moved(table, power: torch.Tensor) -> torch.Tensor:
    """The share of the result's variance that comes from the data in the start, which `variance` leaves out."""
    state = table.origin
    for M in transfer(table, power[None])[:, 0]:
        state = M @ state
    return (table.c[-1] @ state).square()[None] * power


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("name", ALL)
def test_converges_to_the_data_as_calls_grow(name, power):
    few, many, most = (error(name, calls, power) for calls in (80, 240, 720))
    assert most < many < few
    assert most < 1e-3 * float(P.mean())


@pytest.mark.parametrize("name", ["naive-oba", "reduced-oba", "reduced-bao", "reduced-obab", "reduced-abo"])
@pytest.mark.parametrize("lambda_s", [0.0, 0.5, 3.0])
def test_the_consistent_form_converges_for_any_lambda(name, lambda_s):
    assert error(name, 1600, lambda_s=lambda_s) < 0.1 * error(name, 400, lambda_s=lambda_s)


@pytest.mark.parametrize("word", ["oba", "bao", "obab"])
@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("calls", [20, 50, 100, 200])
def test_reduced_beats_naive_at_equal_calls(word, power, calls):
    assert error(f"reduced-{word}", calls, power) < error(f"naive-{word}", calls, power)


@pytest.mark.parametrize("name", ALL)
def test_monte_carlo_agrees_with_the_closed_form(name):
    model = gaussian(Narrowed(VE(), 0.01, 80.0), size=4)
    plan = compile_plan(build("phase-time", 6, model.path), name, model)
    n = 4000
    x = sample(model, plan, n, seed=1, micro_batch=n)
    found = torch.fft.fft2(x, norm="ortho").abs().square().squeeze(1)
    expected = variance(plan.coefficients, torch.from_numpy(power_law(4)).reshape(-1)).reshape(4, 4)
    total = found.sum(dim=(1, 2))
    assert abs(float((total.mean() - expected.sum()) / (total.std() / n**0.5))) < 3
    assert float(((found.mean(dim=0) - expected) / (found.std(dim=0) / n**0.5)).abs().max()) < 4


def test_a_reduced_step_is_the_paper_s_written_out():
    """OBA by hand: O(h), one score, B, then A with the new momentum and the same score; then the last Euler step."""
    model, p = gaussian(Narrowed(VE(), 0.01, 80.0), size=2), PROCESS
    t = torch.tensor([0.3, 0.1], dtype=torch.float64)
    sigmas = torch.cat([p.sigma(t), torch.zeros(1, dtype=torch.float64)])
    table = SOLVERS["reduced-oba"].build(sigmas)
    S = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    score = lift(model, p)
    h, last = float(p.tau(t[0]) - p.tau(t[1])), float(p.tau(t[1]))

    def both(x, m, at):
        s = score(torch.cat([x, m])[None], at[None])[0]
        return s[0][None], s[1][None]

    x, m = S[0], S[1]
    s_x, s_m = both(x, m, t[0])
    m = m + h * (x + 2 * p.nu * m + 2 * p.mass * p.nu * s_m)
    x = x + h * (2 * p.gamma * x - m / p.mass + 2 * p.gamma * s_x)
    s_x, _ = both(x, m, t[1])
    x = x + last * (p.gamma * x - m / p.mass + 2 * p.gamma * s_x)
    out = run(table, model, indices=[0], state=[S[0][None], S[1][None]])
    torch.testing.assert_close(out[0], x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["reduced-bao", "phase-em", "reduced-oba", "sscs", "conjugate"])
def test_a_run_starts_from_the_law_of_pure_noise_and_its_first_input_is_the_first_noise(name):
    """Sigma(t0), moved on by what comes before the first score; the second noise is what only a momentum has."""
    sigmas = levels(5)
    table, t = SOLVERS[name].build(sigmas), PROCESS.time(sigmas[:2])
    law, h = PROCESS.law(t[0]).covariance, PROCESS.tau(t[0]) - PROCESS.tau(t[1])
    if name == "reduced-oba":
        fade = torch.exp(-h * torch.tensor([PROCESS.gamma, PROCESS.nu], dtype=torch.float64))
        law = fade[:, None] * law * fade + (1 - fade**2).diag() @ PROCESS.prior()
    if name != "sscs":  # whose exact half step is measured by its order
        torch.testing.assert_close(table.start @ table.start.mT, law, rtol=1e-9, atol=1e-15)
    first = table.c[0] @ table.start
    assert float(first[0]) > 0
    assert abs(float(first[1])) < 1e-12


def test_obab_asks_twice_and_the_second_time_at_the_end_of_the_step():
    sigmas = levels(3)
    q = SOLVERS["reduced-obab"].build(sigmas).q.tolist()
    a, b, c = sigmas[:-1].tolist()
    assert q == [a, b, b, c, c]
    assert SOLVERS["reduced-obab"].build(sigmas, conditioning="start").q.tolist() == [a, a, b, b, c]
    assert SOLVERS["naive-obab"].build(sigmas).q.tolist() == [a, a, b, b, b, c, c]


def test_a_conjugate_step_integrates_drift_and_noise_exactly():
    """With lambda = 0 the drift is the exact one, and eps enters with the integral that quadrature gives."""
    p = PSLD(beta_start=2.0, beta_end=12.0)
    sigmas = p.sigma(torch.tensor([0.5, 0.1], dtype=torch.float64))
    _, op = conjugate(Grid(p, sigmas))
    t, s = p.time(sigmas)
    torch.testing.assert_close(op.F[0], p.transition(s, t), rtol=1e-9, atol=1e-12)
    half_q = np.diag([p.gamma, p.mass * p.nu])

    def integrand(at):
        at = torch.tensor(at, dtype=torch.float64)
        rate = float(p.beta_start + (p.beta_end - p.beta_start) * at / p.T) / 2
        return (
            rate * p.transition(s, at).numpy() @ half_q @ np.linalg.inv(np.linalg.cholesky(p.covariance(at).numpy())).T
        )

    expected = quad_vec(integrand, float(s), float(t), epsrel=1e-10)[0] @ np.linalg.cholesky(p.covariance(t).numpy()).T
    np.testing.assert_allclose(op.B[0], expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("lam", [-1.0, 0.5, 2.0])
@pytest.mark.parametrize("matrix_b", ["identity", "ones"])
def test_every_lambda_of_the_conjugate_integrator_converges(lam, matrix_b):
    assert error("conjugate", 1600, lam=lam, matrix_b=matrix_b) < 0.1 * error(
        "conjugate", 400, lam=lam, matrix_b=matrix_b
    )


# -------------------------------------------------------------------------------------------------------- native


def native(model, p: PSLD, prediction: str) -> PhaseSpaceNetwork:
    """A network of phase space that is exact: eps of the lifted score."""
    matching, triangle = prediction.split("-")
    score = lift(model, p)

    def network(u, t):
        at = t.double() / 1000.0
        return eps_of(p, score(u, at), at, matching=matching, upper=triangle == "upper")

    return PhaseSpaceNetwork(network, model.shape, PSLDScheduler(p, prediction), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "prediction", "last"),
    [
        *(("reduced-obab", kind, last) for kind in get_args(Native)[1:] for last in ("euler", "denoise")),
        ("phase-em", "hsm-upper", "euler"), ("conjugate", "dsm-lower", "denoise"), ("sscs", "dsm-upper", "euler"),
    ],
)  # fmt: skip
def test_a_native_network_runs_the_same_samplers(name, prediction, last):
    """The exact network of phase space gives what the lifted denoiser gives, noise for noise."""
    p = PSLD(gamma=0.02, nu=4.02)
    model = gaussian(VE(1e-4, 300.0), size=4)
    network = native(model, p, prediction)
    schedule = build("karras", 5, Narrowed(network.path, network.path.sigma_min, 80.0))
    lifted = compile_plan(schedule, name, model, last=last, **p.spec())
    own = compile_plan(schedule, name, network, last=last)
    assert own.coefficients.ports == 2
    counted = Counted(network)
    found = sample(counted, own, 3, seed=4)
    torch.testing.assert_close(found, sample(model, lifted, 3, seed=4), rtol=1e-6, atol=1e-7)
    assert counted.calls == own.calls == SOLVERS[name].calls(5)
    torch.testing.assert_close(sample(network, own, 1, seed=4)[0], found[0], rtol=0, atol=0)


def test_a_native_network_refuses_plans_of_position_and_the_other_way_round(tmp_path):
    model = gaussian(VE(1e-4, 300.0), size=4)
    network = native(model, PROCESS, "hsm-lower")
    schedule = build("karras", 4, Narrowed(network.path, network.path.sigma_min, 80.0))
    with pytest.raises(SigmaTuneError, match="was trained in phase space"):
        compile_plan(schedule, "euler", network)
    plan = compile_plan(schedule, "reduced-oba", network)
    with pytest.raises(SigmaTuneError, match="make the plan for this model"):
        sample(model, plan, 1)
    plan.save(tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json")
    torch.testing.assert_close(sample(network, again, 2), sample(network, plan, 2), rtol=0, atol=0)


def test_x0_of_a_native_score_is_the_denoiser_s():
    model, p = gaussian(VE(1e-4, 300.0), size=4), PROCESS
    t = torch.tensor([0.2, 0.6], dtype=torch.float64)
    u = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y, sigma = mixed(p.law(t).estimator, u), p.sigma(t)
    D = model(y / torch.sqrt(1 + sigma**2)[:, None, None, None], sigma)
    torch.testing.assert_close(x0_of(p, u, lift(model, p)(u, t), t), D, rtol=1e-7, atol=1e-8)


# ------------------------------------------------------------------------------------------------------- rows, files


@pytest.mark.parametrize("name", ["reduced-oba", "phase-em", "reduced-obab"])
def test_a_picture_depends_on_seed_and_index_alone(name):
    model = gaussian(Narrowed(VE(), 0.01, 80.0), size=4)
    plan = compile_plan(build("phase-time", 6, model.path), name, model)
    all_rows = sample(model, plan, 9, seed=2, micro_batch=4)
    for n in (1, 7):
        assert torch.equal(sample(model, plan, n, seed=2, micro_batch=4), all_rows[:n])
    assert torch.equal(sample(model, plan, indices=[7], seed=2, micro_batch=4)[0], all_rows[7])
    assert not torch.equal(sample(model, plan, 1, seed=3, micro_batch=4), all_rows[:1])


@pytest.mark.parametrize("name", ["reduced-oba", "sscs", "conjugate", "reduced-babo"])
def test_plans_are_saved_and_read_back(name, tmp_path):
    model = gaussian(Narrowed(VE(), 0.01, 80.0), size=4)
    options = {"lambda_s": 0.5, "form": "consistent"} if name.startswith("reduced") else {}
    plan = compile_plan(build("phase-time", 5, model.path), name, model, **options, gamma=0.02, nu=4.02)
    plan.save(tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json")
    for array in ("q", "A", "b", "c", "start", "G"):
        assert torch.equal(getattr(again.coefficients, array), getattr(plan.coefficients, array)), array
    assert again.coefficients.double


def test_the_state_is_float64_and_the_network_gets_its_own_dtype():
    class Single(type(gaussian())):
        dtype = torch.float32

        def denoise(self, z, sigma):
            assert z.dtype == torch.float32
            return super().denoise(z.double(), sigma).float()

    path = Narrowed(VE(), 0.01, 80.0)
    single, double = Single(power_law(4), (1, 4, 4), path), gaussian(path, size=4)
    plan = compile_plan(build("phase-time", 30, path), "reduced-oba")
    x = sample(single, plan, 2)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), sample(double, plan, 2), rtol=2e-5, atol=2e-5)


def test_an_image_can_be_started_from():
    """x0 enters with a(t): from a late level the image stays near the image."""
    model = gaussian(Narrowed(VE(), 0.01, 80.0), size=4)
    x0 = model.draw(2)
    plan = compile_plan(build("phase-time", 30, Narrowed(model.path, 0.01, 0.05)), "reduced-oba", model)
    away = (sample(model, plan, 2, x0=x0) - x0).square().mean().sqrt()
    assert 0 < float(away) < 0.1


def test_rows_have_schedules_of_their_own():
    model = gaussian(Narrowed(VE(), 0.01, 80.0), size=4)
    grids = [build("karras", 5, model.path, rho=rho).sigmas for rho in (3.0, 7.0)]
    plan = compile_plan(Schedule(np.stack(grids)), "reduced-obab", model)
    both = sample(model, plan, 2, seed=1)
    for i, grid in enumerate(grids):
        alone = sample(model, compile_plan(Schedule(grid), "reduced-obab", model), indices=[i], seed=1)
        torch.testing.assert_close(both[i], alone[0], rtol=1e-9, atol=1e-12)


def test_tables_are_differentiable_in_the_levels():
    for name in ("reduced-oba", "sscs", "conjugate"):
        x = torch.log(torch.tensor([20.0, 3.0, 0.5, 0.1], dtype=torch.float64)).requires_grad_()

        def value(log_sigma, name=name):
            table = SOLVERS[name].build(torch.cat([log_sigma.exp(), log_sigma.new_zeros(1)]))
            return errors(table, P).sum()

        assert torch.autograd.gradcheck(value, (x,), eps=1e-6, atol=1e-5), name


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("reduced-oxa", {}, "string of O, A and B"),
        ("reduced-ob", {}, "at least one A and one B"),
        ("naive-", {}, "string of O, A and B"),
        ("conjugate-ba", {}, "were removed"),
        ("reduced-oba", {"lambda_s": -1.0}, "lambda_s must be"),
        ("reduced-oba", {"form": "mine"}, "form of lambda_s is 'consistent', not 'mine'"),
        ("reduced-obab", {"conditioning": "middle"}, "conditioning is"),
        ("reduced-oba", {"gamma": 0.0, "nu": 0.0}, "differ"),
        ("reduced-oba", {"kappa": 0.0}, "kappa must be positive"),
        ("reduced-oba", {"last": "none"}, "last is one of"),
        ("conjugate", {"matrix_b": "zeros"}, "matrix_b is"),
        ("reduced-oba", {"lambda": 1.0}, "no reduced-oba option"),
        ("reduced-oba", {"beta_start": 2.0, "beta_end": 2.0}, "lies beyond this process's last"),
    ],
)
def test_what_is_refused(name, options, said):
    with pytest.raises(SigmaTuneError, match=said):
        compile_plan(Schedule([80.0, 3.0, 0.1, 0.0]), name, **options)


def test_an_infinite_start_is_refused():
    with pytest.raises(SigmaTuneError, match="starts at a finite level"):
        compile_plan(Schedule([np.inf, 3.0, 0.0]), "reduced-oba")
    with pytest.raises(SigmaTuneError, match="one-step solver"):
        SOLVERS["sscs"].build(torch.tensor([1.0, 0.5]).double(), previous=torch.tensor([2.0]).double())
    with pytest.raises(SigmaTuneError, match="eps must lie below"):
        build("phase-time", 5, Narrowed(VE(), 0.01, 80.0), eps=1.0)
