"""Laws of every solver in the registry; a new solver is covered the moment it is registered."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch

from exact import PATHS, gaussian, unit
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.loop import run
from sigmatune.core.schedule import Schedule
from sigmatune.core.wrappers import Counted, Observed
from sigmatune.plan import compile_plan, sample
from sigmatune.schedules import FAMILIES, build
from sigmatune.solvers import POSITION, SOLVERS, Solver
from sigmatune.solvers.adams import adams
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.closed_form import gain, variance

ALL = list(POSITION)
DETERMINISTIC = [name for name, solver in POSITION.items() if solver.deterministic()]
STOCHASTIC = [name for name in ALL if name not in DETERMINISTIC]
STEPS = np.array([32, 48, 64, 96, 128])
FINE = np.array([256, 512, 1024])
"""Where errors of a variance have reached their order: with noise, terms of different signs cancel on coarser grids."""
HIGH, LOW = 2.0, 0.2


def grid(solver: Solver, n: int, before: int = 0) -> torch.Tensor:
    """Levels from HIGH to LOW, even in what the solver's order is declared for, with some earlier ones before."""
    i = np.arange(-before, n + 1) / n
    levels = HIGH + (end(solver) - HIGH) * i if solver.grid == "sigma" else HIGH * (LOW / HIGH) ** i
    return torch.from_numpy(levels)


def end(solver: Solver) -> float:
    """Where the grid ends; even steps in sigma are too coarse for small ones."""
    return 1.0 if solver.grid == "sigma" else LOW


def slope(name: str, *, warm: bool, build=None) -> float:
    """Regresses log error on log step on levels that end above 0, against the exact solution."""
    solver, model = SOLVERS[name], gaussian()
    z = unit(model, HIGH)
    errors = []
    for n in STEPS:
        before = solver.history if warm else 0
        levels = grid(solver, n, before)
        state = [z, *(torch.zeros_like(z) for _ in range(solver.width - 1))]
        for i, level in enumerate(reversed(levels[:before].tolist())):
            then = model.flow(z, HIGH, level)
            D, s = model(then, level), level / (1 + level**2) ** 0.5
            state[1 + i] = D if solver.remembers == "data" else (then - D * s / level) / s
        coefficients = (build or solver.build)(levels[before:], previous=levels[:before])
        out = run(coefficients, model, indices=range(len(z)), state=[s.clone() for s in state])
        errors.append((out - model.flow(z, HIGH, end(solver))).square().mean().sqrt().item())
    assert errors[0] < 0.1
    return -float(np.polyfit(np.log(STEPS), np.log(errors), 1)[0])


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_with_exact_starting_history(name):
    assert slope(name, warm=True) == pytest.approx(SOLVERS[name].order, abs=0.15), SOLVERS[name]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_from_a_cold_start(name):
    assert slope(name, warm=False) == pytest.approx(SOLVERS[name].cold_order, abs=0.15), SOLVERS[name]


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize("amount", [0.5, 1.0])
def test_weak_order_from_the_exact_covariance(name, amount):
    """The variance of every mode at the end, in closed form, against that of the noisy data; order 0 never improves."""
    solver = SOLVERS[name]
    P = torch.logspace(-2, 1, 7, dtype=torch.float64)
    true = (LOW**2 + P) / (1 + LOW**2)
    errors = []
    for n in FINE:
        table = solver.build(grid(solver, n), **{solver.noise: amount})
        # Start from the noisy data's own variance instead of pure noise.
        start = ((HIGH**2 + P) / (1 + HIGH**2)).sqrt()
        scale = start / table.start[0, 0]
        noise = variance(table, P) - gain(table, P)[:, 0] ** 2
        errors.append(float(((gain(table, P)[:, 0] * scale) ** 2 + noise - true).abs().mean()))
    found = -float(np.polyfit(np.log(FINE), np.log(errors), 1)[0])
    assert found == pytest.approx(solver.order, abs=0.2 if solver.order else 0.3), solver
    assert solver.order == solver.cold_order


@pytest.mark.parametrize("name", ALL)
def test_noise_is_added_if_and_only_if_it_is_declared(name):
    solver = SOLVERS[name]
    sigmas = torch.tensor([3.0, 1.0, 0.3, 0.0], dtype=torch.float64)
    for options in ({}, {solver.noise: 0.0}) if solver.noise else ({},):
        assert solver.build(sigmas, **options).deterministic == solver.deterministic(**options)
    with pytest.raises(SigmaTuneError, match=r"there is no .* option .etta."):
        solver.options({"etta": 1.0})


class FloatTime(Denoiser):
    """A network that embeds t in float32, as real ones do, and keeps what it received."""

    shape = (1, 1, 1)
    dtype = torch.float32

    def __init__(self, path):
        self.path, self.levels = path, []

    def denoise(self, z, sigma):
        self.levels.append(sigma.numpy().copy())
        return 0.5 * z

    def received(self):
        """The pairs (t, sigma) of all calls since the last time, (rows, calls) each; t is a function of sigma alone."""
        sigma = np.stack(self.levels, axis=1)
        self.levels.clear()
        return self.path.time(sigma).astype(np.float32).astype(np.float64), sigma

    def fingerprint(self):
        return "float-time"


OF_VP = [name for name, family in FAMILIES.items() if family.defined_on(PATHS["vp"])]


def numbers_of_steps(name: str) -> list[int]:
    """N = 1..6, and every 32nd up to 100, others for every solver."""
    return [N for N in range(1, 101) if N <= 6 or (N - ALL.index(name)) % 32 == 0]


@cache
def one_row_each(steps: int) -> Schedule:
    """The schedules of all families, one per row."""
    return Schedule(np.stack([build(family, steps, PATHS["vp"]).sigmas for family in OF_VP]))


def own_levels(solver: Solver, q: list[float], levels: list[float]) -> list[float]:
    """The levels asked at, each once; those inside a step are left out, and must lie inside it."""
    if not solver.between:
        return list(dict.fromkeys(q))
    several = solver.calls(2) - solver.calls(1)
    for k, level in enumerate(q):
        assert levels[k // several] >= level >= levels[k // several + 1]
    return q[::several]


@pytest.mark.parametrize("name", ALL)
def test_every_plan_asks_at_its_own_levels_and_nowhere_else(name):
    """N up to 100, every family: each level of the schedule in its order, as often as the solver says, or inside a step."""
    solver = SOLVERS[name]
    for steps in numbers_of_steps(name):
        sigmas = one_row_each(steps).sigmas
        table = solver.build(torch.from_numpy(sigmas.copy()))
        assert (table.calls, table.width) == (solver.calls(steps), solver.width)
        for family, levels, q in zip(OF_VP, sigmas.tolist(), table.q.tolist(), strict=True):
            assert len(q) == table.calls, family
            assert own_levels(solver, q, levels) == levels[:-1], family
        turn = steps % len(sigmas)  # a schedule that is shared by all rows is asked at the same levels
        assert solver.build(torch.from_numpy(sigmas[turn].copy())).q.tolist() == table.q[turn].tolist()


@pytest.mark.parametrize("name", ALL)
def test_the_network_receives_exactly_the_plans_pairs(name):
    """N up to 100, a family per row: the (t, sigma) of every call is the plan's, nothing twice, extra or lost."""
    network, rows = FloatTime(PATHS["vp"]), len(OF_VP)
    for steps in numbers_of_steps(name):
        plan = compile_plan(one_row_each(steps), name, network)
        assert sample(network, plan, rows, micro_batch=rows).isfinite().all()
        t, sigma = network.received()
        q = plan.coefficients.q.numpy()
        assert sigma.shape == q.shape == (rows, SOLVERS[name].calls(steps)) == (rows, plan.calls)
        np.testing.assert_array_equal(sigma, q)
        np.testing.assert_allclose(t, network.path.time(q), rtol=1e-6, atol=1e-30)
        # t near 0 holds sigma's last digits in absolute, not relative, float32 precision.
        np.testing.assert_allclose(network.path.sigma(t), sigma, rtol=2e-5)


@pytest.mark.parametrize("name", ALL)
def test_calls_and_levels_on_every_path(name):
    for path, steps in itertools.product(PATHS.values(), (1, 2, 3, 10)):
        network = FloatTime(path)
        plan = compile_plan(build("kl-optimal", steps, network.path), name, network)
        counted = Counted(network)
        assert sample(counted, plan, 1, micro_batch=1).isfinite().all()
        (t,), (sigma,) = network.received()
        np.testing.assert_array_equal(sigma, plan.coefficients.q.numpy())
        np.testing.assert_allclose(t, network.path.time(sigma), rtol=1e-6)
        assert len(sigma) == counted.calls == SOLVERS[name].calls(steps)


@pytest.mark.parametrize(
    ("path", "name"),
    [(path, name) for i, name in enumerate(DETERMINISTIC) for path in (("vp", "flow"), ("ve", "vp-zero-snr"))[i % 2]],
)
def test_converges_to_the_exact_solution_from_the_models_own_start(name, path):
    """sigma_max, finite or not, to sigma_min, one denoise: the error falls with N down to almost nothing."""
    model = gaussian(PATHS[path])
    first, last = model.path.sigma_max, model.path.sigma_min
    errors = []
    for steps in (40, 160):
        schedule = build("kl-optimal", steps, model.path)
        plan = compile_plan(schedule, name, model)
        starts: list[torch.Tensor] = []
        out = sample(Observed(model, lambda z, sigma, x0, starts=starts: starts.append(z)), plan, 4)
        exact = model(model.flow(starts[0][:4], first, last), last)
        errors.append((out - exact).square().mean().sqrt().item())
    # Four times as many steps: a fourth of the error, or nearly a sixteenth.
    assert errors[1] < errors[0] / (3.3 if SOLVERS[name].order == 1 else 10)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_constant_denoiser_is_solved_exactly(name):
    """If D is constant the ODE is a straight line in sigma, and one step of any solver is exact."""
    model = gaussian(size=2)
    target = torch.full((1, 1, 2, 2), 0.7, dtype=torch.float64)
    model.denoise = lambda z, sigma: target.expand_as(z)  # type: ignore[method-assign]
    sigmas = torch.tensor([3.0, 1.0, 0.4], dtype=torch.float64)
    x = torch.tensor([[[[2.0, -1.0], [0.5, 4.0]]]], dtype=torch.float64)
    solver = SOLVERS[name]
    state = [x / (1 + 9.0) ** 0.5, *(torch.zeros_like(x) for _ in range(solver.width - 1))]
    out = run(solver.build(sigmas), model, indices=[0], state=state) * (1 + 0.4**2) ** 0.5
    torch.testing.assert_close(out, target + (x - target) * 0.4 / 3.0, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_one_step_is_one_denoise_of_pure_noise(name):
    model = gaussian(PATHS["flow"])
    plan = compile_plan(Schedule([np.inf, 0.0]), name, model)
    assert plan.calls == 1
    torch.testing.assert_close(sample(model, plan, 2), torch.zeros(2, 1, 8, 8, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "amount"),
    [(name, amount) for name, solver in SOLVERS.items() for amount in ([0.37, 1.0] if solver.noise else [1.0])],
)
def test_a_row_of_a_table_depends_on_its_own_levels_alone(name, amount):
    solver = SOLVERS[name]
    options = {solver.noise: amount} if solver.noise else {}
    options |= {"tau": amount} if name == "sa-solver" else {}
    drawn = torch.rand(21, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sigmas = ((drawn * 5 - 3).exp()).sort(dim=-1, descending=True).values
    for levels in (sigmas, torch.cat([sigmas, torch.zeros(21, 1, dtype=torch.float64)], dim=-1)):
        many = solver.build(levels, **options)
        for i in range(0, len(levels), 5):  # bodies and tails of vectors
            alone = solver.build(levels[i : i + 1].clone(), **options)
            for field in ("q", "A", "b", "c", "G", "start", "origin"):
                whole, own = getattr(many, field), getattr(alone, field)
                assert torch.equal(whole[i], own[0]), (field, i)


@pytest.mark.parametrize("rows", [None, 5])
def test_the_network_gets_contiguous_numbers_however_the_batch_is_filled(rows):
    class Asked(Denoiser):
        path, shape, dtype = PATHS["ve"], (3, 4, 4), torch.float64

        def fingerprint(self) -> str:
            return "asked"

        def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            seen.extend([z.is_contiguous(), sigma.is_contiguous()])
            return z / 2

    model, seen = Asked(), []
    schedule = build("karras", 4, model.path)
    if rows:
        schedule = Schedule(np.tile(schedule.sigmas, (rows, 1)), model.path)
    plan = compile_plan(schedule, "dpmpp2m", model)
    last = torch.zeros(5, 4, 4, 3, dtype=torch.float64).permute(0, 3, 1, 2)
    sample(model, plan, 5, micro_batch=8)
    sample(model, plan, 5, micro_batch=5, x0=last)
    model(last, torch.rand(5, 7, dtype=torch.float64)[:, 2])
    assert len(seen) == 2 * (4 + 4 + 1)
    assert all(seen)


@pytest.mark.parametrize("name", ALL)
def test_the_table_is_differentiable_in_the_levels(name):
    def result(log_sigma: torch.Tensor) -> torch.Tensor:
        sigmas = torch.cat([log_sigma.exp(), torch.zeros(1, dtype=torch.float64)])
        return run(SOLVERS[name].build(sigmas), model, seed=3, indices=[0, 1])

    model = gaussian(size=2)
    log_sigma = torch.log(torch.tensor([20.0, 3.0, 0.5, 0.1], dtype=torch.float64)).requires_grad_()
    # The denoiser's own dependence on its level is cut; the finite difference must cut it too.
    frozen = torch.tensor([20.0, 3.0, 0.5, 0.1], dtype=torch.float64)
    levels = SOLVERS[name].build(torch.cat([frozen, frozen.new_zeros(1)])).q.tolist()
    calls = iter([])

    def denoise(z, sigma):
        nonlocal calls
        level = next(calls)
        return z * (1 + level**2) ** 0.5 * 0.25 / (0.25 + level**2)

    model.denoise = denoise  # type: ignore[method-assign]

    def value(x):
        nonlocal calls
        calls = iter(levels)
        return result(x).square().sum()

    assert torch.autograd.gradcheck(value, (log_sigma,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_steps_for_is_the_largest_number_that_fits(name):
    solver = SOLVERS[name]
    for calls in range(solver.calls(1), 40):
        steps = solver.steps_for(calls)
        assert solver.calls(steps) <= calls < solver.calls(steps + 1)
    with pytest.raises(SigmaTuneError, match="at least"):
        solver.steps_for(solver.calls(1) - 1)


def test_consistency_sampling_is_exact_for_a_consistency_model():
    """Its output is the end of the trajectory; then fresh noise makes the data's variance exact with any levels."""
    P = torch.logspace(-2, 1, 7, dtype=torch.float64)
    sigmas = torch.tensor([1e9, 3.0, 0.4, 0.0], dtype=torch.float64)
    table = SOLVERS["lcm"].build(sigmas)
    v = table.start[0, 0] ** 2 * torch.ones_like(P)
    for k, level in enumerate(sigmas[:-1]):
        d = (P / (P + level**2) * (1 + level**2)).sqrt()  # of the unit state
        v = (table.A[k, 0, 0] + table.b[k, 0] * d) ** 2 * v + (table.G[k, 0] ** 2).sum()
    torch.testing.assert_close(v, P, rtol=1e-6, atol=0)


def test_one_step_solvers_refuse_a_history():
    with pytest.raises(SigmaTuneError, match="no starting history"):
        SOLVERS["heun"].build(torch.tensor([1.0, 0.5]), previous=torch.tensor([2.0]))
    with pytest.raises(SigmaTuneError, match="uses 1 earlier outputs"):
        SOLVERS["dpmpp2m"].build(torch.tensor([1.0, 0.5]), previous=torch.tensor([3.0, 2.0]))


def test_unknown_solver_names_the_nearest():
    with pytest.raises(SigmaTuneError, match=r"no solver 'dpmp2m'; did you mean 'dpmpp2m'"):
        compile_plan(Schedule([1.0, 0.0]), "dpmp2m")


@pytest.mark.parametrize("h", [1e-3, 0.1, 2.0, 12.0])
def test_adams_weights_are_the_closed_form_integrals(h):
    """The line through two outputs: moments of the exponential kernel by hand."""
    g = torch.tensor([[0.7]], dtype=torch.float64)
    for of in ("data", "noise"):
        weights = adams(torch.tensor([h], dtype=torch.float64), g, of)[0]
        phi = -np.expm1(-h)
        mean_u = h / phi - 1 if of == "data" else 1 - h * np.exp(-h) / phi  # of u under the kernel
        np.testing.assert_allclose(weights.numpy(), [1 + 0.7 * mean_u, -0.7 * mean_u], rtol=1e-9)
