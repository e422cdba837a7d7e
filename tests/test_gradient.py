"""The triangular form of plans, and tuning by gradient through them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from sigmatune.core.loop import run
from sigmatune.core.schedule import Schedule
from sigmatune.core.unrolled import rolled, unrolled
from sigmatune.core.wrappers import Counted
from sigmatune.models.analytic import GaussianMixture, GaussianSpectrum
from sigmatune.noise import VE, Flow, vp
from sigmatune.plan import Plan, compile_plan, load_plan, sample
from sigmatune.plan.reference import HIGHEST
from sigmatune.schedules import build
from sigmatune.solvers import POSITION, SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench
from sigmatune.tuning.gradient import DescentLimits, _Objective, tune_by_gradient
from sigmatune.tuning.parameters import Freedom, Parameters

DETERMINISTIC = [solver for solver in POSITION.values() if solver.deterministic() and solver.name != "multistep"]
every_solver = pytest.mark.parametrize("solver", DETERMINISTIC, ids=lambda s: s.name)
SETTINGS = TuningSettings(tuning=12, validation=12, held_out=12, micro_batch=8, reference_steps=64)


def mixture(path=None, seed=0):
    rng = np.random.default_rng(seed)
    axes = [np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(4)]
    covariances = np.array([a * np.geomspace(0.3, 0.001, 6) @ a.T for a in axes])
    return GaussianMixture(np.full(4, 0.25), rng.normal(size=(4, 6)) * 0.5, covariances, path or vp("linear"))


@every_solver
def test_unrolling_and_rolling_is_the_identity(solver):
    model = mixture()
    plan = compile_plan(build("karras", 5, model.path), solver.name, model)
    form = unrolled(plan.coefficients)
    assert (form.W.triu() == 0).all()
    again = Plan(plan.schedule, "custom", rolled(form))
    assert_allclose(sample(model, again, 5), sample(model, plan, 5), rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(form, unrolled(again.coefficients), strict=True):
        assert torch.equal(mine, theirs)


@every_solver
def test_the_sums_of_the_rows_are_the_signal(solver):
    """If the denoiser always said x0, the state would be alpha x0 + s eps."""
    form = unrolled(compile_plan(build("karras", 6, VE()), solver.name).coefficients)
    q = torch.cat([form.q, torch.zeros(1, dtype=torch.float64)])
    assert_allclose(form.W.sum(1), 1 / torch.sqrt(1 + q**2) - form.rho * 0 - (form.q[0] ** 2 + 1) ** -0.5 * (q / form.q[0])
                    * torch.sqrt((1 + form.q[0] ** 2) / (1 + q**2)), atol=1e-10)  # fmt: skip
    assert_allclose(form.rho, q / torch.sqrt(1 + q**2), atol=1e-10)


@pytest.mark.parametrize(
    "freedom",
    [
        Freedom(),
        Freedom(loss="l2"),
        Freedom(loss="robust", queries=True),
        Freedom(coefficients=True, loss="l2"),
        Freedom(queries=True, coefficients=True, sums="free", features=lambda x: torch.tanh(3 * x)),
    ],
    ids=["log", "l2", "queries", "coefficients", "all"],
)
@pytest.mark.parametrize(
    ("solver", "path"), [("euler", vp()), ("dpmpp2m", VE(0.01, 50.0)), ("heun", vp()), ("unipc", vp())]
)
def test_the_gradient_is_that_of_the_loss(freedom, solver, path):
    bench = Workbench(mixture(path), SETTINGS)
    start = build("log-uniform", 3, path, sigma_max=12.0, sigma_min=0.1)
    objective = _Objective(bench, Parameters(start, solver, (path.sigma_min, path.sigma_max), freedom))
    rng = np.random.default_rng(0)
    x, direction = 0.05 * rng.normal(size=(2, objective.size))
    _, gradient = objective(x)
    h = 1e-5
    numeric = (objective(x + h * direction)[0] - objective(x - h * direction)[0]) / (2 * h)
    assert_allclose(gradient @ direction, numeric, rtol=2e-4)
    for i in range(objective.size):
        assert gradient[i] != 0 or objective.parameters.freedom.coefficients  # a tied single correction does nothing


@pytest.mark.parametrize("path", [vp(), VE(0.01, 50.0), Flow(2.0)], ids=["vp", "ve", "flow"])
@pytest.mark.parametrize("steps", [1, 2, 5, 30])
def test_every_point_of_the_search_is_a_schedule(path, steps):
    start = build("uniform-trailing", steps, path)
    parameters = Parameters(start, "euler", (path.sigma_min, min(path.sigma_max, 1000.0)), Freedom())
    rng = np.random.default_rng(steps)
    for scale in (0, 1, 30, 1000):
        x = torch.from_numpy(scale * rng.normal(size=parameters.sizes[0]))
        made = Schedule(parameters.sigmas(x).numpy()).bound(path)
        assert made.steps == steps
        y = np.log(made.sigmas[:-1])
        assert steps == 1 or np.min(-np.diff(y)) > 0.4 * parameters.least * (parameters.high - parameters.low)
        if np.isinf(start.sigmas[0]):
            assert np.isinf(made.sigmas[0])


def test_zero_is_the_start():
    start = build("karras", 6, vp(), sigma_max=30.0, sigma_min=0.05)
    for freedom in (Freedom(), Freedom(queries=True), Freedom(coefficients=True, sums="free", queries=True)):
        parameters = Parameters(start, "dpmpp2m", (vp().sigma_min, vp().sigma_max), freedom)
        zero = torch.zeros(sum(parameters.sizes), dtype=torch.float64)
        assert_allclose(parameters.sigmas(zero), start.sigmas, rtol=1e-9)
        model = mixture()
        mine = run(parameters.table(zero), model, indices=range(3))
        theirs = run(compile_plan(start, "dpmpp2m", model).coefficients, model, indices=range(3))
        assert_allclose(mine, theirs, rtol=1e-7, atol=1e-9)


def test_the_levels_found_are_a_minimum():
    """Nelder-Mead, which needs no gradient, finds nothing better."""
    bench = Workbench(
        mixture(), TuningSettings(tuning=24, validation=24, held_out=8, micro_batch=24, reference_steps=24)
    )
    start = build("log-uniform", 4, bench.model.path, sigma_max=10.0, sigma_min=0.1)
    ends = bench.model.path.sigma_min, bench.model.path.sigma_max
    objective = _Objective(bench, Parameters(start, "euler", ends, Freedom()))
    found = minimize(objective, np.zeros(objective.size), jac=True, method="L-BFGS-B", options={"maxiter": 100})

    def value(y):
        return bench.score(bench.plan(Schedule(np.append(np.exp(np.sort(y)[::-1]), 0.0)), "euler"), "tuning")

    y = np.log(start.sigmas[:-1])
    assert_allclose(value(y), objective(np.zeros(objective.size))[0], rtol=1e-6)
    other = minimize(value, y, method="Nelder-Mead", options={"maxfev": 600})
    assert found.fun < value(y) - 0.1
    assert found.fun < other.fun + 0.005


def test_coefficients_gain_more_and_go_through_the_file(tmp_path):
    bench = Workbench(
        mixture(), TuningSettings(tuning=24, validation=8, held_out=48, micro_batch=24, reference_steps=24)
    )
    start = build("log-uniform", 4, bench.model.path, sigma_max=10.0, sigma_min=0.1)
    scores = {"start": bench.score(bench.plan(start, "euler"), "held_out")}
    for name, freedom in (
        ("levels", Freedom()),
        ("tied", Freedom(coefficients=True)),
        ("free", Freedom(coefficients=True, queries=True, sums="free")),
    ):
        plan = tune_by_gradient(bench, start, "euler", freedom=freedom)
        scores[name] = bench.score(plan, "held_out")
        plan.save(tmp_path / f"{name}.json")
        back = load_plan(tmp_path / f"{name}.json")
        assert torch.equal(sample(bench.model, back, 3), sample(bench.model, plan, 3))
        assert plan.calls == 4
    assert scores["levels"] < scores["start"] - 0.1
    assert scores["tied"] < scores["levels"] - 0.2
    assert scores["free"] < scores["levels"] - 0.2


@pytest.mark.parametrize("solver", ["euler", "dpmpp2m"])
def test_a_few_gradients_gain_from_wherever_rounding_starts_them(solver):
    """A first step of length 1 multiplied the error, the way back took the budget, and rounding decided about the gain."""
    settings = TuningSettings(tuning=24, validation=24, held_out=8, micro_batch=24, reference_steps=24)
    bench, freedom = Workbench(mixture(), settings), Freedom(coefficients=True, sums="free")
    start = build("log-uniform", 4, bench.model.path, sigma_max=10.0, sigma_min=0.1)
    rng, gains = np.random.default_rng(0), []
    for shake in (0.0, 1e-6, 1e-4):
        levels = Schedule(np.append(start.sigmas[:-1] * (1 + shake * rng.normal(size=4)), 0.0))
        paid = iter(range(3))
        limits = DescentLimits(affordable=lambda evaluations, paid=paid: next(paid, None) is not None)
        plan = tune_by_gradient(bench, levels, solver, freedom=freedom, limits=limits)
        gains.append(bench.score(bench.plan(levels, solver), "validation") - bench.score(plan, "validation"))
    assert min(gains) > 0.1
    assert max(gains) - min(gains) < 0.02


def test_starting_points_are_measured_one_by_one_until_one_is_no_better():
    """Points farther from the start are taken only over better ones, and those behind a worse one cost nothing."""
    bench, freedom = Workbench(mixture(), SETTINGS), Freedom(coefficients=True, sums="free")
    start = build("log-uniform", 4, bench.model.path, sigma_max=10.0, sigma_min=0.1)
    parameters = Parameters(
        start, "euler", (bench.model.path.sigma_min, min(bench.model.path.sigma_max, HIGHEST)), freedom
    )
    rng, size = np.random.default_rng(0), sum(parameters.sizes)

    def score(x):
        return bench.score(parameters.plan(torch.from_numpy(x), bench), "tuning")

    def begun(*points):
        """The point at which a search begins that may not take a single step."""
        limits = DescentLimits(affordable=lambda evaluations: False)
        plan = tune_by_gradient(bench, start, "euler", freedom=freedom, firsts=lambda _: points, limits=limits)
        return bench.score(plan, "tuning")

    origin = np.zeros(size)
    x = sorted([origin, *(0.1 * rng.normal(size=size) for _ in range(24))], key=score)
    middle = next(i for i, point in enumerate(x) if point is origin)
    assert 3 <= middle <= len(x) - 2  # some points are better than the start, and some are worse
    best, good, fair, worst = x[0], x[1], x[2], x[-1]
    assert begun() == begun(worst) == begun(worst, best) == score(origin)
    assert begun(fair, good, best) == score(best)
    assert begun(fair, worst, best) == begun(fair) == score(fair)
    assert begun(good, fair, best) == score(good)
    unmeasured = 0.01 * rng.normal(size=size)
    spent = bench.spent()
    assert begun(fair, worst, unmeasured) == score(fair)
    assert bench.spent() == spent


def test_tied_corrections_keep_constants():
    start = build("karras", 5, vp())
    parameters = Parameters(start, "dpmpp2m", (vp().sigma_min, vp().sigma_max), Freedom(coefficients=True))
    x = torch.from_numpy(np.random.default_rng(0).normal(size=sum(parameters.sizes)))
    x[: parameters.sizes[0]] = 0
    before = unrolled(SOLVERS["dpmpp2m"].build(parameters.sigmas(x)))
    after = unrolled(parameters.table(x))
    assert (before.W - after.W).abs().max() > 0.1
    assert_allclose(after.W.sum(1), before.W.sum(1), atol=1e-12)
    assert torch.equal(after.rho, before.rho)


def test_it_is_never_worse_than_the_start_on_validation():
    model = GaussianSpectrum(np.ones((4, 4)), (1, 4, 4), VE())
    bench = Workbench(model, SETTINGS)
    best = build("kl-optimal", 4, model.path)  # the exact optimum for white data with these ends
    plan = tune_by_gradient(bench, best, "euler", limits=DescentLimits(iterations=10))
    assert bench.score(plan, "validation") <= bench.score(bench.plan(best, "euler"), "validation")


def test_the_cost_is_what_the_network_did():
    counted = Counted(mixture())
    bench = Workbench(counted, SETTINGS)
    bench.reference("tuning")
    start = build("karras", 4, counted.path)
    objective = _Objective(bench, Parameters(start, "euler", (0.01, 100.0), Freedom()))
    before = counted.images
    objective(np.zeros(objective.size))
    # 12 rows are two micro-batches of 8; forward, and each backward counts as two more.
    assert counted.images - before == 16 * 4
    assert bench.spent("gradient") == 3 * (counted.images - before)


def test_what_cannot_be_tuned_is_refused():
    bench = Workbench(mixture(), SETTINGS)
    with pytest.raises(SigmaTuneError, match="adds noise"):
        tune_by_gradient(bench, build("karras", 4, bench.model.path), "ancestral")
    bench.model.integer_time = True
    with pytest.raises(SigmaTuneError, match="whole timesteps"):
        tune_by_gradient(bench, build("karras", 4, bench.model.path), "euler")
    with pytest.raises(SigmaTuneError, match="'tied' or 'free'"):
        Freedom(sums="loose")
    with pytest.raises(SigmaTuneError, match="can be unrolled"):
        unrolled(compile_plan(build("karras", 4, VE()), "ancestral").coefficients)


MEMORY = """
import torch, numpy
from sigmatune import load
from sigmatune.schedules import build
from sigmatune.tuning import TuningSettings, Workbench
from sigmatune.tuning import gradient
from sigmatune.tuning.gradient import _Objective
from sigmatune.tuning.parameters import Freedom, Parameters

gradient.KEPT = 2**24  # all calls' activations have more
torch.manual_seed(0)
layers = [torch.nn.Conv2d(1, 64, 3, padding=1), torch.nn.SiLU()]
for _ in range(3):
    layers += [torch.nn.Conv2d(64, 64, 1), torch.nn.SiLU()]
net = torch.nn.Sequential(*layers, torch.nn.Conv2d(64, 1, 3, padding=1)).requires_grad_(False)
model = load(lambda x, sigma: net(x / (1 + sigma.view(-1, 1, 1, 1))), shape=(1, 32, 32), sigma_min=0.01, sigma_max=50.0)
bench = Workbench(model, TuningSettings(tuning=8, validation=8, held_out=8, micro_batch=8, reference_steps=2))
bench.reference("tuning")


def status(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1])


def peak(steps):
    freedom = Freedom(coefficients=True)
    parameters = Parameters(build("karras", steps, model.path), "euler", (0.01, 50.0), freedom)
    objective = _Objective(bench, parameters)
    zeros = numpy.zeros(objective.size)
    open("/proc/self/clear_refs", "w").write("5")  # resets the peak
    before = status("VmRSS")
    objective._measured(zeros)
    return status("VmHWM") - before


peak(20)  # what is loaded and allocated once
print(peak(2), peak(20))
"""


# An allocator that gives back what is freed, so that the peak is what is needed at once.
EAGER = {
    **os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_memory_is_that_of_one_call():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, env=EAGER)
    few, many = (int(kib) / 1024 for kib in done.stdout.split())
    states = 20 * 3 * 8 * 32 * 32 * 4 / 2**20
    activation = 8 * 64 * 32 * 32 * 4 / 2**20
    assert few > 4 * activation  # the network's activations are what is measured
    assert many < 2.5 * few + states, (few, many)  # all steps at once would take ten times as much
